"""From the files of a release to a `LoadedRelease`. Concrete adapters are handed in by a bootstrap.

items.parquet                   catalogue columns, row = item_row
item_vectors.npy                float32 [N, D], the item tower's outputs
content_<modality>.npy          float16 [N, D_m], with content_<modality>_present.npy bool [N]
neighbours_rows.npy, neighbours_weights.npy     int32, float32 [N, K]
item_counts.npy                 int64 [N], interactions in training
index.faiss                     search over item_vectors
query_tower.onnx, item_tower.onnx               absent before there is behaviour to train on
encoders/...                    the content encoders with their tokenizer, absent where none was used
profile_hashes.npy, profiles.npy                users who told something about themselves
serving.json, acceptance.json
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.dataset import Modality
from recsys.errors import CorruptArtifact
from recsys.features.transitions import Neighbours
from recsys.manifest import ReleaseManifest
from recsys.ports import ContentEncoder, ItemEncoder, ItemIndex, QueryEncoder, ReleaseFiles
from recsys.release import LoadedRelease, ServingSchema
from recsys.vocabulary import Vocabulary

ENCODER_FOLDER = "encoders/"


@dataclass(frozen=True)
class Adapters:
    """What turns files into working parts.

    Attributes:
        open_index: (index file, item vectors float32 [N, D]) → index.
        open_content_encoder: (file name under `encoders/` → path) → encoder.
    """

    open_index: Callable[[Path, NDArray[np.float32]], ItemIndex]
    open_query_tower: Callable[[Path], QueryEncoder]
    open_item_tower: Callable[[Path], ItemEncoder]
    open_content_encoder: Callable[[Mapping[str, Path]], ContentEncoder]


def load_release(store: ReleaseFiles, release_id: str, adapters: Adapters) -> LoadedRelease:
    """Load and verify one release.

    Raises:
        MissingArtifact: no such release, or one of its files is gone.
        CorruptArtifact: bytes differ from the manifest, or its parts do not belong together.
    """
    manifest = store.manifest(release_id)
    paths = {name: store.open(manifest, name) for name in manifest.files}
    schema = ServingSchema.model_validate_json(paths["serving.json"].read_bytes())
    items = pq.read_table(paths["items.parquet"])
    vocabulary = Vocabulary(items["item_id"].to_pylist())
    _require_one_release(manifest, schema, vocabulary)
    item_vectors = _array(paths, "item_vectors.npy")
    counts = _array(paths, "item_counts.npy")
    encoder_files = {
        name.removeprefix(ENCODER_FOLDER): path for name, path in paths.items() if name.startswith(ENCODER_FOLDER)
    }
    return LoadedRelease(
        manifest=manifest,
        schema=schema,
        vocabulary=vocabulary,
        items=items,
        item_vectors=item_vectors,
        modalities=tuple(_modality(paths, name, manifest) for name in schema.modalities),
        index=adapters.open_index(paths["index.faiss"], item_vectors),
        neighbours=Neighbours(
            _array(paths, "neighbours_rows.npy"),
            _array(paths, "neighbours_weights.npy"),
            schema.history_window,
            schema.history_decay,
        ),
        log_popularity=np.log1p(counts).astype(np.float32),
        popular_rows=np.argsort(-counts, kind="stable").astype(np.int64),
        profile_hashes=_array(paths, "profile_hashes.npy"),
        profiles=_array(paths, "profiles.npy"),
        query_encoder=adapters.open_query_tower(paths["query_tower.onnx"]) if schema.has_towers else None,
        item_encoder=adapters.open_item_tower(paths["item_tower.onnx"]) if schema.has_towers else None,
        content_encoder=adapters.open_content_encoder(encoder_files) if encoder_files else None,
    )


def _require_one_release(manifest: ReleaseManifest, schema: ServingSchema, vocabulary: Vocabulary) -> None:
    if schema.vocabulary_checksum != vocabulary.checksum or len(vocabulary) != manifest.n_items:
        raise CorruptArtifact(
            f"release {manifest.release_id[:12]}: catalogue and vectors do not belong together; build it again"
        )


def _modality(paths: Mapping[str, Path], name: str, manifest: ReleaseManifest) -> Modality:
    vectors = _array(paths, f"content_{name}.npy").astype(np.float32)
    return Modality(name, manifest.spaces[name].space_id, vectors, _array(paths, f"content_{name}_present.npy"))


def _array(paths: Mapping[str, Path], name: str) -> NDArray[Any]:
    """A `.npy` file, mapped; files that hold objects (pickle) are refused by numpy."""
    array: NDArray[Any] = np.load(paths[name], mmap_mode="r", allow_pickle=False)
    return array
