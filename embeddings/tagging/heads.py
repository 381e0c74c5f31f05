"""A head: content vectors → tags with calibrated confidences. One format for all of them, in numpy alone.

Zero-shot heads, the classifiers that models bring along, trained heads and fusion of several modalities differ in
where their weights come from, and not in what they are:

    x_m: the vectors as they are, or each brought to mean 0 and variance 1 ("standardised")
    h = sum over m of g_m * (x_m P_m + b_m)         x_m float32 [N, D_m], P_m [D_m, H], b_m [H]
        "concat": g_m = 1 where x_m is there, else the row absent_m [H] stands for the term
        "gated":  g = softmax over the m that are there of (x_m . gate_m + gate_bias_m)
    logits = h, or relu(h) W + c                    W [H, L], c [L]
    raw = softmax or sigmoid(logits / temperature)  over L labels
    tags: the sum (softmax) or the largest (sigmoid) of the labels that mean a tag, then the calibration by tag

Letters: N items, M modalities, D_m width of one, H hidden or L, L labels, C tags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError
from safetensors.numpy import load_file, save_file

from embeddings.tagging.calibration import NO_CALIBRATION, Calibration
from recsys.config import Config
from recsys.errors import CorruptArtifact, MissingArtifact, SpaceMismatch
from recsys.manifest import EmbeddingSpace, canonical_json, fingerprint, sha256_bytes

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Vectors = Mapping[str, tuple[Floats, Mask]]
"""modality → (float32 [N, D_m], bool [N] present)."""

HEAD_JSON, WEIGHTS = "head.json", "weights.safetensors"
CHUNK = 4096


class Threshold(Config):
    """When a tag counts.

    Attributes:
        yes: from this confidence on; above 1 = never.
        unsure: from this one on it is unsure; `yes` = no abstention.
    """

    yes: float
    unsure: float


class HeadSpec(Config):
    """`head.json`.

    Attributes:
        name: image, audio, text, fusion.
        model: what people should know it by, as `classifier of bundled:tf_efficientnet_lite2`.
        origin: where its weights come from.
        spaces: modality → the embedding space that it reads.
        labels: `L`, what its logits are about; for trained and zero-shot heads the tags themselves.
        tags: `C` tag ids.
        labels_of: tag → its places among `labels`.
        standardised: modalities whose vectors are first brought to mean 0 and variance 1 each, as layer normalisation
            does (Ba et al., 2016).
        fusion: how modalities come together.
        activation: softmax where the labels exclude each other.
        thresholds: by tag.
        metrics: figures of its training, for reports.
    """

    name: str
    model: str
    origin: Literal["classifier", "zero_shot", "trained"]
    spaces: dict[str, EmbeddingSpace]
    labels: tuple[str, ...]
    tags: tuple[str, ...]
    labels_of: dict[str, tuple[int, ...]]
    standardised: tuple[str, ...] = ()
    fusion: Literal["concat", "gated"] = "concat"
    activation: Literal["softmax", "sigmoid"] = "sigmoid"
    calibration: Calibration = NO_CALIBRATION
    thresholds: dict[str, Threshold]
    metrics: dict[str, object] = Field(default_factory=dict)


@dataclass(frozen=True)
class Head:
    """A head, ready.

    Attributes:
        weights: `project.<m>` [D_m, H], `bias` [H], and where they apply `absent.<m>` [H], `gate.<m>` [D_m],
            `gate_bias.<m>` [1], `out` [H, L], `out_bias` [L]; all float32. In "gated" fusion `bias.<m>` [H] in place of
            `bias`.
    """

    spec: HeadSpec
    weights: Mapping[str, Floats]

    @property
    def version(self) -> str:
        """Fingerprint of all that decides its verdicts."""
        sums = {name: sha256_bytes(np.ascontiguousarray(each).tobytes()) for name, each in self.weights.items()}
        return fingerprint({"spec": self.spec.model_dump(mode="json", exclude={"metrics"}), "weights": sums})

    def logits(self, vectors: Vectors) -> Floats:
        """float32 [N, L]; of items without any of the head's modalities they mean nothing (see `present`)."""
        hidden = self._gated(vectors) if self.spec.fusion == "gated" else self._side_by_side(vectors)
        if "out" not in self.weights:
            return hidden
        out: Floats = np.maximum(hidden, 0) @ self.weights["out"] + self.weights["out_bias"]
        return out

    def confidences(self, vectors: Vectors) -> Floats:
        """float32 [N, C], calibrated; NaN for items without any of the head's modalities."""
        n = len(next(iter(vectors.values()))[1])
        out = np.empty((n, len(self.spec.tags)), np.float32)
        for start in range(0, n, CHUNK):
            rows = slice(start, start + CHUNK)
            part = {name: (each[rows], present[rows]) for name, (each, present) in vectors.items()}
            raw = self.raw_of_logits(self.logits(part))
            out[rows] = self.spec.calibration.of_tags(raw, self.spec.tags)
        out[~self.present(vectors)] = np.nan
        return out

    def raw_of_logits(self, logits: Floats) -> Floats:
        """float32 [N, C]: confidences before the calibration by tag."""
        scaled = logits / np.float32(self.spec.calibration.temperature)
        of_labels = _softmax(scaled) if self.spec.activation == "softmax" else _sigmoid(scaled)
        places = [list(self.spec.labels_of[tag]) for tag in self.spec.tags]
        columns = [
            of_labels[:, at].sum(axis=1) if self.spec.activation == "softmax" else of_labels[:, at].max(axis=1)
            for at in places
        ]
        return np.stack(columns, axis=1).astype(np.float32) if columns else np.empty((len(logits), 0), np.float32)

    def present(self, vectors: Vectors) -> Mask:
        """bool [N]: has any of the modalities that the head reads."""
        some: Mask = np.any([vectors[name][1] for name in self.spec.spaces], axis=0)
        return some

    def require(self, spaces: Mapping[str, EmbeddingSpace]) -> None:
        """Raises SpaceMismatch: the vectors at hand are of other spaces than those it was made for."""
        for name, space in self.spec.spaces.items():
            if name not in spaces:
                raise SpaceMismatch(
                    f"the {self.spec.name} head reads {name}, and there are no such vectors: embed them"
                )
            space.require(spaces[name])

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: np.ascontiguousarray(each) for name, each in self.weights.items()}, folder / WEIGHTS)
        (folder / HEAD_JSON).write_text(canonical_json(self.spec.model_dump(mode="json")), encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> Head:
        """Raises MissingArtifact or CorruptArtifact."""
        try:
            spec = HeadSpec.model_validate_json((folder / HEAD_JSON).read_bytes())
            return Head(spec, load_file(folder / WEIGHTS))
        except FileNotFoundError:
            raise MissingArtifact(f"{folder} holds no head: run `recsys tag train`") from None
        except (ValidationError, ValueError, OSError) as error:
            raise CorruptArtifact(f"the head in {folder} cannot be read ({error}): run `recsys tag train`") from None

    def _read(self, vectors: Vectors, name: str) -> tuple[Floats, Mask]:
        x, present = vectors[name]
        if name in self.spec.standardised:
            x = x - x.mean(axis=1, keepdims=True)
            x = x / np.maximum(x.std(axis=1, keepdims=True), np.float32(1e-12))
        return x, present

    def _side_by_side(self, vectors: Vectors) -> Floats:
        total: Floats | None = None
        for name in self.spec.spaces:
            x, present = self._read(vectors, name)
            term = x @ self.weights[f"project.{name}"]
            absent = self.weights.get(f"absent.{name}", np.zeros(term.shape[1], np.float32))
            term = np.where(present[:, None], term, absent)
            total = term if total is None else total + term
        assert total is not None
        return total + self.weights["bias"]

    def _gated(self, vectors: Vectors) -> Floats:
        terms, scores = [], []
        for name in self.spec.spaces:
            x, present = self._read(vectors, name)
            terms.append(x @ self.weights[f"project.{name}"] + self.weights[f"bias.{name}"])
            score = x @ self.weights[f"gate.{name}"] + self.weights[f"gate_bias.{name}"]
            scores.append(np.where(present, score, -np.inf))
        gates = _softmax(np.stack(scores, axis=1))
        total: Floats = np.einsum("nm,mnh->nh", gates, np.stack(terms))
        return total


def label_head(
    name: str,
    modality: str,
    space: EmbeddingSpace,
    weights: Floats,
    bias: Floats,
    *,
    model: str,
    origin: Literal["classifier", "zero_shot"],
    labels: Sequence[str],
    labels_of: Mapping[str, Sequence[int]],
    activation: Literal["softmax", "sigmoid"],
    thresholds: Mapping[str, Threshold],
    standardised: bool = False,
) -> Head:
    """A linear head of one modality: weights float32 [D, L], bias [L]."""
    spec = HeadSpec(
        name=name,
        model=model,
        origin=origin,
        spaces={modality: space},
        labels=tuple(labels),
        tags=tuple(labels_of),
        labels_of={tag: tuple(places) for tag, places in labels_of.items()},
        standardised=(modality,) if standardised else (),
        activation=activation,
        thresholds=dict(thresholds),
    )
    return Head(spec, {f"project.{modality}": weights.astype(np.float32), "bias": bias.astype(np.float32)})


def _softmax(x: Floats) -> Floats:
    """Over the last axis; 0 everywhere where all are -inf."""
    with np.errstate(invalid="ignore"):
        shifted = np.exp(x - x.max(axis=-1, keepdims=True))
    shifted = np.nan_to_num(shifted)
    total: Floats = shifted / np.maximum(shifted.sum(axis=-1, keepdims=True), 1e-30)
    return total


def _sigmoid(x: Floats) -> Floats:
    with np.errstate(over="ignore"):
        out: Floats = np.reciprocal(1 + np.exp(-x), dtype=np.float32)
    return out
