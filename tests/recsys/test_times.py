"""Times are read exactly or refused, one by one and by the column alike."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recsys.ingest.findings import Findings
from recsys.ingest.times import times_ms
from recsys.quarantine import RowRefused
from recsys.times import TimeRules, parse_time_ms

MAY_MS = 1_777_636_800_000  # 2026-05-01T12:00:00Z


@pytest.mark.parametrize(
    "text",
    [
        "2026-05-01T12:00:00Z",
        "2026-05-01t12:00:00z",
        "2026-05-01 12:00:00Z",
        "2026-05-01T12:00Z",
        " 2026-05-01T12:00:00.000Z ",
        "2026-05-01T14:00:00+02:00",
        "2026-05-01T14:00:00+0200",
        "2026-05-01 14:00:00+02",  # PostgreSQL
        "2026-05-01 12:00:00 UTC",  # BigQuery
        "2026-05-01 12:00:00.000000 UTC",
        "2026-05-01 12:00:00 +0000 UTC",  # Go, so Gorse
        "2026-05-01 20:00:00.000000999 +0800 CST",
        "2026-05-01T06:30:00-05:30",
    ],
)
def test_every_way_to_write_a_time_with_its_zone_is_read(text: str) -> None:
    assert parse_time_ms(text, "t") == MAY_MS
    assert times_ms(pa.array([text]), "t", TimeRules(), Findings(1)).to_pylist() == [MAY_MS]


def test_milliseconds_are_rounded_down() -> None:
    assert parse_time_ms("2026-05-01T12:00:00.001999Z", "t") == MAY_MS + 1
    assert parse_time_ms("1969-12-31T23:59:59.9995Z", "t") == -1


def test_a_date_is_midnight_in_the_configured_zone() -> None:
    in_tokyo = TimeRules("Asia/Tokyo")
    assert parse_time_ms("2026-05-02", "t", in_tokyo) == MAY_MS + 3 * 3_600_000  # 15:00 UTC the day before
    assert parse_time_ms(date(2026, 5, 2), "t", in_tokyo) == MAY_MS + 3 * 3_600_000


def test_datetimes_are_taken_with_their_zone() -> None:
    assert parse_time_ms(datetime(2026, 5, 1, 14, tzinfo=timezone(timedelta(hours=2))), "t") == MAY_MS
    assert parse_time_ms(datetime.fromtimestamp(MAY_MS / 1000, UTC), "t") == MAY_MS


@pytest.mark.parametrize("value", [10**30, "9" * 18, float("inf"), -1e300])
def test_numbers_beyond_all_calendars_are_refused(value: Any) -> None:
    with pytest.raises(RowRefused):
        parse_time_ms(value, "t", TimeRules(time_format="epoch_s"))


def in_turn(value: Any, rules: TimeRules) -> tuple[int | None, str]:
    try:
        return parse_time_ms(value, "t", rules), ""
    except RowRefused as refused:
        return None, refused.reason


def by_column(values: list[Any], rules: TimeRules) -> list[tuple[int | None, str]]:
    findings = Findings(len(values))
    times = times_ms(values, "t", rules, findings).to_pylist()
    reason_of = {fault.row: fault.reason for fault in findings}
    return [(time, reason_of.get(row, "")) for row, time in enumerate(times)]


DIGITS = st.integers(-(10**13), 10**13)
PARTS = st.builds(
    "{:04d}-{:02d}-{:02d}{}{:02d}:{:02d}{}{}".format,
    st.integers(1900, 2200),
    st.integers(0, 13),
    st.integers(0, 32),
    st.sampled_from(["T", " ", "t", "x"]),
    st.integers(0, 25),
    st.integers(0, 61),
    st.sampled_from(["", ":00", ":59.5", ":61", ":01.123456789", ":1"]),
    st.sampled_from(["", "Z", "z", " UTC", "+02:00", "-0930", "+05", " +0000 UTC", "+25:00", "+00:99", "Q"]),
)
VALUES = st.one_of(
    st.none(), PARTS, DIGITS, DIGITS.map(str), st.text(max_size=12), st.floats(-1e12, 1e12), st.booleans()
)
RULES = st.builds(
    TimeRules, st.sampled_from([None, "UTC", "Asia/Tokyo"]), st.sampled_from(["rfc3339", "epoch_s", "epoch_ms"])
)


@given(st.lists(VALUES, max_size=8), RULES)
@example(["2026-05-01T12:00:00Z", "1777636800", "2026-05-01", None, "x"], TimeRules("UTC", "epoch_s"))
def test_a_column_at_once_is_read_as_one_value_after_the_other(values: list[Any], rules: TimeRules) -> None:
    assert by_column(values, rules) == [in_turn(value, rules) for value in values]


@given(st.lists(st.one_of(st.none(), PARTS, DIGITS.map(str)), max_size=8), RULES)
def test_a_column_of_text_is_read_as_one_value_after_the_other(values: list[Any], rules: TimeRules) -> None:
    assert by_column(values, rules) == [in_turn(value, rules) for value in values]
