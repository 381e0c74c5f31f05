"""From the files of a release to a `LoadedRelease`. Concrete adapters are handed in by a bootstrap.

items.parquet                   catalogue columns, row = item_row; with `recsys.tags.TAG_COLUMNS` where it was tagged
tags.parquet                    who says which tag (`recsys.tags.TAGS_SCHEMA`), by item row; absent where nothing was
                                ever tagged, and in older releases
item_vectors.npy                float32 [N, D], the item tower's outputs
content_<modality>.npy          float32 [N, D_m], with content_<modality>_present.npy bool [N]
content_<modality>.faiss        search over it
neighbours_rows.npy, neighbours_weights.npy     int32, float32 [N, K]
item_counts.npy                 int64 [N], interactions in training
index.faiss                     search over item_vectors
query_tower.onnx, item_tower.onnx               absent before there is behaviour to train on
encoders/...                    the content encoders with their tokenizer, absent where none was used
diversity.npy, diversity_projection.npy         int8 [N, K], float32 [sum of D_m, K]: compact content vectors; absent
                                                in older releases, which compute them once
id_vectors.npy, id_present.npy  float32 [N, D], bool [N]: the item tower's other input, for explanations; absent without
                                towers and in older releases, which explain more coarsely
objects.parquet, objects.npy    objects in the items' pictures (`recsys.item_objects.OBJECTS_SCHEMA`), float32 [O, D];
                                absent where nobody looked for any
ranker.onnx                     the learned ranker, absent where the blend ranks
profile_hashes.npy, profiles.npy                users who told something about themselves
serving.json, acceptance.json
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import ValidationError

from recsys.catalog import ITEM_FIELDS
from recsys.dataset import Modality
from recsys.errors import CorruptArtifact, MissingArtifact, SpaceMismatch
from recsys.features.diversity import Diversity
from recsys.features.rank_features import require_known_features, require_outputs
from recsys.features.transitions import Neighbours
from recsys.item_objects import OBJECTS_SCHEMA, ItemObjects
from recsys.manifest import ReleaseManifest
from recsys.ports import ContentEncoder, ItemEncoder, ItemIndex, QueryEncoder, Ranker, ReleaseFiles
from recsys.release import IdVectors, LoadedRelease, ServingSchema
from recsys.tag_details import TagDetails
from recsys.tags import TAG_COLUMNS
from recsys.vocabulary import Vocabulary

ENCODER_FOLDER = "encoders/"
OPENED_AT_ONCE = 4


@dataclass(frozen=True)
class Adapters:
    """What turns files into working parts.

    Attributes:
        open_index: (index file, item vectors float32 [N, D]) → index.
        open_content_encoder: (file name under `encoders/` → path) → encoder.
        open_ranker: None ranks by the blend, whatever the release carries.
        encodes_elsewhere: another process reads the encoders' graphs and verifies them; here only their descriptions
            are, which name the embedding spaces.
    """

    open_index: Callable[[Path, NDArray[np.float32]], ItemIndex]
    open_query_tower: Callable[[Path], QueryEncoder]
    open_item_tower: Callable[[Path], ItemEncoder]
    open_content_encoder: Callable[[Mapping[str, Path]], ContentEncoder]
    open_ranker: Callable[[Path], Ranker] | None = None
    encodes_elsewhere: bool = False

    def reads(self, name: str) -> bool:
        """Whether this file of a release is read here, and so must be what the manifest says."""
        return not (self.encodes_elsewhere and name.startswith(ENCODER_FOLDER) and name.endswith(".onnx"))


def load_release(store: ReleaseFiles, release_id: str, adapters: Adapters) -> LoadedRelease:
    """Load and verify one release.

    Raises:
        MissingArtifact: no such release, or one of its files is gone.
        CorruptArtifact: bytes differ from the manifest, or its parts do not belong together.
        SpaceMismatch: its encoders live in other embedding spaces than its vectors.
    """
    manifest = store.manifest(release_id)
    paths = _opened(store, manifest, adapters)
    schema = read_schema(_path(paths, "serving.json"))
    items = _items(_path(paths, "items.parquet"))
    vocabulary = _vocabulary(items, schema)
    item_vectors = _array(paths, "item_vectors.npy")
    counts = _array(paths, "item_counts.npy")
    encoder_files = {
        name.removeprefix(ENCODER_FOLDER): path for name, path in paths.items() if name.startswith(ENCODER_FOLDER)
    }
    neighbours = Neighbours(
        _array(paths, "neighbours_rows.npy"),
        _array(paths, "neighbours_weights.npy"),
        schema.history_window,
        schema.history_decay,
    )
    modalities = tuple(_modality(paths, name, manifest) for name in schema.modalities)
    release = LoadedRelease(
        manifest=manifest,
        schema=schema,
        vocabulary=vocabulary,
        items=items,
        item_vectors=item_vectors,
        modalities=modalities,
        index=adapters.open_index(_path(paths, "index.faiss"), item_vectors),
        neighbours=neighbours,
        log_popularity=np.log1p(counts).astype(np.float32),
        popular_rows=np.argsort(-counts, kind="stable").astype(np.int64),
        profile_hashes=_array(paths, "profile_hashes.npy"),
        profiles=_array(paths, "profiles.npy"),
        query_encoder=adapters.open_query_tower(_path(paths, "query_tower.onnx")) if schema.has_towers else None,
        item_encoder=adapters.open_item_tower(_path(paths, "item_tower.onnx")) if schema.has_towers else None,
        content_encoder=adapters.open_content_encoder(encoder_files) if encoder_files else None,
        content_indexes={
            each.name: adapters.open_index(paths[file], each.vectors)
            for each in modalities
            if (file := f"content_{each.name}.faiss") in paths
        },
        ranker=_ranker(paths, schema, adapters),
        stored_diversity=_diversity(paths),
        id_vectors=_id_vectors(paths),
        objects=_objects(paths, schema, items),
        tag_details=_tag_details(paths, schema, items),
    )
    require_one_release(release)
    return release


def _opened(store: ReleaseFiles, manifest: ReleaseManifest, adapters: Adapters) -> dict[str, Path]:
    """All files, verified where this process reads them, a handful at a time: they may have to be pulled first."""

    def opened(name: str) -> Path:
        return store.open(manifest, name, verify=adapters.reads(name))

    with ThreadPoolExecutor(OPENED_AT_ONCE, thread_name_prefix="release-file") as pool:
        return dict(zip(manifest.files, pool.map(opened, manifest.files), strict=True))


def require_one_release(release: LoadedRelease) -> None:
    """Raises CorruptArtifact or SpaceMismatch unless the parts belong together: same rows, widths and spaces."""
    n, dim = release.manifest.n_items, release.manifest.dim
    neighbours = release.neighbours
    fits = {
        "items.parquet": release.n_items == n,
        "item_vectors.npy": release.item_vectors.shape == (n, dim),
        "item_counts.npy": release.log_popularity.shape == (n,),
        "neighbours_rows.npy": len(neighbours.rows) == n and neighbours.rows.shape == neighbours.weights.shape,
        "index.faiss": release.index.n_items == n,
        "profiles.npy": len(release.profiles) == len(release.profile_hashes),
        "query_tower.onnx": release.query_encoder is None or release.query_encoder.dim == dim,
    }
    for modality in release.modalities:
        width = release.manifest.spaces[modality.name].dim
        index = release.content_indexes.get(modality.name)
        fits[f"content_{modality.name}.faiss"] = index is None or index.n_items == n
        fits[f"content_{modality.name}.npy"] = modality.vectors.shape == (n, width) and modality.present.shape == (n,)
    if release.stored_diversity is not None:
        fits |= _diversity_fits(release.stored_diversity, n, sum(each.vectors.shape[1] for each in release.modalities))
    if release.id_vectors is not None:
        fits["id_vectors.npy"] = release.id_vectors.vectors.shape == (n, dim)
        fits["id_present.npy"] = release.id_vectors.present.shape == (n,)
    if release.ranker is not None:
        fits["ranker.onnx"] = release.ranker.query_dim in (0, dim)
    odd = ", ".join(name for name, is_so in fits.items() if not is_so)
    if odd:
        raise CorruptArtifact(
            f"release {release.release_id[:12]}: {odd} does not belong to its {n} items of width {dim}; build it again"
        )
    spaces = release.content_encoder.space_ids if release.content_encoder is not None else {}
    for modality in release.modalities:
        if spaces.get(modality.name, modality.space_id) != modality.space_id:
            raise SpaceMismatch(
                f"release {release.release_id[:12]}: its {modality.name} encoder and its {modality.name} vectors live "
                "in two embedding spaces; build it again"
            )


def require_value(release: LoadedRelease, weights: Mapping[str, float]) -> None:
    """That the value formula asks for nothing that the release's ranker does not give.

    Raises:
        ArtifactError: it does; the message lists what there is. A release without a ranker is valued by its blend.
    """
    if release.ranker is not None:
        require_outputs(weights, release.ranker.output_names, f"the ranker of release {release.release_id[:12]}")


def _diversity_fits(diversity: Diversity, n_items: int, content_width: int) -> dict[str, bool]:
    vectors, projection = diversity.vectors, diversity.projection
    width = projection.shape[-1] if projection.ndim else -1
    return {
        "diversity.npy": vectors.shape == (n_items, width) and vectors.dtype == np.int8,
        "diversity_projection.npy": projection.shape == (content_width, width) and projection.dtype == np.float32,
    }


def _diversity(paths: Mapping[str, Path]) -> Diversity | None:
    """None where the release has neither file; raises MissingArtifact where it has one of them."""
    if not {"diversity.npy", "diversity_projection.npy"} & paths.keys():
        return None
    # Plain arrays over the mapped files: numpy's memmap class makes each gather several times as slow.
    vectors, projection = (_array(paths, f"{name}.npy") for name in ("diversity", "diversity_projection"))
    return Diversity(vectors.view(np.ndarray), projection.view(np.ndarray))


def _id_vectors(paths: Mapping[str, Path]) -> IdVectors | None:
    """None where the release has neither file; raises MissingArtifact where it has one of them."""
    if not {"id_vectors.npy", "id_present.npy"} & paths.keys():
        return None
    vectors, present = _array(paths, "id_vectors.npy"), _array(paths, "id_present.npy")
    return IdVectors(vectors.astype(np.float32, copy=False), present.astype(np.bool_, copy=False))


def _objects(paths: Mapping[str, Path], schema: ServingSchema, items: pa.Table) -> ItemObjects | None:
    """Raises MissingArtifact or CorruptArtifact where `serving.json` and the files do not say the same."""
    if schema.objects_space is None:
        return None
    vectors = _array(paths, "objects.npy")
    try:
        table = pq.read_table(_path(paths, "objects.parquet"), schema=OBJECTS_SCHEMA)
    except (pa.ArrowException, OSError) as error:
        raise CorruptArtifact(f"objects.parquet cannot be read ({error}); run `recsys release build` again") from None
    if vectors.shape != (len(table), schema.objects_space.dim):
        raise CorruptArtifact("objects.npy is of other objects; run `recsys release build` again")
    return ItemObjects.of_items(table, vectors.astype(np.float32, copy=False), items["item_id"])


def _tag_details(paths: Mapping[str, Path], schema: ServingSchema, items: pa.Table) -> TagDetails | None:
    """Raises MissingArtifact or CorruptArtifact where the items are tagged and no file says by whom, or otherwise."""
    there = {name for name in TAG_COLUMNS if name in items.column_names}
    if not there and "tags.parquet" not in paths and not schema.tag_heads:
        return None
    if there != set(TAG_COLUMNS):
        raise CorruptArtifact("items.parquet lacks the items' tags; run `recsys release build` again")
    return TagDetails(_path(paths, "tags.parquet"), items["item_id"])


def _ranker(paths: Mapping[str, Path], schema: ServingSchema, adapters: Adapters) -> Ranker | None:
    """Raises MissingArtifact or CorruptArtifact where `serving.json` and the file do not say the same."""
    if bool(schema.ranker_outputs) != ("ranker.onnx" in paths):
        if schema.ranker_outputs:
            raise MissingArtifact("the release has no ranker.onnx; run `recsys release build` again")
        raise CorruptArtifact("serving.json knows nothing of ranker.onnx; run `recsys release build` again")
    if not schema.ranker_outputs or adapters.open_ranker is None:
        return None
    ranker = adapters.open_ranker(paths["ranker.onnx"])
    if ranker.feature_names != schema.ranker_features or ranker.output_names != schema.ranker_outputs:
        raise CorruptArtifact(
            "ranker.onnx reads or gives other than serving.json says; run `recsys release build` again"
        )
    require_known_features(ranker.feature_names)
    return ranker


def read_schema(path: Path) -> ServingSchema:
    """`serving.json` of a release. Raises CorruptArtifact."""
    try:
        return ServingSchema.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise CorruptArtifact(
            f"serving.json is not of this version ({error.error_count()} problems); run `recsys release build` again"
        ) from None


def _items(path: Path) -> pa.Table:
    try:
        items = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise CorruptArtifact(f"items.parquet cannot be read ({error}); run `recsys release build` again") from None
    absent = [name for name in ITEM_FIELDS if name not in items.column_names]
    if absent:
        raise CorruptArtifact(f"items.parquet lacks {', '.join(absent)}; run `recsys release build` again")
    return items


def _vocabulary(items: pa.Table, schema: ServingSchema) -> Vocabulary:
    try:
        vocabulary = Vocabulary(items["item_id"].to_pylist())
    except ValueError as error:
        raise CorruptArtifact(f"items.parquet: {error}; run `recsys release build` again") from None
    if schema.vocabulary_checksum != vocabulary.checksum:
        raise CorruptArtifact("items.parquet holds the items of another release; run `recsys release build` again")
    return vocabulary


def _modality(paths: Mapping[str, Path], name: str, manifest: ReleaseManifest) -> Modality:
    if name not in manifest.spaces:
        raise CorruptArtifact(f"the manifest names no embedding space of {name}; run `recsys release build` again")
    # Uncopied where it is float32: mapped, and so shared by all workers of a machine.
    vectors = _array(paths, f"content_{name}.npy").astype(np.float32, copy=False)
    return Modality(name, manifest.spaces[name].space_id, vectors, _array(paths, f"content_{name}_present.npy"))


def _array(paths: Mapping[str, Path], name: str) -> NDArray[Any]:
    """A `.npy` file, mapped; one that holds objects (pickle) is refused."""
    path = _path(paths, name)
    try:
        # Mapped all the same; numpy's own class for it costs each gather some microseconds.
        array: NDArray[Any] = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (ValueError, EOFError) as error:
        raise CorruptArtifact(f"{name} is no array ({error}); run `recsys release build` again") from None
    return array


def _path(paths: Mapping[str, Path], name: str) -> Path:
    if name not in paths:
        raise MissingArtifact(f"the release has no {name}; run `recsys release build` again")
    return paths[name]
