"""The learned ranker through ONNX Runtime."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ArtifactError, CorruptArtifact
from recsys.inference.towers import open_session

Floats = NDArray[np.float32]
FEATURES, QUERY = "features", "query"
METADATA_KEY = "features"  # a JSON list of the column names, in the model's own metadata


class OnnxRanker:
    """`recsys.ports.Ranker` over `ranker.onnx`.

    The graph reads `features` float32 [C, F], and `query` float32 [Q] where it wants the query vector; each output is
    float32 [C] (or [C, 1]) and named after its probability. Its metadata holds `features`, a JSON list of F names.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Raises CorruptArtifact where the file is no such model."""
        self._session = open_session(path, threads)
        shapes = {node.name: list(node.shape) for node in self._session.get_inputs()}
        if FEATURES not in shapes or not shapes.keys() <= {FEATURES, QUERY}:
            raise CorruptArtifact(f"{path.name} is no ranker, it reads {', '.join(shapes)}; train it again")
        self._feature_names = _names(self._session.get_modelmeta().custom_metadata_map, shapes[FEATURES], path)
        self._output_names = tuple(node.name for node in self._session.get_outputs())
        self._query_dim = _width(shapes[QUERY], path) if QUERY in shapes else 0
        self._no_query = np.zeros(self._query_dim, np.float32)

    @property
    def feature_names(self) -> tuple[str, ...]:
        return self._feature_names

    @property
    def output_names(self) -> tuple[str, ...]:
        return self._output_names

    @property
    def query_dim(self) -> int:
        return self._query_dim

    def predict(self, features: Floats, query: Floats | None = None) -> Mapping[str, Floats]:
        """See the port."""
        inputs: dict[str, NDArray[Any]] = {FEATURES: features}
        if self._query_dim:
            inputs[QUERY] = self._no_query if query is None else query
        try:
            outputs = self._session.run(None, inputs)
        except Exception as error:  # ONNX Runtime's errors share no base class with a meaning
            raise ArtifactError(f"the ranker failed on its input: {error}") from None
        n = len(features)
        named: dict[str, Floats] = {}
        for name, values in zip(self._output_names, outputs, strict=True):
            if values.size != n or not np.isfinite(values).all():
                raise ArtifactError(f"the ranker's {name} is no number for each of {n} candidates: train it again")
            named[name] = values.reshape(n).astype(np.float32, copy=False)
        return named


def _names(metadata: Mapping[str, str], shape: list[Any], path: Path) -> tuple[str, ...]:
    try:
        names = json.loads(metadata.get(METADATA_KEY, ""))
    except ValueError:
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise CorruptArtifact(f"{path.name} does not name its features in its metadata; train it again")
    if len(shape) != 2 or shape[1] != len(names):
        raise CorruptArtifact(f"{path.name} names {len(names)} features and reads {shape}; train it again")
    return tuple(names)


def _width(shape: list[Any], path: Path) -> int:
    if len(shape) != 1 or not isinstance(shape[0], int):
        raise CorruptArtifact(f"{path.name} reads a query of the shape {shape}, and it must be one vector")
    return shape[0]
