"""A column at once obeys the rules that single values obey."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.fields import parse_id
from recsys.ingest.columns import id_column, integer_column, typed_cell
from recsys.ingest.findings import Findings
from recsys.quarantine import RowRefused

TEXTS = st.one_of(
    st.text(max_size=4),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=250, max_size=260),
    st.sampled_from(["", " ", "\u3000", "a\x7f", "a\x9f", "007"]),
)
IDS = st.one_of(st.none(), TEXTS, st.integers(), st.floats(), st.booleans(), st.just(["a"]))


def one_by_one(values: list[Any]) -> list[str | None]:
    ids: list[str | None] = []
    for value in values:
        try:
            ids.append(parse_id(value, "item_id"))
        except RowRefused:
            ids.append(None)
    return ids


def at_once(column: Any, n_rows: int) -> list[str | None]:
    findings = Findings(n_rows)
    ids = id_column(column, "item_id", findings).to_pylist()
    return [None if findings.refused[row] else each for row, each in enumerate(ids)]


@given(st.lists(IDS, max_size=6))
def test_ids_of_any_type_are_accepted_at_once_as_one_by_one(values: list[Any]) -> None:
    assert at_once(values, len(values)) == one_by_one(values)


@given(st.lists(st.one_of(st.none(), TEXTS), max_size=6))
def test_ids_in_arrow_are_accepted_at_once_as_one_by_one(values: list[Any]) -> None:
    assert at_once(pa.array(values, pa.large_string()), len(values)) == one_by_one(values)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("-3", -3),
        ("0", 0),
        ("007", "007"),
        ("2.50", 2.5),
        ("1e5", "1e5"),
        ("nan", "nan"),
        ("9" * 19, "9" * 19),
        ("a|b", ["a", "b"]),
    ],
)
def test_a_csv_field_of_unknown_type_is_what_it_plainly_is(text: str, value: Any) -> None:
    assert typed_cell(text, "|") == value


def test_whole_numbers_may_come_as_fractions_of_nothing() -> None:
    findings = Findings(4)
    read = integer_column(["3.0", "4", "4.5", None], "position", findings, from_text=True)
    assert read.to_pylist() == [3, 4, None, None]
    assert findings.refused.tolist() == [False, False, True, False]
