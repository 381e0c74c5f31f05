"""Planning: what a killed run committed is kept, what it read is not read again, and stale shards go."""

from __future__ import annotations

from pathlib import Path

from embeddings.embed import EmbedOptions, embed_items
from embeddings.engines.planning import Plan
from embeddings.engines.run import EngineConfig, embed_with_engine
from embeddings.engines.todo import Todo
from embeddings.fake_encoder import FakeEncoder
from embeddings.refused import Refused
from embeddings.shards import ShardStore, marker_path
from tests.embeddings.conftest import picture, saved
from tests.embeddings.engines.catalogues import LIMITS, options, stored_bytes, text_spec, texts

ONE = EngineConfig(kind="processes", workers=1)


class CountingReader:
    """Contents from memory; counts what is read."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self.contents = contents
        self.n_read = 0

    def stamp(self, reference: str) -> str | None:
        return f"{len(self.contents[reference])} bytes" if reference in self.contents else None

    def read(self, reference: str) -> bytes:
        if reference not in self.contents:
            raise Refused("not_found", f"{reference} is not there")
        self.n_read += 1
        return self.contents[reference]

    def close(self) -> None: ...


def planned(store: Path, space_of: FakeEncoder, chosen: EmbedOptions) -> Plan:
    return Plan(ShardStore.open(store, space_of.space), Todo(store), chosen)


def test_shards_that_a_killed_run_committed_out_of_order_are_kept(tmp_path: Path) -> None:
    encoder = FakeEncoder("text")
    embed_items(texts(40), encoder, tmp_path / "whole", options=options())
    store = tmp_path / "whole"
    whole = stored_bytes(store)
    for lost in (2, 4):  # 0, 1, 3, 5 and 6 were committed when it was killed
        marker_path(store, lost).unlink()
    plan = planned(store, encoder, options())
    plan.walk(texts(40), None, attend=lambda: None)
    assert plan.numbers == [2, 4]
    report = embed_with_engine(texts(40), text_spec(store), ONE, options=options())
    assert report.n_encoded == 12
    assert stored_bytes(store) == whole


def test_shards_of_a_catalogue_that_has_changed_since_are_forgotten(tmp_path: Path) -> None:
    encoder, store = FakeEncoder("text"), tmp_path / "store"
    embed_items(texts(40), encoder, store, options=options())
    marker_path(store, 1).unlink()
    others = [*texts(40)[:8], *((f"new-{at}", f"a new film {at}") for at in range(10))]
    embed_with_engine(others, text_spec(store), ONE, options=options())
    rows = [list(shard.item_ids) for shard in ShardStore.open(store, encoder.space)]
    # of the eight old ones, item-3 has no text and the first six others stand in shard 0
    assert rows[1:] == [["item-7", *(f"new-{at}" for at in range(5))], [f"new-{at}" for at in range(5, 10)]]
    assert sorted(path.name for path in store.glob("shard-*")) == [
        f"shard-{at:06d}.{suffix}" for at in range(3) for suffix in ("json", "parquet")
    ]


def test_what_was_read_for_a_plan_is_not_read_for_the_next(tmp_path: Path) -> None:
    contents = {f"{at}.png": saved(picture(8, 8 + at)) for at in range(10)}
    items = [(name, name) for name in [*contents, "nowhere.png"]]
    reader, encoder = CountingReader(contents), FakeEncoder("image")
    chosen = EmbedOptions(shard_size=4, limits=LIMITS, readers=2, references=tmp_path / "references")
    first = planned(tmp_path / "store", encoder, chosen)
    first.walk(items, reader, attend=lambda: None)
    assert reader.n_read == 10
    again = planned(tmp_path / "store", encoder, chosen)  # the first was killed before anything was encoded
    again.walk(items, reader, attend=lambda: None)
    assert reader.n_read == 10
    assert again.numbers == first.numbers == [0, 1, 2]
    for number in first.numbers:
        lease = again.todo.lease(number)
        assert lease is not None
        names = [each.candidate.reference for each in lease.contents()]
        assert names == [f"{at}.png" for at in range(4 * number, min(4 * number + 4, 10))]
