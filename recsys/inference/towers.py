"""The two towers through ONNX Runtime: what the service runs instead of torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from recsys.errors import ArtifactError, CorruptArtifact

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


def open_session(path: Path, threads: int = 1) -> ort.InferenceSession:
    """A session with a fixed number of threads, one query at a time.

    Raises CorruptArtifact when ONNX Runtime cannot read the file.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no base class with a meaning
        raise CorruptArtifact(f"{path.name} is not a model that ONNX Runtime can load: {error}") from None


def _shapes(session: ort.InferenceSession, kind: str, needed: set[str]) -> dict[str, list[Any]]:
    """The shapes of its inputs by name. Raises CorruptArtifact where it is not a tower of that kind."""
    shapes = {node.name: list(node.shape) for node in session.get_inputs()}
    if not needed <= shapes.keys():
        raise CorruptArtifact(
            f"this is no {kind} tower, it reads {', '.join(shapes)}; run `recsys release build` again"
        )
    return shapes


def _run(session: ort.InferenceSession, inputs: Mapping[str, NDArray[Any]]) -> Floats:
    try:
        return np.asarray(session.run(None, dict(inputs))[0], dtype=np.float32)
    except Exception as error:
        raise ArtifactError(f"a tower failed on its input: {error}") from None


class OnnxQueryTower:
    """`recsys.ports.QueryEncoder` over `query_tower.onnx`."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._session = open_session(path, threads)
        shapes = _shapes(self._session, "query", {"history", "event_types", "lengths"})
        self._dim = int(self._session.get_outputs()[0].shape[-1])
        self._profile_dim = int(shapes["user_text"][-1]) if "user_text" in shapes else 0

    @property
    def dim(self) -> int:
        return self._dim

    def encode(self, history: Floats, event_types: NDArray[np.int64], user_text: Floats | None = None) -> Floats:
        """See the port. A history longer than the tower reads must be cut by the caller."""
        inputs: dict[str, NDArray[Any]] = {"lengths": np.array([len(history)], np.int64)}
        if len(history):
            inputs |= {"history": history[None].astype(np.float32, copy=False), "event_types": event_types[None]}
        else:
            inputs |= {"history": np.zeros((1, 1, self._dim), np.float32), "event_types": np.zeros((1, 1), np.int64)}
        if self._profile_dim:
            profile = np.zeros(self._profile_dim, np.float32) if user_text is None else user_text
            inputs["user_text"] = profile[None, :].astype(np.float32)
            inputs["user_text_mask"] = np.array([user_text is not None])
        vector: Floats = _run(self._session, inputs)[0]
        return vector

    def encode_many(
        self,
        histories: Floats,
        event_types: NDArray[np.int64],
        lengths: NDArray[np.int64],
        user_text: Floats | None = None,
        reads_text: Mask | None = None,
    ) -> Floats:
        """See the port. Histories longer than the tower reads must be cut by the caller."""
        n, n_past, _ = histories.shape
        if not n_past:
            histories, event_types = np.zeros((n, 1, self._dim), np.float32), np.zeros((n, 1), np.int64)
        inputs: dict[str, NDArray[Any]] = {
            "history": histories.astype(np.float32, copy=False),
            "event_types": np.ascontiguousarray(event_types),
            "lengths": lengths,
        }
        if self._profile_dim:
            has_text = np.full(n, user_text is not None)
            profile = np.zeros(self._profile_dim, np.float32) if user_text is None else user_text
            inputs["user_text"] = np.tile(profile.astype(np.float32), (n, 1))
            inputs["user_text_mask"] = has_text if reads_text is None else has_text & reads_text
        return _run(self._session, inputs)


class OnnxItemTower:
    """`recsys.ports.ItemEncoder` over `item_tower.onnx`; release building runs it over the whole catalogue."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._session = open_session(path, threads)
        shapes = _shapes(self._session, "item", {"id_vector", "id_mask"})
        self._widths = {name: int(shape[-1]) for name, shape in shapes.items() if len(shape) == 2}
        self._dim = int(self._session.get_outputs()[0].shape[-1])

    @property
    def dim(self) -> int:
        return self._dim

    def encode_new(self, vectors: Mapping[str, Floats], categories: Mask) -> Floats:
        """See the port: the id is masked, and so is each modality that is not in `vectors`."""
        known = {name: (vector[None, :], np.ones(1, np.bool_)) for name, vector in vectors.items()}
        no_id = np.zeros((1, self._widths["id_vector"]), np.float32)
        vector: Floats = self.encode_batch(no_id, np.zeros(1, np.bool_), known, categories[None])[0]
        return vector

    def encode_batch(
        self,
        id_vectors: NDArray[np.floating[Any]],
        id_mask: Mask,
        modalities: Mapping[str, tuple[Floats, Mask]],
        categories: Mask,
    ) -> Floats:
        """`B` items: id vectors [B, d] and bool [B] where there is one, each modality's vectors [B, D_m] and bool [B],
        categories bool [B, C]. A modality that is not given is masked. Returns float32 [B, D]."""
        n = len(id_vectors)
        inputs: dict[str, NDArray[Any]] = {"id_vector": id_vectors.astype(np.float32), "id_mask": id_mask}
        if "categories" in self._widths:
            inputs["categories"] = categories.astype(np.float32)
        for name in self._widths.keys() - {"id_vector", "categories"}:
            absent = np.zeros((n, self._widths[name]), np.float32), np.zeros(n, np.bool_)
            inputs[name], inputs[f"{name}_mask"] = modalities.get(name, absent)
        return _run(self._session, inputs)
