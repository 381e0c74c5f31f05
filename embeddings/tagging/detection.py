"""Detectors: encoders whose records say which objects a picture shows, and where.

    {"width": 640, "height": 480, "boxes": [{"label": "dog", "confidence": 0.9134, "box": [12.5, 40.0, 301.25, 477.5]}]}

Boxes are x0, y0, x1, y1 in pixels of the upright original, the surest first. A spec names one wherever encoders are
named: `detection:` and the canonical JSON of a `DetectorSpec`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from embeddings.batching import BatchLimits
from embeddings.preprocess.boxed import BoxedPreprocessConfig, BoxedPreprocessor, Size, original_size
from embeddings.preprocess.features import Features
from embeddings.tagging.overlap import suppressed
from embeddings.tagging.records import RecordEncoder, record_space
from embeddings.tagging.taxonomy import Taxonomy
from recsys.config import Config
from recsys.errors import ConfigError
from recsys.manifest import canonical_json
from recsys.tagging_config import DetectionConfig

PREFIX, ONNX, TRANSFORMERS = "detection:", "onnx:", "transformers:"


class DetectorSpec(Config):
    """What a spec says behind `detection:`.

    Attributes:
        model: `onnx:<YOLOX file>` or `transformers:<name or folder>`.
        labels: of an ONNX file's classes, in their order; none: COCO's 80.
        prompts: tag → phrases that mean it, for detectors that find what a text names.
        min_confidence, max_overlap, max_objects: as in `DetectionConfig`.
    """

    model: str
    labels: tuple[str, ...] = ()
    prompts: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    min_confidence: float = 0.25
    max_overlap: float = 0.45
    max_objects: int = 50


@dataclass(frozen=True)
class Found:
    """`K` objects of one picture, before the weak and the doubled ones are left out.

    Attributes:
        boxes: float [K, 4], corners on the canvas.
        scores: float [K] in [0, 1].
        labels: int [K], places among the detector's labels.
    """

    boxes: NDArray[np.floating]
    scores: NDArray[np.floating]
    labels: NDArray[np.integer]


class Detector(RecordEncoder):
    """What all detectors share: everything but the model.

    Attributes:
        labels: what it may find.
        labels_are_tags: its labels are the taxonomy's tags, whose prompts it was given.
    """

    def __init__(
        self,
        name: str,
        weights_sha256: str,
        preprocessing: BoxedPreprocessConfig,
        spec: DetectorSpec,
        labels: Sequence[str],
        *,
        compute: str,
        limits: BatchLimits,
        parallel: int = 1,
        labels_are_tags: bool = False,
    ) -> None:
        self.labels = tuple(labels)
        self.labels_are_tags = labels_are_tags
        self._spec = spec
        self._preprocessing = preprocessing
        # Where the file lies is none of the records' business, and prompts only where they are read.
        settings = spec.model_copy(
            update={"model": "", "labels": self.labels, "prompts": spec.prompts if labels_are_tags else {}}
        )
        space = record_space(f"detection:{name}", "image", weights_sha256, preprocessing, settings)
        super().__init__(space, BoxedPreprocessor(preprocessing), compute=compute, limits=limits)
        self.parallel = parallel

    @abstractmethod
    def found(self, features: Sequence[Features]) -> list[Found]:
        """The objects of each of `B` pictures whose features are of one shape."""

    def records(self, features: Sequence[Features]) -> list[dict[str, Any]]:
        """Pictures of one shape go through the model together: none is padded to another, nor changed by it."""
        shapes: dict[tuple[int, ...], list[int]] = {}
        for place, each in enumerate(features):
            shapes.setdefault(each.shape, []).append(place)
        records: list[dict[str, Any]] = [{}] * len(features)
        for places in shapes.values():
            for place, found in zip(places, self.found([features[place] for place in places]), strict=True):
                records[place] = self._record(found, original_size(features[place]))
        return records

    def _record(self, found: Found, size: Size) -> dict[str, Any]:
        sure = found.scores >= self._spec.min_confidence
        boxes, scores, labels = found.boxes[sure].astype(np.float64), found.scores[sure], found.labels[sure]
        limits = {"max_overlap": self._spec.max_overlap, "most": self._spec.max_objects}
        kept = suppressed(boxes, scores, labels, **limits)  # type: ignore[arg-type]  # each of its own type
        corners = self._preprocessing.original(boxes[kept], size).round(2)
        objects = [
            {"label": self.labels[labels[place]], "confidence": round(float(scores[place]), 4), "box": box.tolist()}
            for place, box in zip(kept, corners, strict=True)
            if box[0] < box[2] and box[1] < box[3]
        ]
        objects.sort(key=lambda each: (-each["confidence"], each["label"], each["box"]))
        return {"width": size[0], "height": size[1], "boxes": objects}


def detection_spec(config: DetectionConfig, taxonomy: Taxonomy | None = None, *, folder: Path = Path()) -> str:
    """The spec of the detector that `[tagging.detection]` names, for `load_encoders`.

    Args:
        taxonomy: gives detectors that find what a text names their prompts.
        folder: what relative paths begin at.

    Raises:
        ConfigError: no detector is named, or the file of labels cannot be read.
    """
    if not config.model.startswith((ONNX, TRANSFORMERS)):
        raise ConfigError(f"[tagging.detection] model is {config.model!r}: write onnx:<file> or transformers:<name>")
    kind, _, name = config.model.partition(":")
    path = folder / name
    spec = DetectorSpec(
        model=f"{kind}:{path.resolve() if kind == 'onnx' or path.exists() else name}",
        labels=_labels_in(folder / config.labels) if config.labels else (),
        prompts=_prompts(taxonomy) if taxonomy is not None and kind == "transformers" else {},
        min_confidence=config.min_confidence,
        max_overlap=config.max_overlap,
        max_objects=config.max_objects,
    )
    return PREFIX + canonical_json(spec.model_dump(mode="json"))


def load_detector(spec: str, *, device: str = "cpu", threads: int = 1) -> Detector:
    """The detector of a `detection:` spec.

    Args:
        threads: batches computed at once on a CPU, each by one core.

    Raises:
        ConfigError: the spec is none, or the model is of a kind that is not built here.
        MissingArtifact, CorruptArtifact: the ONNX file is not there or cannot be used.
        WeightsUnavailable: no folder, no cache and no hub has the model.
    """
    try:
        parsed = DetectorSpec.model_validate_json(spec.removeprefix(PREFIX))
    except ValidationError as error:
        raise ConfigError(f"{spec} is no detector: detection_spec writes one ({error})") from None
    if parsed.model.startswith(ONNX):
        from embeddings.tagging.yolox import load_yolox

        return load_yolox(parsed, threads=threads)
    if parsed.model.startswith(TRANSFORMERS):
        from embeddings.tagging.detection_transformers import load_transformers_detector

        return load_transformers_detector(parsed, device=device, threads=threads)
    raise ConfigError(f"unknown detector {parsed.model!r}: write onnx:<file> or transformers:<name or folder>")


def _labels_in(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the labels {path} cannot be read ({error}): one label a line, as UTF-8") from None
    return tuple(line.strip() for line in lines if line.strip())


def _prompts(taxonomy: Taxonomy) -> dict[str, tuple[str, ...]]:
    tags = taxonomy.for_head("detection")
    return {tag: taxonomy.tags[tag].prompts or (taxonomy.name(tag),) for tag in tags}
