from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys.errors import ArtifactError, CorruptArtifact, MissingArtifact, SpaceMismatch
from recsys.events import hash64
from recsys.features.diversity import diversity_of
from recsys.index.exact import ExactIndex
from recsys.index.files import open_index, write_index
from recsys.inference.ranker import OnnxRanker
from recsys.live import view_of
from recsys.manifest import FileEntry, ReleaseManifest, release_id_of
from recsys.recommender import RecommenderConfig, recommend
from recsys.release import LoadedRelease
from recsys.release_loading import Adapters, load_release, require_value
from recsys.storage.memory_store import MemoryStore
from recsys.storage.release_files import LocalReleaseStore
from recsys.types import HistoryItem, Query
from tests.worlds.families import DIM, SPACES, FamilyNames, release
from tests.worlds.in_memory import ContentIsPlace, MeanOfHistory, space
from tests.worlds.rankers import write_ranker

ADAPTERS = Adapters(
    open_index=open_index,
    open_query_tower=lambda path: MeanOfHistory(DIM),
    open_item_tower=lambda path: ContentIsPlace(DIM),
    open_content_encoder=lambda files: FamilyNames(),
)
Change = Callable[[Path], object]


def write_release(
    root: Path, of: LoadedRelease, *changes: Change, towers: bool = True, manifest: Mapping[str, Any] | None = None
) -> tuple[LocalReleaseStore, str]:
    """The files of a release, changed before their checksums are taken: what a build with that mistake would make."""
    staging = root / "staging"
    (staging / "encoders").mkdir(parents=True)
    pq.write_table(of.items, staging / "items.parquet")
    arrays: dict[str, Any] = {
        "item_vectors": of.item_vectors,
        "item_counts": np.expm1(of.log_popularity).round().astype(np.int64),
        "neighbours_rows": of.neighbours.rows,
        "neighbours_weights": of.neighbours.weights,
        "profile_hashes": np.array([hash64("ann")], np.uint64),
        "profiles": np.ones((1, DIM), np.float32),
    }
    for modality in of.modalities:
        arrays[f"content_{modality.name}"] = modality.vectors.astype(np.float16)
        arrays[f"content_{modality.name}_present"] = modality.present
    for name, array in arrays.items():
        np.save(staging / f"{name}.npy", array)
    write_index(ExactIndex(of.item_vectors), staging / "index.faiss")
    schema = of.schema.model_copy(update={"has_towers": towers})
    (staging / "serving.json").write_text(schema.model_dump_json())
    if towers:
        (staging / "query_tower.onnx").write_bytes(b"query")
        (staging / "item_tower.onnx").write_bytes(b"item")
        (staging / "encoders" / "text_encoder.onnx").write_bytes(b"text")
    for change in changes:
        change(staging)
    files = {path.relative_to(staging).as_posix(): path for path in sorted(staging.rglob("*")) if path.is_file()}
    entries = {name: FileEntry.of(path) for name, path in files.items()}
    described = {"spaces": SPACES, "n_items": of.n_items, "dim": DIM, "acceptance": {}, **(manifest or {})}
    store = LocalReleaseStore(root)
    store.put(files, ReleaseManifest(release_id=release_id_of(entries), files=entries, **described))
    return store, release_id_of(entries)


def load(root: Path, *changes: Change, **options: Any) -> LoadedRelease:
    store, release_id = write_release(root, release(), *changes, **options)
    return load_release(store, release_id, ADAPTERS)


def saved(name: str, array: Any, *, allow_pickle: bool = False) -> Change:
    return lambda staging: np.save(staging / name, array, allow_pickle=allow_pickle)


def schema_with(**fields: Any) -> Change:
    def change(staging: Path) -> None:
        path = staging / "serving.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return change


def test_a_release_comes_back_as_it_was(tmp_path: Path) -> None:
    before, loaded = release(), load(tmp_path)
    assert loaded.vocabulary.item_ids == before.vocabulary.item_ids
    assert loaded.items.equals(before.items)
    assert np.array_equal(loaded.item_vectors, before.item_vectors)
    assert np.array_equal(loaded.popular_rows, before.popular_rows)
    assert np.array_equal(loaded.log_popularity, before.log_popularity)
    assert [modality.name for modality in loaded.modalities] == ["image", "text"]
    assert [modality.space_id for modality in loaded.modalities] == [space.space_id for space in SPACES.values()]
    for mine, theirs in zip(loaded.modalities, before.modalities, strict=True):
        assert mine.vectors.dtype == np.float32
        assert np.allclose(mine.vectors, theirs.vectors, atol=1e-3)  # kept as float16
    assert loaded.profile_of("ann") is not None
    assert loaded.profile_of("bob") is None


def test_it_answers_as_the_release_in_memory_does(tmp_path: Path) -> None:
    query = Query("request", datetime(2026, 1, 1, tzinfo=UTC), history=(HistoryItem("c1"), HistoryItem("c2")))
    slates = [
        recommend(query, view_of(each), MemoryStore(), RecommenderConfig()) for each in (release(), load(tmp_path))
    ]
    assert [item.item_id for item in slates[0].items] == [item.item_id for item in slates[1].items]


def test_a_release_without_towers_and_encoders_needs_none(tmp_path: Path) -> None:
    loaded = load(tmp_path, towers=False)
    assert (loaded.query_encoder, loaded.item_encoder, loaded.content_encoder) == (None, None, None)


def test_an_empty_catalogue_is_a_release_too(tmp_path: Path) -> None:
    empty = release(families=())
    store, release_id = write_release(tmp_path, empty)
    loaded = load_release(store, release_id, ADAPTERS)
    assert loaded.n_items == 0
    slate = recommend(Query("request", datetime.now(UTC)), view_of(loaded), MemoryStore(), RecommenderConfig())
    assert slate.items == ()


def test_a_release_that_is_not_there_is_missing(tmp_path: Path) -> None:
    store, _ = write_release(tmp_path, release())
    with pytest.raises(MissingArtifact, match="recsys release build"):
        load_release(store, "0" * 64, ADAPTERS)


@pytest.mark.parametrize("name", ["item_vectors.npy", "items.parquet", "serving.json", "encoders/text_encoder.onnx"])
def test_one_changed_byte_is_found_by_the_checksum(tmp_path: Path, name: str) -> None:
    store, release_id = write_release(tmp_path, release())
    path = store.open(store.manifest(release_id), name)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    with pytest.raises(CorruptArtifact, match=name):
        load_release(store, release_id, ADAPTERS)


def test_a_file_whose_bytes_are_gone_is_missing(tmp_path: Path) -> None:
    store, release_id = write_release(tmp_path, release())
    store.open(store.manifest(release_id), "item_vectors.npy").unlink()
    with pytest.raises(MissingArtifact, match=r"item_vectors\.npy"):
        load_release(store, release_id, ADAPTERS)


FILES = [
    "items.parquet", "item_vectors.npy", "item_counts.npy", "neighbours_rows.npy", "neighbours_weights.npy",
    "index.faiss", "profile_hashes.npy", "profiles.npy", "content_text.npy", "content_text_present.npy",
    "query_tower.onnx", "item_tower.onnx", "serving.json",
]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_release_that_was_built_without_one_of_its_files_names_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(MissingArtifact, match=name):
        load(tmp_path, lambda staging: (staging / name).unlink())


def test_the_vocabulary_of_another_release_is_refused(tmp_path: Path) -> None:
    others = release(per_family=9)
    with pytest.raises(CorruptArtifact, match="another release"):
        load(tmp_path, schema_with(vocabulary_checksum=others.vocabulary.checksum))
    with pytest.raises(CorruptArtifact, match="another release"):
        load(tmp_path / "other", lambda staging: pq.write_table(others.items, staging / "items.parquet"))


def test_an_id_twice_is_refused(tmp_path: Path) -> None:
    items = release().items
    with pytest.raises(CorruptArtifact, match="twice"):
        load(tmp_path, lambda staging: pq.write_table(items.take([0, 0]), staging / "items.parquet"))


@pytest.mark.parametrize("name", ["item_vectors.npy", "profiles.npy", "content_image_present.npy"])
def test_a_pickle_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CorruptArtifact, match=name):
        load(tmp_path, saved(name, np.array([{"a": 1}], dtype=object), allow_pickle=True))


@pytest.mark.parametrize("content", [b"", b"not an array", b"\x80\x04N.", b"\x93NUMPY\x01\x00"])
def test_what_is_no_array_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(CorruptArtifact, match=r"item_counts\.npy"):
        load(tmp_path, lambda staging: (staging / "item_counts.npy").write_bytes(content))


def test_an_array_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    def cut(staging: Path) -> None:
        whole = (staging / "neighbours_rows.npy").read_bytes()
        (staging / "neighbours_rows.npy").write_bytes(whole[:-8])

    with pytest.raises(CorruptArtifact, match=r"neighbours_rows\.npy"):
        load(tmp_path, cut)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("item_counts.npy", np.ones(29, np.int64)),
        ("neighbours_rows.npy", np.full((29, 1), -1, np.int32)),
        ("neighbours_weights.npy", np.zeros((30, 2), np.float32)),
        ("content_text.npy", np.zeros((30, DIM - 1), np.float16)),
        ("content_text.npy", np.zeros((29, DIM), np.float16)),
        ("content_text_present.npy", np.ones(29, np.bool_)),
        ("profiles.npy", np.zeros((2, DIM), np.float32)),
    ],
)
def test_an_array_of_other_rows_or_width_is_refused(tmp_path: Path, name: str, array: Any) -> None:
    with pytest.raises(CorruptArtifact, match="does not belong to its 30 items"):
        load(tmp_path, saved(name, array))


def test_item_vectors_that_the_index_was_not_built_from_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptArtifact, match="other item vectors"):
        load(tmp_path, saved("item_vectors.npy", np.ones((30, DIM), np.float32)))


def test_vectors_of_another_width_than_the_manifest_says_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptArtifact, match=r"item_vectors\.npy, query_tower\.onnx does not belong"):
        load(tmp_path, manifest={"dim": DIM + 1})


def test_a_tower_of_another_width_is_refused(tmp_path: Path) -> None:
    store, release_id = write_release(tmp_path, release())
    narrow = replace(ADAPTERS, open_query_tower=lambda path: MeanOfHistory(DIM - 1))
    with pytest.raises(CorruptArtifact, match=r"query_tower\.onnx"):
        load_release(store, release_id, narrow)


def test_an_encoder_of_another_embedding_space_than_the_vectors_is_refused(tmp_path: Path) -> None:
    elsewhere = {**SPACES, "text": space("text", DIM).model_copy(update={"weights_sha256": "1"})}
    with pytest.raises(SpaceMismatch, match="text encoder"):
        load(tmp_path, manifest={"spaces": elsewhere})


def test_vectors_whose_space_nobody_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptArtifact, match="no embedding space of image"):
        load(tmp_path, manifest={"spaces": {"text": SPACES["text"]}})


@pytest.mark.parametrize("fields", [{"colour": "red"}, {"max_history": "many"}])
def test_a_schema_of_another_version_is_refused(tmp_path: Path, fields: dict[str, Any]) -> None:
    with pytest.raises(CorruptArtifact, match=r"serving\.json"):
        load(tmp_path, schema_with(**fields))


def test_a_catalogue_that_is_no_parquet_or_lacks_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptArtifact, match=r"items\.parquet"):
        load(tmp_path, lambda staging: (staging / "items.parquet").write_bytes(b"PAR1"))
    ids_only = release().items.select(["item_id"])
    with pytest.raises(CorruptArtifact, match="lacks title"):
        load(tmp_path / "other", lambda staging: pq.write_table(ids_only, staging / "items.parquet"))


WITH_RANKER = replace(ADAPTERS, open_ranker=OnnxRanker)
NAMES = ("similarity", "transition", "log_popularity", "is_new")


def with_diversity(staging: Path) -> None:
    diversity = diversity_of(release().modalities, 30)
    np.save(staging / "diversity.npy", diversity.vectors)
    np.save(staging / "diversity_projection.npy", diversity.projection)


def with_ranker(*, features: tuple[str, ...] = NAMES, query_dim: int = 0) -> Change:
    def change(staging: Path) -> None:
        weights = {"p_click": [1.0] * len(features), "p_buy": [0.5] * len(features)}
        write_ranker(staging / "ranker.onnx", weights, features=features, query_dim=query_dim)
        schema_with(ranker_features=features, ranker_outputs=("p_click", "p_buy"))(staging)

    return change


def test_compact_content_is_read_where_it_is_there_and_computed_where_it_is_not(tmp_path: Path) -> None:
    stored, older = load(tmp_path, with_diversity), load(tmp_path / "older")
    assert stored.stored_diversity is not None
    assert type(stored.diversity.vectors) is np.ndarray
    assert older.stored_diversity is None
    assert older.diversity is older.diversity
    assert np.array_equal(stored.diversity.vectors, older.diversity.vectors)
    assert np.array_equal(stored.diversity.projection, older.diversity.projection)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("diversity.npy", np.zeros((29, DIM), np.int8)),
        ("diversity.npy", np.zeros((30, DIM), np.float32)),
        ("diversity_projection.npy", np.zeros((DIM, 64), np.float32)),
        ("diversity_projection.npy", np.zeros((2 * DIM, DIM + 1), np.float32)),
    ],
)
def test_compact_content_of_another_release_is_refused(tmp_path: Path, name: str, array: Any) -> None:
    with pytest.raises(CorruptArtifact, match=r"diversity.* does not belong to its 30 items"):
        load(tmp_path, with_diversity, saved(name, array))


@pytest.mark.parametrize("name", ["diversity.npy", "diversity_projection.npy"])
def test_half_of_compact_content_is_missing_the_other_half(tmp_path: Path, name: str) -> None:
    with pytest.raises(MissingArtifact, match=name):
        load(tmp_path, with_diversity, lambda staging: (staging / name).unlink())


def test_a_ranker_comes_with_the_release_and_a_formula_must_weigh_what_it_gives(tmp_path: Path) -> None:
    store, release_id = write_release(tmp_path, release(), with_ranker())
    loaded = load_release(store, release_id, WITH_RANKER)
    assert loaded.ranker is not None
    assert loaded.ranker.feature_names == loaded.schema.ranker_features == NAMES
    require_value(loaded, {"p_buy": 5.0})
    require_value(release(), {"p_buy": 5.0})  # valued by its blend
    with pytest.raises(ArtifactError, match=r"weighs p_like, and the ranker of release .* gives p_click, p_buy"):
        require_value(loaded, {"p_like": 1.0})
    assert load_release(store, release_id, ADAPTERS).ranker is None


def test_a_release_from_before_rankers_loads(tmp_path: Path) -> None:
    def older(staging: Path) -> None:
        path = staging / "serving.json"
        fields = json.loads(path.read_text())
        path.write_text(json.dumps({name: fields[name] for name in fields if not name.startswith("ranker")}))

    store, release_id = write_release(tmp_path, release(), older)
    assert load_release(store, release_id, WITH_RANKER).ranker is None


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda staging: (staging / "ranker.onnx").unlink(), MissingArtifact, r"no ranker\.onnx"),
        (schema_with(ranker_features=(), ranker_outputs=()), CorruptArtifact, "knows nothing of ranker"),
        (schema_with(ranker_outputs=("p_click",)), CorruptArtifact, "other than serving.json says"),
        (schema_with(ranker_features=NAMES[::-1]), CorruptArtifact, "other than serving.json says"),
        (with_ranker(features=("similarity", "age")), ArtifactError, "reads age"),
        (with_ranker(query_dim=DIM + 1), CorruptArtifact, r"ranker\.onnx does not belong"),
    ],
)
def test_a_ranker_that_does_not_belong_is_refused(
    tmp_path: Path, change: Change, error: type[Exception], says: str
) -> None:
    store, release_id = write_release(tmp_path, release(), with_ranker(), change)
    with pytest.raises(error, match=says):
        load_release(store, release_id, WITH_RANKER)


# Id vectors


def with_id_vectors(staging: Path) -> None:
    np.save(staging / "id_vectors.npy", np.ones((30, DIM), np.float32))
    np.save(staging / "id_present.npy", np.arange(30) % 2 == 0)


def test_id_vectors_are_there_where_the_release_carries_them(tmp_path: Path) -> None:
    stored, older = load(tmp_path, with_id_vectors), load(tmp_path / "older")
    assert stored.id_vectors is not None
    assert isinstance(stored.id_vectors.vectors.base, np.memmap)  # shared by all workers, and read only to explain
    assert stored.id_vectors.present.tolist() == [True, False] * 15
    assert older.id_vectors is None


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("id_vectors.npy", np.ones((29, DIM), np.float32)),
        ("id_vectors.npy", np.ones((30, DIM + 1), np.float32)),
        ("id_present.npy", np.ones(29, np.bool_)),
    ],
)
def test_id_vectors_of_other_rows_or_width_are_refused(tmp_path: Path, name: str, array: Any) -> None:
    with pytest.raises(CorruptArtifact, match=rf"{name} does not belong to its 30 items"):
        load(tmp_path, with_id_vectors, saved(name, array))


@pytest.mark.parametrize("name", ["id_vectors.npy", "id_present.npy"])
def test_one_file_of_the_id_vectors_without_the_other_is_missing(tmp_path: Path, name: str) -> None:
    with pytest.raises(MissingArtifact, match=name):
        load(tmp_path, with_id_vectors, lambda staging: (staging / name).unlink())
