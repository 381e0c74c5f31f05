"""One worker: what it encodes is what was planned, in the planned order, once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from embeddings.contents import Candidate
from embeddings.engines.leases import Leases
from embeddings.engines.ray_actor import ShardActor
from embeddings.engines.shard_worker import ShardWorker, with_refused
from embeddings.engines.todo import MAX_TRIES, Planned, Todo
from embeddings.fake_encoder import FakeEncoder
from embeddings.ledger import Ledger
from embeddings.prepare import Prepared
from embeddings.preprocess.features import Content
from embeddings.refused import Refused
from embeddings.shards import ShardStore, shard_path, write_manifest
from tests.embeddings.conftest import picture, saved
from tests.embeddings.engines.catalogues import image_spec, text_spec

TEXT, IMAGE = FakeEncoder("text").space, FakeEncoder("image").space


def planned_texts(*words: str) -> list[Planned]:
    return [Planned(Candidate(word, "", hashlib.sha256(word.encode()).digest()), word) for word in words]


def planned_files(folder: Path, *names: str) -> list[Planned]:
    return [
        Planned(Candidate(name, name, hashlib.sha256((folder / name).read_bytes()).digest()), None) for name in names
    ]


def test_a_file_that_changed_since_the_plan_is_refused_with_that_reason(tmp_path: Path) -> None:
    for at in range(3):
        (tmp_path / f"{at}.png").write_bytes(saved(picture(8, 8, seed=at)))
    todo = Todo(tmp_path / "store")
    plan = planned_files(tmp_path, "0.png", "1.png", "2.png")
    todo.write(0, plan)
    (tmp_path / "1.png").write_bytes(saved(picture(8, 8, seed=9)))
    with ShardWorker(image_spec(tmp_path / "store", tmp_path)) as worker:
        (done,) = worker.run(Leases(todo, numbers=[0]))
    store = ShardStore.open(tmp_path / "store", IMAGE)
    assert done.n_encoded == 2
    assert list(store.read(0).item_ids) == ["0.png", "2.png"]
    ((content_hash, (reason, message)),) = store.shards[0].unread.items()
    assert (content_hash, reason) == (plan[1].candidate.content_hash.hex(), "changed")
    assert message.startswith("1.png changed while the job ran")


def test_a_file_that_is_gone_does_not_harm_its_neighbours(tmp_path: Path) -> None:
    for at in range(3):
        (tmp_path / f"{at}.png").write_bytes(saved(picture(8, 8, seed=at)))
    todo = Todo(tmp_path / "store")
    todo.write(0, planned_files(tmp_path, "0.png", "1.png", "2.png"))
    (tmp_path / "2.png").unlink()  # the last one: nothing comes after it
    with ShardWorker(image_spec(tmp_path / "store", tmp_path, decode_workers=1)) as worker:
        list(worker.run(Leases(todo, numbers=[0])))
    store = ShardStore.open(tmp_path / "store", IMAGE)
    assert list(store.read(0).item_ids) == ["0.png", "1.png"]
    assert [reason for reason, _ in store.shards[0].unread.values()] == ["not_found"]
    assert not Ledger.of(store).refused  # it is the file that failed, not the content: another item may have it


def test_a_shard_that_has_its_marker_is_not_encoded_again(tmp_path: Path) -> None:
    todo = Todo(tmp_path)
    write_manifest(tmp_path, TEXT)
    with ShardWorker(text_spec(tmp_path)) as worker:
        todo.write(0, planned_texts("one", "two"))
        assert [done.n_encoded for done in worker.run(Leases(todo, numbers=[0]))] == [2]
        written = shard_path(tmp_path, 0).stat().st_mtime_ns
        todo.write(0, planned_texts("one", "two"))  # as if the worker had died before it took the shard off the list
        assert [done.n_encoded for done in worker.run(Leases(todo, numbers=[0]))] == [2]
        assert shard_path(tmp_path, 0).stat().st_mtime_ns == written
        todo.write(0, planned_texts("one", "three"))  # another plan
        list(worker.run(Leases(todo, numbers=[0])))
    assert list(ShardStore.open(tmp_path, TEXT).read(0).item_ids) == ["one", "three"]
    assert todo.remaining() == []


def test_what_nobody_wants_any_more_is_not_written(tmp_path: Path) -> None:
    todo = Todo(tmp_path)
    todo.write(0, planned_texts("one"))

    class Forgotten(Leases):
        def __iter__(self) -> Iterator:  # type: ignore[type-arg]
            for lease in super().__iter__():
                todo.remove()  # the job was killed, and the next one has begun
                yield lease

    with ShardWorker(text_spec(tmp_path)) as worker:
        assert list(worker.run(Forgotten(todo, numbers=[0]))) == []
    assert not shard_path(tmp_path, 0).exists()


def test_an_actor_gives_one_row_for_each_number_whatever_happens(tmp_path: Path) -> None:
    todo = Todo(tmp_path)
    todo.write(1, planned_texts("one", "two"))
    todo.write(2, planned_texts("three"))
    for _ in range(MAX_TRIES):
        next(iter(Leases(todo, numbers=[2]))).close()
    rows = ShardActor(text_spec(tmp_path).model_dump_json())({"number": np.array([0, 1, 2])})
    assert rows["number"].tolist() == [0, 1, 2]
    assert rows["event"].tolist() == ["before", "done", "left"]
    assert rows["n_encoded"].tolist() == [0, 2, 0]


def test_an_actor_with_other_weights_says_so(tmp_path: Path) -> None:
    spec = text_spec(tmp_path).model_copy(update={"space": FakeEncoder("text", seed=1).space})
    rows = ShardActor(spec.model_dump_json())({"number": np.array([0, 1])})
    assert rows["event"].tolist() == ["failed", "failed"]
    assert rows["error_kind"].tolist() == ["SpaceMismatch"] * 2


@given(st.lists(st.booleans(), max_size=20), st.integers(1, 5))
def test_what_could_not_be_read_keeps_its_place(are_good: list[bool], ahead: int) -> None:
    candidates = [Candidate(str(at), "", bytes(32)) for at in range(len(are_good))]

    def contents() -> Iterator[tuple[Candidate, Content | Refused]]:
        for candidate, is_good in zip(candidates, are_good, strict=True):
            yield candidate, "a text" if is_good else Refused("not_found", "gone")

    def prepare(good: Iterator[tuple[Candidate, Content]]) -> Iterator[Prepared]:
        """Runs ahead of its consumer, as the real ones do."""
        waiting: list[Prepared] = []
        for candidate, _ in good:
            waiting.append((candidate, np.zeros(1)))
            if len(waiting) >= ahead:
                yield waiting.pop(0)
        yield from waiting

    found = list(with_refused(contents(), prepare))
    assert [candidate for candidate, _ in found] == candidates
    assert [not isinstance(features, Refused) for _, features in found] == are_good
