from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.errors import CorruptArtifact
from recsys.ports import Store
from recsys.storage.event_export import export_events
from recsys.storage.urls import open_store
from tests.contracts.events import event
from tests.recsys.storage.kills import killed_at_every_step


def exported(directory: Path) -> list[str]:
    """Event ids in the order of the files, read as any reader of `*.parquet` would."""
    return [row for path in sorted(directory.glob("*.parquet")) for row in pq.read_table(path)["event_id"].to_pylist()]


def sqlite_store(root: Path, n_events: int) -> Store:
    store = open_store(f"sqlite:///{root}/store.db")
    store.append([event(number) for number in range(n_events)])
    return store


def test_each_event_is_exported_once_however_often_one_asks(store: Store, tmp_path: Path) -> None:
    directory = tmp_path / "events"
    first = export_events(store, directory)
    assert (first.n_events, first.files, first.last_cursor, exported(directory)) == (0, (), "", [])
    store.append([event(number) for number in range(5)])
    second = export_events(store, directory, events_a_file=2)
    assert (second.n_events, [path.name for path in second.files]) == (
        5,
        ["events-000001.parquet", "events-000002.parquet", "events-000003.parquet"],
    )
    assert export_events(store, directory).n_events == 0
    store.append([event(3), event(5)])
    assert export_events(store, directory).n_events == 1
    assert exported(directory) == [f"e{number}" for number in range(6)]


def test_the_columns_are_those_of_interactions(tmp_path: Path) -> None:
    store = open_store("memory://")
    full = replace(
        event(1),
        occurred_at=datetime(2024, 5, 1, 12, 0, 0, 250_000, tzinfo=UTC),
        event_type="purchase",
        value=2.5,
        context={"device": "tv", "é": [1]},
        recommendation_id="r1",
        position=3,
    )
    store.append([full, event(2)])
    export_events(store, tmp_path)
    table = pq.read_table(tmp_path / "events-000001.parquet")
    assert table.schema.field("occurred_at").type == pa.timestamp("ms", tz="UTC")
    rows = table.to_pylist()
    assert json.loads(rows[0].pop("context")) == {"device": "tv", "é": [1]}
    assert rows[0] == {
        "event_id": "e1",
        "user_id": "ann",
        "item_id": "i1",
        "occurred_at": full.occurred_at,
        "event_type": "purchase",
        "value": 2.5,
        "recommendation_id": "r1",
        "position": 3,
    }
    assert [rows[1][name] for name in ("value", "context", "recommendation_id", "position")] == [None] * 4


def test_a_kill_at_any_step_neither_loses_nor_repeats_an_event(tmp_path: Path) -> None:
    for root in killed_at_every_step(
        tmp_path,
        prepare=lambda root: sqlite_store(root, 5).close(),
        work=lambda root: export_events(open_store(f"sqlite:///{root}/store.db"), root / "e", events_a_file=2),
    ):
        store = open_store(f"sqlite:///{root}/store.db")
        assert exported(root / "e") == [f"e{number}" for number in range(len(exported(root / "e")))]
        store.append([event(5)])
        export_events(store, root / "e")
        assert exported(root / "e") == [f"e{number}" for number in range(6)]
        assert {path.suffix for path in (root / "e").iterdir()} == {".parquet"}
        store.close()


def test_a_folder_without_files_starts_at_the_cursor_given(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path, 4)
    cursors = [cursor for cursor, _ in store.read()]
    export_events(store, tmp_path / "e", after_cursor=cursors[1])
    assert exported(tmp_path / "e") == ["e2", "e3"]
    export_events(store, tmp_path / "e", after_cursor=cursors[0])  # the files know better
    assert exported(tmp_path / "e") == ["e2", "e3"]


def test_after_the_store_was_replaced_the_new_log_is_exported_from_its_start(tmp_path: Path) -> None:
    export_events(sqlite_store(tmp_path, 3), tmp_path / "e")
    new = open_store("memory://")
    new.append([event(10), event(11)])
    report = export_events(new, tmp_path / "e")
    assert (report.n_events, report.started_anew) == (2, True)
    assert exported(tmp_path / "e") == ["e0", "e1", "e2", "e10", "e11"]
    assert not export_events(new, tmp_path / "e").started_anew


def test_a_latest_file_that_cannot_be_read_stops_the_export(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path, 3)
    export_events(store, tmp_path / "e")
    (tmp_path / "e" / "events-000001.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(CorruptArtifact, match=r"events-000001\.parquet cannot be read"):
        export_events(store, tmp_path / "e")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "e" / "events-000001.parquet")
    with pytest.raises(CorruptArtifact, match="not of this export"):
        export_events(store, tmp_path / "e")
