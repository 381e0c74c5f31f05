"""The job around validation: one dataset a state of the files, whose key is that of what was accepted."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from jobs.artifacts import load_dataset
from jobs.validate import validate_data, validate_job
from recsys.errors import InputError
from recsys.interactions import to_sequences
from recsys.workspace import Workspace
from tests.worlds.workspaces import NOW, add_item, write_workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return write_workspace(tmp_path, n_items=8, n_users=6)[0]


def add_interaction(workspace: Workspace, **fields: object) -> None:
    with (workspace.data_dir / "interactions.jsonl").open("a") as interactions:
        interactions.write(json.dumps(fields) + "\n")


def test_good_files_are_accepted_whole(workspace: Workspace) -> None:
    result, exit_code = validate_job(workspace, now=NOW)
    dataset = load_dataset(workspace)
    assert exit_code == 0
    assert result["dataset"] == dataset.key
    assert (result["n_items"], result["n_users"], result["n_quarantined"]) == (8, 6, 0)
    assert dataset.vocabulary.item_ids == tuple(f"item-{row:04d}" for row in range(8))
    assert dataset.users is not None
    assert len(dataset.users) == 4 + 2
    assert dataset.sequences.n_events == result["n_interactions"] == len(dataset.interactions)
    again = to_sequences(dataset.interactions, dataset.vocabulary)
    assert again.item_rows.tolist() == dataset.sequences.item_rows.tolist()


def test_a_bad_row_is_quarantined_and_ends_the_job_with_1(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    add_interaction(workspace, user_id="user-0000", item_id="no such item", occurred_at="2024-01-01T00:00:00Z")
    result, exit_code = validate_job(workspace, now=NOW)
    assert exit_code == 1
    assert result["n_quarantined"] == 1
    assert result["files"][1]["reasons"] == {"unknown_item": 1}
    assert load_dataset(workspace).sequences.n_users == 6
    assert "quarantine.parquet" in capsys.readouterr().out


def test_the_same_files_are_read_once_a_day(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    first = validate_data(workspace, now=NOW)
    with monkeypatch.context() as patched:
        patched.setattr("jobs.validate.validate_inputs", None)  # calling it would fail
        later = validate_data(workspace, now=NOW + timedelta(hours=23))
    assert (later.path, later.key) == (first.path, first.key)
    next_day = validate_data(workspace, now=NOW + timedelta(days=1))
    assert next_day.path != first.path
    assert (next_day.key, next_day.content_key) == (first.key, first.content_key)


def test_what_lies_in_the_future_today_is_accepted_tomorrow(workspace: Workspace) -> None:
    add_interaction(workspace, user_id="user-0000", item_id="item-0001", occurred_at="2024-01-03T12:00:00Z")
    today = validate_data(workspace, now=NOW)
    tomorrow = validate_data(workspace, now=NOW + timedelta(days=1))
    assert today.summary["files"][1]["reasons"] == {"future_time": 1}
    assert tomorrow.summary["n_quarantined"] == 0
    assert tomorrow.sequences.n_events == today.sequences.n_events + 1


def test_new_interactions_change_the_data_and_not_what_is_embedded(workspace: Workspace) -> None:
    first = validate_data(workspace, now=NOW)
    add_interaction(workspace, user_id="user-0000", item_id="item-0001", occurred_at="2024-01-02T12:00:00Z")
    second = validate_data(workspace, now=NOW)
    assert second.key != first.key
    assert second.content_key == first.content_key
    add_item(workspace, "item-9000", title="new")
    third = validate_data(workspace, now=NOW)
    assert third.content_key != first.content_key
    assert third.vocabulary.item_ids[-1] == "item-9000"


def test_a_file_that_is_missing_is_one_clear_error_and_the_old_dataset_stays(workspace: Workspace) -> None:
    before = validate_data(workspace, now=NOW).key
    (workspace.data_dir / "items.jsonl").rename(workspace.data_dir / "products.jsonl")
    with pytest.raises(InputError, match=r"no items file .* it holds images, interactions\.jsonl, products\.jsonl"):
        validate_data(workspace, now=NOW)
    assert load_dataset(workspace).key == before


def test_an_encoder_that_cannot_be_had_here_keeps_nobody_from_validating(tmp_path: Path) -> None:
    workspace, _ = write_workspace(tmp_path, n_items=8, n_users=6)
    encoders = workspace.config.encoders.model_copy(update={"text": "no such encoder"})
    workspace = Workspace(workspace.root, workspace.config.model_copy(update={"encoders": encoders}))
    result, exit_code = validate_job(workspace, now=NOW)
    assert (exit_code, result["unknown_token_share"]) == (0, None)
