"""Tags of sounds: YAMNet's vectors and labels on ESC-10, through the embedding job with isolated decoding.

Letters: N clips, D width of a vector, C classes.
"""

from __future__ import annotations

import csv
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embeddings.embed import EmbedOptions, embed_items
from embeddings.registry import load_encoders
from embeddings.sources.reader import open_reader
from embeddings.stored import gather
from embeddings.tagging.audio_heads import audio_classifier_head
from embeddings.tagging.calibrated import calibrate_on
from embeddings.tagging.heads import Vectors
from embeddings.tagging.labels import Labels
from embeddings.tagging.taxonomy import load_taxonomy
from embeddings.tagging.thresholds import wilson
from embeddings.tagging.training import TrainingSet, fit
from embeddings.tflite_encoder import TfliteEncoder
from recsys.quarantine import QUARANTINE_SCHEMA
from recsys.sources_config import SourcesConfig
from recsys.tagging_config import TaggingConfig, TagTrainingConfig

Row = dict[str, Any]
Floats = NDArray[np.float32]
TAXONOMY = Path(__file__).with_name("esc10.toml")
BAR = 0.90
TOP = 10


@dataclass(frozen=True)
class Clips:
    """The labelled clips, and their vectors float32 [N, D]."""

    folder: Path
    files: list[str]
    labels: NDArray[np.str_]
    folds: NDArray[np.str_]
    vectors: Floats

    @property
    def as_stored(self) -> Vectors:
        return {"audio": (self.vectors, np.ones(len(self.files), np.bool_))}


def figures(data: Path, models: Path) -> list[Row]:
    """Rows of the table.

    Args:
        data: holds `tagging/audio`.
        models: holds `yamnet.tflite`.
    """
    spec = f"tflite:{models / 'yamnet.tflite'}"
    encoder = load_encoders("none", "none", spec, device="cpu", threads=2).audio
    assert isinstance(encoder, TfliteEncoder)
    clips = _embedded(data / "tagging" / "audio", encoder)
    return [
        _trained(clips),
        _zero_shot(clips, spec),
        *_calibrated(clips, spec),
        *_agreement(clips, spec, encoder, models / "yamnet.tflite"),
    ]


def _embedded(folder: Path, encoder: TfliteEncoder) -> Clips:
    with (folder / "labels.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    files = [row["file"] for row in rows]
    with tempfile.TemporaryDirectory() as scratch:
        store = Path(scratch) / "store"
        reader = open_reader(SourcesConfig(), items_folder=folder, image_root="", cache_folder=Path(scratch) / "cache")
        items = ((file, reader.reference_for(file, file, "audio")) for file in files)
        report = embed_items(items, encoder, store, reader=reader, options=EmbedOptions(decode_workers=2))
        reader.close()
        vectors, present = gather(store, encoder.space, [report.content_hashes.get(file) for file in files])
    if not present.all():
        raise RuntimeError(f"{len(report.rejected)} clips were refused, as {report.rejected[:1]}")
    return Clips(folder, files, *(np.array([row[name] for row in rows]) for name in ("label", "fold")), vectors)


def _trained(clips: Clips) -> Row:
    """Each fold by a head that was trained on the other two."""
    classes, y = np.unique(clips.labels, return_inverse=True)
    right = np.zeros(len(y), np.bool_)
    for fold in np.unique(clips.folds):
        held_out = clips.folds == fold
        x, said = clips.vectors[~held_out], np.eye(len(classes), dtype=np.float32)[y[~held_out]]
        there = np.ones(len(x), np.bool_)
        data = TrainingSet({"audio": (x, there)}, said, np.ones(said.shape, np.bool_), exclusive=True)
        weights = fit(data, TagTrainingConfig(), seed=0).weights
        logits = clips.vectors[held_out] @ weights["project.audio"] + weights["bias"]
        right[held_out] = logits.argmax(axis=1) == y[held_out]
    by_fold = ", ".join(f"{right[clips.folds == fold].mean():.3f}" for fold in np.unique(clips.folds))
    return _share("audio: ESC-10, trained head on YAMNet's vectors, accuracy", right, BAR, f"by fold {by_fold}")


def _zero_shot(clips: Clips, spec: str) -> Row:
    head = audio_classifier_head(spec, load_taxonomy(TAXONOMY))
    tags = np.array(head.spec.tags)
    found = tags[head.confidences(clips.as_stored).argmax(axis=1)]
    right = found == clips.labels
    weakest = min(tags, key=lambda tag: right[clips.labels == tag].mean())
    note = f"no clip was learned from; weakest {weakest} {right[clips.labels == weakest].mean():.2f}"
    return _share("audio: ESC-10, YAMNet's own labels by the taxonomy, accuracy", right, None, note)


def _calibrated(clips: Clips, spec: str) -> list[Row]:
    """Calibration error of YAMNet's own labels, before and after `recsys tag calibrate`, on clips held out."""
    taxonomy = load_taxonomy(TAXONOMY)
    head = audio_classifier_head(spec, taxonomy)
    said = (clips.labels[:, None] == np.array(head.spec.tags)[None, :]).astype(np.float32)
    known = np.ones(said.shape, np.bool_)
    labels = Labels(tuple(clips.files), said, known, head.spec.tags, QUARANTINE_SCHEMA.empty_table())
    folds = dict(zip(clips.files, clips.folds.astype(int).tolist(), strict=True))  # clips of one recording share one
    found = calibrate_on(head, clips.as_stored, clips.files, labels, taxonomy, TaggingConfig(), folds=folds).evaluation
    before, after = (found["reliability"][when]["ece"] for when in ("before", "after"))
    method = found["calibration"]["method"]
    name = "audio: calibration error of YAMNet's own labels"
    return [
        _row(f"{name}, before", before, note=f"{len(clips.files)} clips, {len(head.spec.tags)} tags"),
        _row(f"{name}, after", after, bar=before / 2, at_least=False, note=f"{method}, on folds held out"),
    ]


def _agreement(clips: Clips, spec: str, encoder: TfliteEncoder, file: Path) -> list[Row]:
    """The head on stored means of vectors, beside the whole model's scores frame by frame, averaged.

    The model's scores are rounded to 1/256: any of the labels that share the highest one counts as its first.
    """
    own = _own_scores(clips, encoder, file)
    logits = audio_classifier_head(spec, None).logits(clips.as_stored)
    first = own[np.arange(len(own)), logits.argmax(axis=1)] >= own.max(axis=1)
    best_of_ours, best_of_its = (np.argsort(-each, axis=1, kind="stable")[:, :TOP] for each in (logits, own))
    shared = [len(set(ours) & set(its)) / TOP for ours, its in zip(best_of_ours, best_of_its, strict=True)]
    note = "of 521; the model's frame scores, averaged over a clip, are rounded to 1/256"
    return [
        _share("audio: the head's first label is the model's own", first, None, note),
        _row(f"audio: share of the model's own first {TOP} labels", float(np.mean(shared)), note=note),
    ]


def _own_scores(clips: Clips, encoder: TfliteEncoder, file: Path) -> Floats:
    """float32 [N, 521]."""
    from ai_edge_litert.interpreter import Interpreter

    whole = Interpreter(model_path=str(file), num_threads=1)
    whole.allocate_tensors()
    into, out = whole.get_input_details()[0]["index"], whole.get_output_details()[0]["index"]
    means = []
    for name in clips.files:
        scores = []
        for frame in encoder.preprocess((clips.folder / name).read_bytes()):
            whole.set_tensor(into, frame)
            whole.invoke()
            scores.append(whole.get_tensor(out)[0].copy())
        means.append(np.mean(scores, axis=0))
    return np.stack(means)


def _share(what: str, right: NDArray[np.bool_], bar: float | None, note: str) -> Row:
    low, high = wilson(int(right.sum()), len(right))
    return _row(what, float(right.mean()), low=low, high=high, bar=bar, note=f"{len(right)} clips; {note}")


def _row(
    what: str,
    value: float,
    *,
    low: float | None = None,
    high: float | None = None,
    bar: float | None = None,
    at_least: bool = True,
    note: str,
) -> Row:
    return {"what": what, "value": value, "low": low, "high": high, "bar": bar, "at_least": at_least, "note": note}
