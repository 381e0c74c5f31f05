"""YOLOX-nano on five photographs of COCO: which of the objects that people marked it finds, however they were held."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from embeddings.tagging.coco import COCO_LABELS
from embeddings.tagging.detection import Detector, detection_spec, load_detector
from embeddings.tagging.overlap import overlap
from embeddings.tagging.thresholds import wilson
from recsys.tagging_config import DetectionConfig

WEIGHTS = "yolox_nano.onnx"
MIN_SHARE, MIN_OVERLAP, RECALL, MAX_SHIFT = 0.05, 0.5, 0.6, 0.02
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Marked:
    """An object that people marked.

    Attributes:
        share: of the picture's area.
        box: x0, y0, x1, y1 in pixels.
    """

    file: str
    label: str
    share: float
    box: np.ndarray

    def found(self, record: Record) -> Record | None:
        """The object of its class that lies on it best, if it overlaps enough."""
        same = [each for each in record["boxes"] if each["label"] == self.label]
        best = max(same, key=lambda each: self.overlap(each), default=None)
        return best if best is not None and self.overlap(best) >= MIN_OVERLAP else None

    def overlap(self, each: Record) -> float:
        return float(overlap(self.box, np.array([each["box"]]))[0])

    def __str__(self) -> str:
        return f"{self.label} of {self.file} ({self.share:.0%} of it)"


def figures(data: Path, models: Path) -> list[dict[str, Any]]:
    """The part's figures; `data` and `models` are the optional folders beside the project.

    Each: `what`, `value` (None where it was not measured), `low` and `high` (its interval), `bar`, `at_least` (whether
    the bar is a least or a most) and `note`.
    """
    folder, weights = data / "tagging" / "detection", models / WEIGHTS
    what = "detection: recall of objects over 5 % of the picture, IoU .5"
    if not folder.is_dir() or not weights.is_file():
        return [_figure(what, None, bar=RECALL, note="no photographs or no weights are at hand (../shared)")]
    detector = load_detector(detection_spec(DetectionConfig(model=f"onnx:{weights}")))
    marked = list(_marked(folder))
    contents = {path.name: path.read_bytes() for path in sorted(folder.glob("*.jpg"))}
    straight = {name: _record(detector, content) for name, content in contents.items()}
    hits = found_of(marked, straight)
    rows = [_share(what, len(hits), len(marked), RECALL, _missed(marked, hits))]
    return [*rows, *_turned(detector, contents, straight, marked, hits)]


def found_of(marked: list[Marked], records: Mapping[str, Record]) -> list[Marked]:
    """Those that are found; what a detector saw once stands for one object, the one that it lies on best."""
    pairs = [
        (each.overlap(seen), at, (each.file, place))
        for at, each in enumerate(marked)
        for place, seen in enumerate(records[each.file]["boxes"])
        if seen["label"] == each.label and each.overlap(seen) >= MIN_OVERLAP
    ]
    found: set[int] = set()
    taken: set[tuple[str, int]] = set()
    for _, at, place in sorted(pairs, key=lambda pair: -pair[0]):
        if at not in found and place not in taken:
            found.add(at)
            taken.add(place)
    return [marked[at] for at in sorted(found)]


def _turned(
    detector: Detector,
    contents: Mapping[str, bytes],
    straight: Mapping[str, Record],
    marked: list[Marked],
    hits: list[Marked],
) -> Iterator[dict[str, Any]]:
    """The same on copies that say by their EXIF orientation how they were held."""
    n_found = 0
    shifts: dict[str, list[float]] = {"PNG": [], "JPEG": []}
    for orientation in _TURNS:
        for image_format, apart in shifts.items():
            records = {
                name: _record(detector, turned(each, orientation, image_format)) for name, each in contents.items()
            }
            n_found += len(found_of(marked, records)) if image_format == "JPEG" else 0
            apart += [_shift(each, straight[each.file], records[each.file]) for each in hits]
    what = "detection: the same on copies held in the 7 other EXIF orientations, saved as JPEG once more"
    n = len(_TURNS) * len(marked)
    yield _figure(what, n_found / n, bar=RECALL, note=f"{n_found} of {n}; the same objects {len(_TURNS)} times")
    for image_format, note in (("PNG", "the same pixels"), ("JPEG", "compressed once more, which moves pixels")):
        what = f"detection: how far a box moves on such copies, of the picture's longest side ({image_format})"
        apart = shifts[image_format] or [math.nan]
        yield _figure(what, max(apart), bar=MAX_SHIFT, at_least=False, note=f"{note}; mean {np.mean(apart):.4f}")


def turned(content: bytes, orientation: int, image_format: str) -> bytes:
    """The file that a camera held that way would have written: people still see the same picture."""
    image = Image.open(io.BytesIO(content)).convert("RGB").transpose(_TURNS[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    options: dict[str, Any] = {"quality": 95} if image_format == "JPEG" else {"compress_level": 1}
    image.save(buffer, image_format, exif=exif, **options)
    return buffer.getvalue()


def _marked(folder: Path) -> Iterator[Marked]:
    for line in (folder / "annotations.jsonl").read_text(encoding="utf-8").splitlines():
        picture = json.loads(line)
        with Image.open(folder / picture["file"]) as image:
            area = image.width * image.height
        for each in picture["boxes"]:
            x, y, width, height = each["xywh"]
            share = width * height / area
            if each["label"] in COCO_LABELS and share > MIN_SHARE:
                yield Marked(picture["file"], each["label"], share, np.array([x, y, x + width, y + height]))


def _record(detector: Detector, content: bytes) -> Record:
    return detector.records([detector.preprocess(content)])[0]


def _shift(each: Marked, straight: Record, held: Record) -> float:
    """By how much of the longest side the box of an object moved; the whole of it where it is not found any more."""
    before, after = each.found(straight), each.found(held)
    if before is None or after is None:
        return 1.0
    moved = np.abs(np.array(before["box"]) - np.array(after["box"])).max()
    return float(moved / max(straight["width"], straight["height"]))


def _missed(marked: list[Marked], hits: list[Marked]) -> str:
    missed = [str(each) for each in marked if not any(each is hit for hit in hits)]
    return f"missed: {', '.join(missed)}" if missed else "none is missed"


def _share(what: str, n_good: int, n: int, bar: float, note: str) -> dict[str, Any]:
    low, high = wilson(n_good, n)
    return _figure(what, n_good / n, low=low, high=high, bar=bar, note=f"{n_good} of {n}; {note}")


def _figure(
    what: str,
    value: float | None,
    *,
    bar: float,
    note: str,
    low: float | None = None,
    high: float | None = None,
    at_least: bool = True,
) -> dict[str, Any]:
    return {"what": what, "value": value, "low": low, "high": high, "bar": bar, "at_least": at_least, "note": note}
