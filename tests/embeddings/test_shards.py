"""What lies on disk is what was written, in the space that it names, or it is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embeddings.embed import embed_items
from embeddings.fake_encoder import FakeEncoder
from embeddings.item_text import text_hash
from embeddings.ledger import Ledger
from embeddings.shards import NewShard, ShardRows, ShardStore, committed, store_folder, write_atomically
from embeddings.stored import gather, read_items
from recsys.errors import CorruptArtifact, EnvironmentProblem, MissingArtifact, SpaceMismatch
from recsys.manifest import EmbeddingSpace

SPACE = FakeEncoder("text", dim=4).space
OTHER = FakeEncoder("text", dim=4, seed=1).space


def shard(*names: str, refused: Sequence[str] = ()) -> NewShard:
    vectors = np.arange(4 * len(names)).reshape(-1, 4).astype(np.float16)
    rows = ShardRows(
        list(names), [text_hash(name) for name in names], vectors, [text_hash(f"{name} seen")[:32] for name in names]
    )
    return NewShard(rows, plan="-".join(names), refused={text_hash(name): ("damaged", "cut off") for name in refused})


@pytest.fixture
def store(tmp_path: Path) -> ShardStore:
    return ShardStore.open(tmp_path, SPACE).append(shard("a", "b")).append(shard("c", refused=["bad"]))


def test_what_is_written_is_read_back(store: ShardStore) -> None:
    reopened = ShardStore.open(store.directory, SPACE)
    assert [list(shard.item_ids) for shard in reopened] == [["a", "b"], ["c"]]
    assert next(iter(reopened)).vectors.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert next(iter(reopened)).vectors.dtype == np.float16


def test_a_shard_is_plain_parquet_that_names_its_space(store: ShardStore) -> None:
    schema = pq.read_schema(store.directory / "shard-000000.parquet")
    assert schema.field("vector").type == pa.list_(pa.float16(), 4)
    assert schema.names == ["item_id", "content_hash", "features_hash", "vector"]
    assert schema.metadata[b"space_id"].decode() == SPACE.space_id
    assert EmbeddingSpace.model_validate_json(schema.metadata[b"space"]) == SPACE


def test_the_same_rows_give_the_same_bytes(store: ShardStore, tmp_path: Path) -> None:
    again = ShardStore.open(tmp_path / "again", SPACE).append(shard("a", "b"))
    name = "shard-000000.parquet"
    assert (again.directory / name).read_bytes() == (store.directory / name).read_bytes()


def test_another_space_is_refused(store: ShardStore) -> None:
    with pytest.raises(SpaceMismatch, match="weights_sha256"):
        ShardStore.open(store.directory, OTHER)


def test_a_shard_smuggled_in_from_another_space_is_refused(store: ShardStore, tmp_path: Path) -> None:
    foreign = ShardStore.open(tmp_path / "foreign", OTHER).append(shard("a", "b"))
    smuggled = store.directory / "shard-000000.parquet"
    smuggled.write_bytes((foreign.directory / smuggled.name).read_bytes())
    marker = json.loads((store.directory / "shard-000000.json").read_text())
    marker["sha256"] = foreign.shards[0].sha256
    (store.directory / "shard-000000.json").write_text(json.dumps(marker))
    with pytest.raises(SpaceMismatch, match="another embedding space"):
        list(ShardStore.open(store.directory, SPACE))


@pytest.mark.parametrize("at", [0, 4, 100, -1])
def test_one_changed_byte_is_found(store: ShardStore, at: int) -> None:
    path = store.directory / "shard-000001.parquet"
    damaged = bytearray(path.read_bytes())
    damaged[at] ^= 1
    path.write_bytes(bytes(damaged))
    with pytest.raises(CorruptArtifact, match="shard-000001"):
        Ledger.of(store)
    with pytest.raises(CorruptArtifact, match="recsys embed"):
        gather(store.directory, SPACE, [text_hash("a")])


def test_a_missing_shard_is_named(store: ShardStore) -> None:
    (store.directory / "shard-000000.parquet").unlink()
    with pytest.raises(MissingArtifact, match="shard-000000"):
        list(store)


@pytest.mark.parametrize("name", ["manifest.json", "shard-000001.json"])
def test_a_damaged_manifest_or_marker_is_refused(store: ShardStore, name: str) -> None:
    (store.directory / name).write_text("{")
    with pytest.raises(CorruptArtifact, match="embed again"):
        ShardStore.open(store.directory, SPACE)


def test_a_shard_without_a_marker_does_not_count(store: ShardStore) -> None:
    (store.directory / "shard-000002.parquet").write_bytes(b"half written")
    assert len(list(ShardStore.open(store.directory, SPACE))) == 2
    longer = store.append(shard("d"))
    assert [list(each.item_ids) for each in longer] == [["a", "b"], ["c"], ["d"]]


def test_a_shard_counts_when_all_before_it_do(store: ShardStore) -> None:
    store.append(shard("d"))
    (store.directory / "shard-000001.json").unlink()
    assert [list(each.item_ids) for each in ShardStore.open(store.directory, SPACE)] == [["a", "b"]]
    assert committed(store.directory, 2, "d") is not None
    assert committed(store.directory, 2, "another plan") is None
    assert committed(store.directory, 3, "d") is None


def test_the_ledger_knows_where_each_content_lies(store: ShardStore) -> None:
    ledger = Ledger.of(store)
    assert ledger.places[bytes.fromhex(text_hash("b"))] == (0, 1)
    assert ledger.places[bytes.fromhex(text_hash("c"))] == (1, 0)
    assert ledger.same_features[bytes.fromhex(text_hash("b seen")[:32])] == (0, 1)
    assert ledger.refused == {bytes.fromhex(text_hash("bad")): ("damaged", "cut off")}
    assert bytes.fromhex(text_hash("bad")) in ledger
    assert bytes.fromhex(text_hash("d")) not in ledger


def test_gathered_vectors_are_normalised_and_missing_rows_are_masked(store: ShardStore) -> None:
    vectors, present = gather(store.directory, SPACE, [text_hash("b"), None, text_hash("nobody"), text_hash("b")])
    assert present.tolist() == [True, False, False, True]
    np.testing.assert_allclose(vectors[0], np.array([4, 5, 6, 7]) / np.sqrt(16 + 25 + 36 + 49), rtol=1e-6)
    assert not vectors[1:3].any()
    assert (vectors[3] == vectors[0]).all()
    assert vectors.dtype == np.float32


def test_gathering_from_no_store_says_which_job_makes_it(tmp_path: Path) -> None:
    with pytest.raises(MissingArtifact, match="run `recsys embed`"):
        gather(tmp_path, SPACE, [text_hash("a")])
    with pytest.raises(MissingArtifact, match="run `recsys embed`"):
        read_items(tmp_path)


def test_a_catalogue_without_any_content_gathers_an_empty_modality(tmp_path: Path) -> None:
    report = embed_items([("a", None)], FakeEncoder("text"), tmp_path)
    vectors, present = gather(tmp_path, FakeEncoder("text").space, [report.content_hashes.get("a")])
    assert vectors.shape == (1, 64)
    assert not present.any()


def test_each_space_has_a_folder_of_its_own(tmp_path: Path) -> None:
    assert store_folder(tmp_path, SPACE) == tmp_path / "text" / SPACE.space_id
    assert store_folder(tmp_path, SPACE) != store_folder(tmp_path, OTHER)


def test_a_refused_write_leaves_the_old_file_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file"
    write_atomically(target, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(EnvironmentProblem, match="No space left on device"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
