"""Which interactions are accepted, and why the others are not."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from recsys.errors import InputError
from tests.recsys.ingest.folder import GOOD, Folder, of_kind, reasons

JANUARY_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z


def one_bad(folder: Folder, bad: dict[str, Any], **config: Any) -> tuple[str, str]:
    """Field and reason of the second of two rows, the first of which must be accepted."""
    validated = folder.jsonl("interactions", [GOOD, {**GOOD, **bad}]).validate(**config)
    assert validated.interactions["line"].to_pylist() == [1]
    [(line, field, reason)] = reasons(validated)
    assert line == 2
    return field, reason


def test_a_full_row_is_read_from_json_lines(folder: Folder) -> None:
    row = {
        **GOOD,
        "event_id": "e1",
        "position": 3,
        "event_type": "buy",
        "value": 4.5,
        "context": {"b": 1, "a": [2]},
        "recommendation_id": "r",
    }
    [read] = folder.jsonl("interactions", [row]).validate().interactions.to_pylist()
    assert read == {
        "event_id": "e1",
        "user_id": "u",
        "item_id": "a",
        "event_type": "buy",
        "value": 4.5,
        "occurred_at_ms": JANUARY_MS,
        "position": 3,
        "context": '{"a":[2],"b":1}',
        "recommendation_id": "r",
        "slate_position": None,
        "file": "interactions.jsonl",
        "line": 1,
    }


def test_the_same_rows_are_the_same_in_every_format(folder: Folder) -> None:
    from_json = folder.jsonl("interactions", [{**GOOD, "value": 4}, {**GOOD, "user_id": "007"}]).validate()
    from_csv = folder.csv(
        "interactions", "user_id,item_id,occurred_at,value", "u,a,2026-01-01T00:00:00Z,4", "007,a,2026-01-01T00:00:00Z,"
    ).validate()
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    from_parquet = folder.parquet(
        "interactions",
        {
            "user_id": ["u", "007"],
            "item_id": ["a", "a"],
            "occurred_at": pa.array([moment, moment], pa.timestamp("us", "UTC")),
            "value": pa.array([4.0, None], pa.float32()),
        },
    ).validate()
    tables = [validated.interactions.drop(["file", "line"]) for validated in (from_json, from_csv, from_parquet)]
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])


def test_a_missing_event_type_is_an_interaction(folder: Folder) -> None:
    rows = [GOOD, {**GOOD, "event_type": "", "item_id": "b"}, {**GOOD, "event_type": "buy"}]
    table = folder.jsonl("interactions", rows).validate().interactions
    assert table["event_type"].to_pylist() == ["interaction", "interaction", "buy"]


def test_a_second_row_with_one_event_id_is_a_duplicate(folder: Folder) -> None:
    rows = [{**GOOD, "event_id": "e"}, {**GOOD, "event_id": "f"}, {**GOOD, "event_id": "e", "item_id": "b"}]
    validated = folder.jsonl("interactions", rows).validate()
    assert reasons(validated) == [(3, "event_id", "duplicate")]
    assert validated.interactions["item_id"].to_pylist() == ["a", "a"]


def test_equal_rows_without_event_id_are_two_events_with_ids_that_do_not_change(folder: Folder) -> None:
    rows = [GOOD, {**GOOD, "item_id": "b"}, GOOD]
    first = folder.jsonl("interactions", rows).validate().interactions["event_id"].to_pylist()
    again = folder.jsonl("interactions", rows[1:] + rows[:1]).validate().interactions["event_id"].to_pylist()
    assert len(set(first)) == 3
    assert set(again) == set(first)


def test_an_exported_event_that_the_main_file_holds_too_is_a_duplicate(folder: Folder) -> None:
    moment = pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * 2, pa.timestamp("ms", "UTC"))
    folder.jsonl("interactions", [{**GOOD, "event_id": "e1"}])
    folder.parquet(
        "events/part-0",
        {
            "event_id": ["e1", "e2"],
            "user_id": ["u", "v"],
            "item_id": ["a", "b"],
            "occurred_at": moment,
            "event_type": ["click", "click"],
            "value": pa.array([None, 1.0]),
            "context": [None, '{"page": "home"}'],
            "recommendation_id": [None, "r"],
            "position": pa.array([None, 7], pa.int32()),
        },
    )
    validated = folder.validate()
    assert reasons(validated) == [(1, "event_id", "duplicate")]
    event = validated.interactions.to_pylist()[1]
    assert (event["event_id"], event["recommendation_id"], event["context"]) == ("e2", "r", '{"page":"home"}')
    assert (event["position"], event["slate_position"]) == (None, 7), "a place in a slate is no order of the history"


def test_an_unknown_item_is_quarantined(folder: Folder) -> None:
    assert one_bad(folder, {"item_id": "z"}) == ("item_id", "unknown_item")


def test_an_interaction_with_a_quarantined_item_is_quarantined_too(folder: Folder) -> None:
    folder.jsonl("items", [{"item_id": "a"}, {"item_id": "b", "price": -1}])
    validated = folder.jsonl("interactions", [GOOD, {**GOOD, "item_id": "b"}]).validate()
    assert [row["reason"] for row in validated.quarantine.to_pylist()] == ["unknown_item", "out_of_range"]


@pytest.mark.parametrize("field", ["user_id", "item_id"])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "missing"),
        ("", "missing"),
        ("  ", "missing"),
        ("x" * 257, "id_too_long"),
        ("a\x00b", "control_character"),
        ("a\nb", "control_character"),
        ("a\x85b", "control_character"),
        (1.0, "wrong_type"),
        (True, "wrong_type"),
        (["a"], "wrong_type"),
        ({"a": 1}, "wrong_type"),
    ],
)
def test_a_bad_id_is_quarantined(folder: Folder, field: str, value: Any, reason: str) -> None:
    assert one_bad(folder, {field: value}) == (field, reason)


def test_an_id_of_256_characters_of_any_script_is_accepted(folder: Folder) -> None:
    long_id = "影" * 255 + "🎬"
    folder.jsonl("items", [{"item_id": long_id}])
    validated = folder.jsonl("interactions", [{**GOOD, "item_id": long_id}]).validate()
    assert validated.interactions["item_id"].to_pylist() == [long_id]


def test_ids_never_pass_through_floats(folder: Folder) -> None:
    large = 2**53 + 1  # the first whole number that a float64 cannot hold
    folder.jsonl("items", [{"item_id": large}, {"item_id": 2**80}])
    folder.jsonl("interactions", [{"user_id": 7, "item_id": large}, {"user_id": "7", "item_id": 2**80}])
    validated = folder.validate()
    assert validated.interactions["item_id"].to_pylist() == [str(large), str(2**80)]
    assert validated.interactions["user_id"].to_pylist() == ["7", "7"]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_every_arrow_type_of_text_is_text(folder: Folder, kind: pa.DataType) -> None:
    ids = pa.array(["u", "v", None]).cast(kind) if pa.types.is_dictionary(kind) else pa.array(["u", "v", None], kind)
    validated = folder.parquet("interactions", {"user_id": ids, "item_id": ["a", "b", "c"]}).validate()
    assert validated.interactions["user_id"].to_pylist() == ["u", "v"]
    assert reasons(validated) == [(3, "user_id", "missing")]


@pytest.mark.parametrize(
    "times",
    [
        pa.array([1_767_225_600], pa.timestamp("s", "UTC")),
        pa.array([1_767_225_600_000], pa.timestamp("ms", "Asia/Tokyo")),
        pa.array([1_767_225_600_000_000_999], pa.timestamp("ns", "UTC")),
        pa.array(["2026-01-01T00:00:00Z"]),
    ],
)
def test_every_arrow_type_of_time_with_a_zone_is_a_time(folder: Folder, times: pa.Array) -> None:
    folder.parquet("interactions", {"user_id": ["u"], "item_id": ["a"], "occurred_at": times})
    assert folder.validate().interactions["occurred_at_ms"].to_pylist() == [JANUARY_MS]


def test_a_parquet_time_beyond_all_calendars_costs_its_own_row_alone(folder: Folder) -> None:
    times = pa.array([10**15, 1_767_225_600], pa.timestamp("s", "UTC"))  # the first lies 31 million years ahead
    folder.parquet("interactions", {"user_id": ["u", "v"], "item_id": ["a", "a"], "occurred_at": times})
    assert reasons(folder.validate()) == [(1, "occurred_at", "future_time")]


def test_ids_in_csv_keep_their_leading_zeros(folder: Folder) -> None:
    folder.csv("items", "item_id,title", "007,Bond")
    validated = folder.csv("interactions", "user_id,item_id", "0001,007").validate()
    assert (validated.interactions["user_id"][0].as_py(), validated.interactions["item_id"][0].as_py()) == (
        "0001",
        "007",
    )


def test_whole_number_ids_in_parquet_become_strings_and_float_ids_are_refused(folder: Folder) -> None:
    folder.parquet("items", {"item_id": [2**60 + 1, 5]})
    folder.parquet("interactions", {"user_id": pa.array([Decimal(12)], pa.decimal128(38, 0)), "item_id": [2**60 + 1]})
    table = folder.validate().interactions
    assert (table["user_id"][0].as_py(), table["item_id"][0].as_py()) == ("12", str(2**60 + 1))
    validated = folder.parquet("interactions", {"user_id": ["u"], "item_id": [5.0]}).validate()
    assert reasons(validated) == [(1, "item_id", "wrong_type")]


def test_a_time_in_the_future_is_quarantined_but_a_clock_may_be_five_minutes_ahead(folder: Folder) -> None:
    rows = [{**GOOD, "occurred_at": f"2026-05-01T12:0{minutes}:00Z"} for minutes in (0, 5, 6)]
    assert reasons(folder.jsonl("interactions", rows).validate()) == [(3, "occurred_at", "future_time")]


@pytest.mark.parametrize(
    ("occurred_at", "reason"),
    [
        ("2026-01-01T00:00:00", "naive_time"),
        ("2026-01-01 00:00", "naive_time"),
        ("2026-01-01", "naive_time"),
        (1_767_225_600, "ambiguous_time"),
        (1_767_225_600.5, "ambiguous_time"),
        ("1767225600", "ambiguous_time"),
        ("yesterday", "bad_time"),
        ("2026-02-30T00:00:00Z", "bad_time"),
        ("01/02/2026", "bad_time"),
        (True, "wrong_type"),
        ({"s": 1}, "wrong_type"),
        ("0001-01-01T00:00:00Z", "impossible_time"),
        ("1970-01-01T00:00:00Z", "impossible_time"),
    ],
)
def test_an_ambiguous_time_is_refused(folder: Folder, occurred_at: Any, reason: str) -> None:
    assert one_bad(folder, {"occurred_at": occurred_at}) == ("occurred_at", reason)


def test_a_naive_time_counts_in_the_configured_zone(folder: Folder) -> None:
    validated = folder.jsonl("interactions", [{**GOOD, "occurred_at": "2026-01-01T01:00:00"}]).validate(
        timezone="Europe/Berlin"
    )
    assert validated.interactions["occurred_at_ms"].to_pylist() == [JANUARY_MS]  # Berlin is one hour ahead in winter


def test_naive_timestamps_in_parquet_need_a_zone_too(folder: Folder) -> None:
    columns = {"user_id": ["u"], "item_id": ["a"], "occurred_at": pa.array([datetime(2026, 1, 1, 1)])}  # noqa: DTZ001
    folder.parquet("interactions", columns)
    assert reasons(folder.validate()) == [(1, "occurred_at", "naive_time")]
    assert folder.validate(timezone="Europe/Berlin").interactions["occurred_at_ms"].to_pylist() == [JANUARY_MS]


def test_bare_numbers_count_what_the_configuration_says(folder: Folder) -> None:
    rows = [{**GOOD, "occurred_at": 1_767_225_600}, {**GOOD, "occurred_at": 1_767_225_600.25}, GOOD]
    table = folder.jsonl("interactions", rows).validate(time_format="epoch_s").interactions
    assert table["occurred_at_ms"].to_pylist() == [JANUARY_MS, JANUARY_MS + 250, JANUARY_MS]
    table = (
        folder.csv("interactions", "user_id,item_id,occurred_at", f"u,a,{JANUARY_MS}")
        .validate(time_format="epoch_ms")
        .interactions
    )
    assert table["occurred_at_ms"].to_pylist() == [JANUARY_MS]


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("value", "5", "wrong_type"),
        ("value", True, "wrong_type"),
        ("value", [1], "wrong_type"),
        ("position", -1, "out_of_range"),
        ("position", 1.5, "wrong_type"),
        ("position", 2**70, "wrong_type"),
        ("position", "1", "wrong_type"),
        ("context", "mobile", "wrong_type"),
        ("context", [1], "wrong_type"),
        ("event_type", 1.5, "wrong_type"),
        ("event_type", "x" * 257, "id_too_long"),
        ("event_id", "x" * 257, "id_too_long"),
        ("event_id", 1.5, "wrong_type"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(folder: Folder, field: str, value: Any, reason: str) -> None:
    assert one_bad(folder, {field: value}) == (field, reason)


def test_nan_and_infinity_are_refused_in_every_format(folder: Folder) -> None:
    line = '{"user_id":"u","item_id":"a","value":%s}\n'
    validated = folder.write(
        "interactions.jsonl", "".join(line % each for each in ("1", "NaN", "-Infinity"))
    ).validate()
    assert reasons(validated) == [(2, "", "not_finite"), (3, "", "not_finite")]
    validated = folder.csv("interactions", "user_id,item_id,value", "u,a,1", "u,a,nan", "u,a,inf", "u,a,x").validate()
    assert reasons(validated) == [(3, "value", "not_finite"), (4, "value", "not_finite"), (5, "value", "wrong_type")]
    columns = {"user_id": ["u"] * 3, "item_id": ["a"] * 3, "value": pa.array([1.0, float("nan"), None])}
    validated = folder.parquet("interactions", columns).validate()
    assert reasons(validated) == [(2, "value", "not_finite")]


def test_text_that_is_not_utf8_costs_its_own_row_alone(folder: Folder) -> None:
    lines = [b'{"user_id":"u","item_id":"a"}', b'{"user_id":"\xff","item_id":"a"}', b'{"user_id":"w","item_id":"a"}']
    validated = folder.write("interactions.jsonl", b"\n".join(lines)).validate()
    assert reasons(validated) == [(2, "", "broken_utf8")]
    validated = folder.write("interactions.csv", b"user_id,item_id\nu,a\n\xff,a\nw,a\n").validate()
    assert reasons(validated) == [(3, "", "broken_utf8")]
    columns = {"user_id": pa.array([b"u", b"\xff", b"w"], pa.binary()), "item_id": ["a", "a", "a"]}
    validated = folder.parquet("interactions", columns).validate()
    assert reasons(validated) == [(2, "user_id", "broken_utf8")]
    assert validated.interactions["user_id"].to_pylist() == ["u", "w"]
    assert validated.quarantine["raw"].to_pylist() == ['{"user_id":"\ufffd","item_id":"a"}']


def test_half_a_surrogate_pair_is_no_character(folder: Folder) -> None:
    line = '{"user_id":"\\ud800","item_id":"a"}\n{"user_id":"\\ud83c\\udfac","item_id":"a"}\n'
    validated = folder.write("interactions.jsonl", line).validate()
    assert reasons(validated) == [(1, "", "broken_utf8")]
    assert validated.interactions["user_id"].to_pylist() == ["🎬"]


def test_a_row_with_several_faults_is_quarantined_once(folder: Folder) -> None:
    assert one_bad(folder, {"user_id": "", "item_id": "z", "value": "x"}) == ("user_id", "missing")


def test_unknown_columns_are_ignored_and_named(folder: Folder) -> None:
    validated = folder.jsonl("interactions", [{**GOOD, "session": 1}, {**GOOD, "ua": "x"}]).validate()
    assert of_kind(validated, "interactions").ignored_columns == ("session", "ua")
    assert len(validated.interactions) == 2


def test_the_quarantine_shows_the_row_cut_to_a_readable_length(folder: Folder) -> None:
    validated = folder.jsonl("interactions", [GOOD, {**GOOD, "item_id": "z" * 200, "note": "n" * 900}]).validate()
    [row] = validated.quarantine.to_pylist()
    assert (row["file"], row["line"]) == ("interactions.jsonl", 2)
    assert row["raw"].startswith('{"user_id": "u", "item_id": "zzz')
    assert len(row["raw"]) == 300


def test_exported_events_are_read_by_our_own_names_whatever_the_company_calls_its_columns(folder: Folder) -> None:
    folder.csv("interactions", "kunde,artikel,zeit", "u,a,2026-01-01T00:00:00Z")
    moment = pa.array([datetime(2026, 1, 2, tzinfo=UTC)], pa.timestamp("ms", "UTC"))
    exported = {"event_id": ["e"], "user_id": ["v"], "item_id": ["b"], "occurred_at": moment, "event_type": ["buy"]}
    folder.parquet("events/events-000001", exported)
    names = {"user_id": "kunde", "item_id": "artikel", "occurred_at": "zeit"}
    table = folder.validate(columns={"interactions": names}).interactions
    assert table["user_id"].to_pylist() == ["u", "v"]
    assert table["event_type"].to_pylist() == ["interaction", "buy"]
    assert table["occurred_at_ms"].null_count == 0


def test_a_column_that_is_mapped_and_not_there_is_one_clear_error(folder: Folder) -> None:
    folder.csv("interactions", "user_id,item_id,zeit", "u,a,2026-01-01T00:00:00Z")
    with pytest.raises(InputError, match=r"no column 'zeitt', which .* names as occurred_at"):
        folder.validate(columns={"interactions": {"occurred_at": "zeitt"}})
