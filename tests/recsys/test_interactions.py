"""Interactions as sequences, and as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import CorruptArtifact, MissingArtifact
from recsys.interactions import (
    INTERACTIONS_SCHEMA,
    MAX_EVENT_TYPES,
    duplicate_rows,
    read_table,
    to_sequences,
    with_event_ids,
    write_table,
)
from recsys.vocabulary import Vocabulary

ITEMS = Vocabulary(["a", "b", "c", "d"])


def table(rows: list[dict[str, Any]]) -> pa.Table:
    filled = [{"event_id": str(n), "event_type": "click", "line": n + 1, **row} for n, row in enumerate(rows)]
    return pa.Table.from_pylist(filled, schema=INTERACTIONS_SCHEMA)


def history(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    """user_id → item_ids in order."""
    sequences = to_sequences(table(rows), ITEMS)
    return {
        user_id: [ITEMS.item_ids[row] for row in sequences.item_rows[sequences.of(user_row)]]
        for user_row, user_id in enumerate(sequences.user_ids)
    }


def event(user_id: str, item_id: str, occurred_at_ms: int | None = None, position: int | None = None) -> dict[str, Any]:
    return {"user_id": user_id, "item_id": item_id, "occurred_at_ms": occurred_at_ms, "position": position}


def test_users_come_in_the_order_of_their_first_row() -> None:
    assert list(history([event("z", "a"), event("b", "a"), event("z", "b")])) == ["z", "b"]


def test_time_orders_a_history_and_ties_keep_the_order_of_the_file() -> None:
    rows = [event("u", "a", 30), event("u", "b", 10), event("u", "c", 30), event("u", "d", 20)]
    assert history(rows) == {"u": ["b", "d", "a", "c"]}


def test_position_goes_before_time() -> None:
    rows = [event("u", "a", 10, 2), event("u", "b", 20, 0), event("u", "c", 30, 1)]
    assert history(rows) == {"u": ["b", "c", "a"]}


def test_with_neither_the_file_orders() -> None:
    sequences = to_sequences(table([event("u", "b"), event("v", "c"), event("u", "a")]), ITEMS)
    assert sequences.item_rows.tolist() == [1, 0, 2]
    assert not sequences.ordered


def test_positions_break_ties_of_time_when_new_events_have_only_time() -> None:
    rows = [event("u", "a", 10, 1), event("u", "b", 10, 0), event("u", "c", 5)]
    assert history(rows) == {"u": ["c", "b", "a"]}


def test_new_events_follow_a_history_that_has_only_positions() -> None:
    rows = [event("u", "c", 99), event("u", "b", None, 1), event("u", "a", None, 0), event("u", "d", 98)]
    assert history(rows) == {"u": ["a", "b", "d", "c"]}


def test_each_user_is_ordered_by_what_that_user_has() -> None:
    rows = [event("u", "a", None, 1), event("v", "a", 2), event("u", "b", None, 0), event("v", "b", 1)]
    assert history(rows) == {"u": ["b", "a"], "v": ["b", "a"]}


def test_unknown_items_are_left_out_and_so_are_users_of_nothing_else() -> None:
    assert history([event("u", "z"), event("v", "z"), event("v", "a")]) == {"v": ["a"]}


def test_event_types_are_coded_by_name_and_absent_times_are_zero() -> None:
    rows = [
        {**event("u", "a", 5), "event_type": "view"},
        {**event("u", "b", 6), "event_type": "buy"},
        {**event("v", "c"), "event_type": "unknown"},
    ]
    sequences = to_sequences(table(rows), ITEMS)
    assert sequences.event_type_names == ("unknown", "buy", "view")
    assert sequences.event_types.tolist() == [2, 1, 0]
    assert sequences.occurred_at_ms.tolist() == [5, 6, 0]
    assert sequences.ordered


def test_rare_event_types_beyond_the_limit_are_unknown() -> None:
    rows = [{**event("u", "a", n), "event_type": f"t{n // 2:03d}"} for n in range(2 * MAX_EVENT_TYPES)]
    rows = rows[:-1]  # the last type occurs once, the others twice
    sequences = to_sequences(table(rows), ITEMS)
    assert len(sequences.event_type_names) == MAX_EVENT_TYPES
    assert sequences.event_types[-1] == 0
    assert (sequences.event_types[:-1] > 0).all()


def test_no_interactions_make_no_sequences() -> None:
    sequences = to_sequences(INTERACTIONS_SCHEMA.empty_table(), ITEMS)
    assert (sequences.n_users, sequences.n_events) == (0, 0)
    assert sequences.event_type_names == ("unknown", "interaction")


NULLABLE = pa.schema([each.with_nullable(True) for each in INTERACTIONS_SCHEMA])
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "user_id": st.sampled_from(["u", "v"]),
            "item_id": st.sampled_from(["a", "b"]),
            "value": st.sampled_from([None, 0.0, 1.5]),
            "occurred_at_ms": st.sampled_from([None, 0, 7]),
        }
    ),
    min_size=1,
    max_size=12,
)


@given(ROWS, st.randoms())
def test_event_ids_do_not_depend_on_the_order_of_the_file(rows: list[dict[str, Any]], shuffle: Any) -> None:
    def ids(some: list[dict[str, Any]]) -> list[str]:
        filled = [{**row, "event_type": "click"} for row in some]
        event_ids: list[str] = with_event_ids(pa.Table.from_pylist(filled, schema=NULLABLE))["event_id"].to_pylist()
        return event_ids

    first = ids(rows)
    shuffled = list(rows)
    shuffle.shuffle(shuffled)
    assert len(set(first)) == len(rows)
    assert set(ids(shuffled)) == set(first)


def test_given_event_ids_stay_and_only_absent_ones_are_filled() -> None:
    rows = [{**event("u", "a"), "event_id": "mine", "event_type": "click"}, {**event("u", "a"), "event_type": "click"}]
    filled = with_event_ids(pa.Table.from_pylist(rows, schema=NULLABLE))["event_id"].to_pylist()
    assert filled[0] == "mine"
    assert len(filled[1]) == 32


def test_every_later_row_with_one_event_id_is_a_duplicate() -> None:
    rows = [{**event("u", "a"), "event_id": each} for each in "xyxzxy"]
    assert duplicate_rows(table(rows)).tolist() == [False, False, True, False, True, True]


AB_SCHEMA = pa.schema([("a", pa.int64()), ("b", pa.string())])


def test_a_table_is_written_with_the_same_bytes_each_time_and_read_back(tmp_path: Path) -> None:
    original = pa.table({"a": [1, None], "b": ["x", "y"]})
    write_table(original, tmp_path / "one.parquet")
    write_table(pa.concat_tables([original.slice(0, 1), original.slice(1)]), tmp_path / "two.parquet")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    assert read_table(tmp_path / "one.parquet", AB_SCHEMA).equals(original)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["one.parquet", "two.parquet"]


def test_a_table_that_is_missing_or_damaged_says_what_to_run(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    with pytest.raises(MissingArtifact, match="recsys validate"):
        read_table(path, AB_SCHEMA)
    path.write_bytes(b"PAR1" * 9)
    with pytest.raises(CorruptArtifact, match="recsys validate"):
        read_table(path, AB_SCHEMA)
    write_table(pa.table({"c": [1]}), path)
    with pytest.raises(CorruptArtifact, match="other columns"):
        read_table(path, AB_SCHEMA)
