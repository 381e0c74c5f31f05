"""The summary says what happened, and how to mend it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from recsys.catalog import DataConfig
from recsys.ingest.tally import ReadProgress
from recsys.ingest.validate import validate_inputs
from tests.recsys.ingest.folder import GOOD, NOW, Folder, of_kind


def mend(folder: Folder, rows: list[dict[str, Any]], **config: Any) -> tuple[str, ...]:
    return of_kind(folder.jsonl("interactions", rows).validate(**config), "interactions").mend


@pytest.mark.parametrize(
    ("occurred_at", "config", "line"),
    [
        (1_700_000_000, {}, '[data]\ntime_format = "epoch_s"'),
        ("1700000000", {}, '[data]\ntime_format = "epoch_s"'),
        (1_700_000_000_000, {}, '[data]\ntime_format = "epoch_ms"'),
        (1_700_000_000_000, {"time_format": "epoch_s"}, '[data]\ntime_format = "epoch_ms"'),
        (1_700_000_000, {"time_format": "epoch_ms"}, '[data]\ntime_format = "epoch_s"'),
        ("2026-01-01 00:00:00", {}, '[data]\ntimezone = "UTC"  # or the zone of your times, like "Europe/Berlin"'),
    ],
)
def test_when_most_rows_fail_for_one_reason_the_line_that_mends_it_is_given_and_works(
    folder: Folder, occurred_at: Any, config: dict[str, Any], line: str
) -> None:
    rows = [{**GOOD, "occurred_at": occurred_at}] * 3 + [{**GOOD, "user_id": ""}]
    assert mend(folder, rows, **config) == (line,)
    setting, value = line.split("\n")[1].split("  #")[0].split(" = ")
    mended = folder.validate(**{**config, setting: value.strip('"')})
    assert mended.summary.n_interactions == 3
    assert of_kind(mended, "interactions").mend == ()


def test_a_reason_of_few_rows_needs_no_mending(folder: Folder) -> None:
    assert mend(folder, [GOOD, GOOD, {**GOOD, "occurred_at": 1_700_000_000}]) == ()


def test_truly_future_times_are_not_mended_by_a_unit(folder: Folder) -> None:
    assert mend(folder, [{**GOOD, "occurred_at": "2030-01-01T00:00:00Z"}]) == ()


def test_pictures_beside_the_folder_are_mended_by_image_root(folder: Folder) -> None:
    folder.jsonl("items", [{"item_id": "a", "image": "../../posters/1.png"}, {"item_id": "b", "image": "../x.png"}])
    validated = folder.jsonl("interactions", [GOOD]).validate()
    assert of_kind(validated, "items").mend == ('[data]\nimage_root = "../.."',)
    assert of_kind(folder.validate(image_root="../.."), "items").n_quarantined == 0


def test_an_ignored_column_that_looks_like_ours_is_pointed_at(folder: Folder) -> None:
    folder.csv("interactions", "user_id,item_id,timestamp,rating", "u,a,1,5")
    assert of_kind(folder.validate(), "interactions").mend == (
        '[data.columns.interactions]\noccurred_at = "timestamp"',
        '[data.columns.interactions]\nvalue = "rating"',
    )


def test_interactions_without_order_are_said_to_be_so(folder: Folder) -> None:
    summary = folder.csv("interactions", "user_id,item_id", "u,a").validate().summary
    assert not summary.ordered
    assert "without order" in " ".join(summary.notes)
    assert folder.csv("interactions", "user_id,item_id,position", "u,a,0").validate().summary.ordered


def test_interactions_with_other_ids_than_the_items_are_pointed_at(folder: Folder) -> None:
    notes = folder.csv("interactions", "user_id,item_id", "u,a.0", "u,b.0").validate().summary.notes
    assert any("name items that the items file lacks, such as 'a.0', 'b.0'" in note for note in notes)


def test_a_high_share_of_unknown_tokens_suggests_a_multilingual_encoder(folder: Folder) -> None:
    seen: list[str] = []

    def share(texts: Sequence[str]) -> float:
        seen.extend(texts)
        return sum(not text.isascii() for text in texts) / len(texts)

    folder.jsonl("items", [{"item_id": "a", "title": "英雄", "description": "影"}, {"item_id": "b", "title": "Hero"}])
    folder.jsonl("interactions", [GOOD])
    summary = validate_inputs(folder.path, DataConfig(), now=NOW, unknown_token_share=share).summary
    assert seen == ["英雄 影", "Hero"]
    assert summary.unknown_token_share == 0.5
    assert "does not know 50%" in " ".join(summary.notes)
    summary = validate_inputs(folder.path, DataConfig(), now=NOW, unknown_token_share=lambda texts: 0.01).summary
    assert not any("multilingual" in note for note in summary.notes)


def test_the_summary_prints_and_is_json(folder: Folder) -> None:
    folder.csv("interactions", "user_id,item_id,occurred_at,extra", "u,a,2026-01-01,x", "u,a,2026-01-02,x")
    summary = folder.validate().summary
    assert summary.lines()[:6] == [
        "items.jsonl: 3 of 3 rows accepted",
        "interactions.csv: 0 of 2 rows accepted",
        "  quarantined 2: naive_time",
        "  ignored columns: extra",
        "  to mend it, write in recsys.toml:",
        "    [data]",
    ]
    assert json.loads(json.dumps(summary.to_json()))["files"][1]["reasons"] == {"naive_time": 2}


def test_progress_ends_at_the_whole_of_each_file(folder: Folder) -> None:
    seen: list[ReadProgress] = []
    folder.csv("interactions", "user_id,item_id", "u,a", "u,b")
    validate_inputs(folder.path, DataConfig(), now=NOW, on_progress=seen.append)
    last = {each.file: (each.n_rows, each.share) for each in seen}
    assert last == {"items.jsonl": (3, 1.0), "interactions.csv": (2, 1.0)}
