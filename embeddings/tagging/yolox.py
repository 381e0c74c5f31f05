"""Any YOLOX-style ONNX file (Ge et al., "YOLOX: Exceeding YOLO Series in 2021"), as its exporters write them.

Input [B, 3, H, W], B, G, R in levels 0 to 255, letterboxed on grey 114. Output [B, A, 5 + C]: for each cell of grids of
strides 8, 16, 32 (and 64) a box, whether anything is there, and the classes. Some files hold boxes decoded already, or
scores before the sigmoid; a look at an empty picture tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embeddings.batching import BatchLimits
from embeddings.onnx_encoder import open_session
from embeddings.preprocess.boxed import BoxedPreprocessConfig
from embeddings.preprocess.features import Features
from embeddings.tagging.coco import COCO_LABELS
from embeddings.tagging.detection import ONNX, Detector, DetectorSpec, Found
from recsys.errors import ConfigError, MissingArtifact
from recsys.manifest import sha256_file

GREY = 114
_STRIDES = ((8, 16, 32), (8, 16, 32, 64))
_BATCH = 4  # on a CPU more at once are no faster
Floats = NDArray[np.float32]


def load_yolox(spec: DetectorSpec, *, threads: int = 1) -> YoloxDetector:
    """Raises MissingArtifact, CorruptArtifact, or ConfigError: it is not shaped like a YOLOX detector."""
    path = Path(spec.model.removeprefix(ONNX))
    if not path.is_file():
        raise MissingArtifact(f"{path} is not there: name the ONNX file of a YOLOX detector")
    session = open_session(path, 1)
    return YoloxDetector(session, sha256_file(path), spec, threads=threads)


class YoloxDetector(Detector):
    """A YOLOX in ONNX Runtime. Its session may be called from many threads."""

    def __init__(self, session: Any, weights_sha256: str, spec: DetectorSpec, *, threads: int = 1) -> None:
        self._session = session
        self._input, batch, height, width = _input_of(session)
        self._batch = batch
        self._grid, self._strides = _cells(width, height, _n_cells(self._run(_empty(1, height, width))))
        empty = self._run(_empty(1, height, width))[0]
        # Centres that are decoded follow the grid; what is not stays within a few cells of 0.
        self._is_decoded = float(np.abs(empty[:, 0] - self._grid[:, 0] * self._strides[:, 0]).mean()) < width / 8
        self._is_probability = bool((empty[:, 4:] >= 0).all() and (empty[:, 4:] <= 1).all())
        labels = spec.labels or COCO_LABELS
        if len(labels) != empty.shape[1] - 5:
            raise ConfigError(
                f"the detector has {empty.shape[1] - 5} classes and {len(labels)} labels are given: "
                "name its own in [tagging.detection] labels, a file with one a line"
            )
        preprocessing = BoxedPreprocessConfig(
            fit="letterbox",
            width=width,
            height=height,
            interpolation="sampled",
            channels="bgr",
            pad_level=GREY,
            std=(1 / 255,) * 3,
        )
        super().__init__(
            "yolox",
            weights_sha256,
            preprocessing,
            spec,
            labels,
            compute="onnxruntime-fp32",
            limits=BatchLimits(max_items=batch or _BATCH),
            parallel=threads,
        )

    def found(self, features: Sequence[Features]) -> list[Found]:
        pixels = self.preprocessor.collate(features)["pixels"]
        images = np.ascontiguousarray(pixels[..., ::-1].transpose(0, 3, 1, 2), np.float32)
        return [self._objects(each) for each in self._run(images)]

    def _objects(self, output: Floats) -> Found:
        """float32 [A, 5 + C] of one picture → its cells with the best class of each."""
        centre, size, scores = output[:, :2], output[:, 2:4], output[:, 4:]
        if not self._is_decoded:
            centre = (centre + self._grid) * self._strides
            size = np.exp(size) * self._strides
        if not self._is_probability:
            scores = np.reciprocal(1 + np.exp(-scores))
        labels = scores[:, 1:].argmax(axis=1)
        best = scores[:, 0] * scores[:, 1:].max(axis=1)
        return Found(np.concatenate([centre - size / 2, centre + size / 2], axis=1), best, labels)

    def _run(self, images: Floats) -> Floats:
        """[B, 3, H, W] → [B, A, 5 + C], in batches as the graph takes them."""
        step = self._batch or len(images)
        parts = []
        for start in range(0, len(images), step):
            part = images[start : start + step]
            missing = self._batch - len(part) if self._batch else 0
            if missing:
                part = np.concatenate([part, _empty(missing, *images.shape[2:])])
            output = self._session.run(None, {self._input: part})[0]
            parts.append(output[: len(output) - missing])
        return np.concatenate(parts)


def _input_of(session: Any) -> tuple[str, int, int, int]:
    """(name, batch, height, width); batch 0 where the graph takes any."""
    inputs = session.get_inputs()
    shape = inputs[0].shape if len(inputs) == 1 else []
    if len(shape) != 4 or shape[1] != 3 or not all(isinstance(edge, int) for edge in shape[2:]):
        raise ConfigError(f"a YOLOX detector takes one input [B, 3, H, W] of fixed H and W, and this one {shape}")
    return inputs[0].name, shape[0] if isinstance(shape[0], int) else 0, shape[2], shape[3]


def _n_cells(output: Floats) -> int:
    if output.ndim != 3 or output.shape[2] < 6:
        raise ConfigError(f"a YOLOX detector gives [B, A, 5 + C], and this one {list(output.shape)}")
    return int(output.shape[1])


def _cells(width: int, height: int, n_cells: int) -> tuple[Floats, Floats]:
    """Columns and rows float32 [A, 2] of the cells, in the order of the output, and their strides [A, 1]."""
    for strides in _STRIDES:
        grids = [np.mgrid[: height // stride, : width // stride][::-1].reshape(2, -1).T for stride in strides]
        if sum(len(grid) for grid in grids) == n_cells:
            of_cells = np.concatenate([np.full((len(grid), 1), s) for grid, s in zip(grids, strides, strict=True)])
            return np.concatenate(grids).astype(np.float32), of_cells.astype(np.float32)
    raise ConfigError(f"{n_cells} cells are not the grids of strides {_STRIDES[0]} at {width} x {height} pixels")


def _empty(n: int, height: int, width: int) -> Floats:
    return np.full((n, 3, height, width), GREY, np.float32)
