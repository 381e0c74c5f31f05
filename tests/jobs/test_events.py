"""Events to files and histories to the store: each once, however often the commands run."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.artifacts import load_dataset
from jobs.bootstrap import store_of
from jobs.events import export_job, import_job
from jobs.validate import validate_job
from recsys.workspace import Workspace
from tests.worlds.checkerboard import World, item_id
from tests.worlds.workspaces import NOW, post, write_workspace


@pytest.fixture
def made(tmp_path: Path) -> tuple[Workspace, World]:
    workspace, world = write_workspace(tmp_path, n_items=8, n_users=6)
    validate_job(workspace, now=NOW)
    return workspace, world


def exported(workspace: Workspace) -> list[tuple[str, str]]:
    tables = [pq.read_table(path) for path in sorted(workspace.events_dir.glob("*.parquet"))]
    return [
        pair for each in tables for pair in zip(each["user_id"].to_pylist(), each["item_id"].to_pylist(), strict=True)
    ]


def histories(workspace: Workspace, users: tuple[str, ...]) -> dict[str, list[str]]:
    store = store_of(workspace)
    try:
        return {user: [item.item_id for item in store.user_state(user).history] for user in users}
    finally:
        store.close()


def test_each_event_is_exported_once(made: tuple[Workspace, World]) -> None:
    workspace, _ = made
    first = [("ann", item_id(1)), ("bob", item_id(2))]
    post(workspace, first, NOW - timedelta(hours=3))
    assert export_job(workspace) == ({"events": 2}, 0)
    assert export_job(workspace) == ({"events": 0}, 0)
    post(workspace, first, NOW - timedelta(hours=3))  # the same event ids: duplicates
    post(workspace, [("ann", item_id(1))], NOW - timedelta(hours=2))  # the same visit, later: another event
    assert export_job(workspace) == ({"events": 1}, 0)
    assert exported(workspace) == [*first, ("ann", item_id(1))]


def test_exported_events_are_part_of_the_next_dataset(made: tuple[Workspace, World]) -> None:
    workspace, _ = made
    before = load_dataset(workspace).sequences.n_events
    post(workspace, [("ann", item_id(1)), ("ann", "gone"), ("ann", item_id(3))], NOW - timedelta(hours=3))
    export_job(workspace)
    result, exit_code = validate_job(workspace, now=NOW)
    assert (result["n_quarantined"], exit_code) == (1, 1)  # an item that is not in the catalogue
    sequences = load_dataset(workspace).sequences
    assert sequences.n_events == before + 2
    mine = sequences.of(sequences.user_ids.index("ann"))
    assert sequences.item_rows[mine].tolist() == [1, 3]


def test_the_store_knows_the_histories_of_the_files(made: tuple[Workspace, World]) -> None:
    workspace, world = made
    assert import_job(workspace) == ({"users": 6}, 0)
    expected = {
        user: [item_id(row) for row in world.sequences.item_rows[world.sequences.of(at)]]
        for at, user in enumerate(world.sequences.user_ids)
    }
    assert histories(workspace, world.sequences.user_ids) == expected
    import_job(workspace)
    assert histories(workspace, world.sequences.user_ids) == expected


def test_an_event_that_went_out_and_comes_back_in_counts_once(made: tuple[Workspace, World]) -> None:
    workspace, _ = made
    post(workspace, [("ann", item_id(1)), ("ann", item_id(3))], NOW - timedelta(hours=3))
    export_job(workspace)
    validate_job(workspace, now=NOW)
    assert import_job(workspace) == ({"users": 7}, 0)
    assert histories(workspace, ("ann",)) == {"ann": [item_id(1), item_id(3)]}


def test_another_store_may_be_named(made: tuple[Workspace, World], tmp_path: Path) -> None:
    workspace, _ = made
    url = f"sqlite:///{tmp_path / 'other.sqlite3'}"
    import_job(workspace, store_url=url)
    assert histories(workspace, ("user-0000",)) == {"user-0000": []}
    assert export_job(workspace, store_url=url) == ({"events": 0}, 0)
