"""When the nightly run trains, and when it does not; `tests/integration/test_three_days.py` runs whole nights."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from jobs.artifacts import load_content, load_dataset, load_model
from jobs.bootstrap import releases_of, store_of
from jobs.embed import embed_job
from jobs.refresh import refresh_job, why_retrain
from jobs.validate import validate_job
from recsys.workspace import Workspace
from tests.worlds.checkerboard import item_id
from tests.worlds.workspaces import NOW, copied, post, write_workspace


def why(workspace: Workspace) -> str:
    dataset = load_dataset(workspace)
    return why_retrain(workspace, dataset, load_content(workspace, dataset))


def with_events(workspace: Workspace, n_events: int) -> Workspace:
    """So many new events of new users, exported and validated by a night's first steps."""
    visits = [(f"new-{event // 20}", item_id(2 * (event % 20))) for event in range(n_events)]
    post(workspace, visits, NOW - timedelta(days=1))
    return workspace


@pytest.fixture
def workspace(released: Workspace, tmp_path: Path) -> Workspace:
    return copied(released, tmp_path / "work")


def test_nothing_new_is_no_reason_to_train(released: Workspace) -> None:
    assert why(released) == ""


def test_a_model_is_due_when_interactions_have_grown_by_the_share_that_is_set(workspace: Workspace) -> None:
    n_trained = load_model(workspace).n_interactions
    share = 20 / n_trained
    refresh = workspace.config.refresh.model_copy(update={"retrain_share": share})
    workspace = Workspace(workspace.root, workspace.config.model_copy(update={"refresh": refresh}))
    before = load_model(workspace).key
    with_events(workspace, 19)
    first, exit_code = refresh_job(workspace, now=NOW)
    assert (first["events"], first["retrained"], exit_code) == (19, "", 0)
    assert load_model(workspace).key == before
    post(workspace, [("late", item_id(7))], NOW - timedelta(hours=2))
    second, _ = refresh_job(workspace, now=NOW)
    assert (second["events"], second["retrained"]) == (1, f"interactions have grown by {20 / n_trained:.1%}")
    assert load_model(workspace).key != before
    assert load_model(workspace).n_interactions == n_trained + 20


def test_changed_settings_of_the_model_are_a_reason(released: Workspace) -> None:
    training = released.config.training.model_copy(update={"learning_rate": 0.5})
    changed = Workspace(released.root, released.config.model_copy(update={"training": training}))
    assert why(changed) == "the settings of [model] or [training] have changed"


def test_other_encoders_and_first_profiles_are_reasons(tmp_path: Path) -> None:
    workspace, _ = write_workspace(tmp_path, n_items=8, n_users=12, max_tokens=500)
    profiles = workspace.data_dir / "users.jsonl"
    profiles.rename(tmp_path / "users.jsonl")
    first, exit_code = refresh_job(workspace, now=NOW)
    assert (first["retrained"], exit_code) == ("there is no model yet", 0)
    (tmp_path / "users.jsonl").rename(profiles)
    validate_job(workspace, now=NOW)
    embed_job(workspace)
    assert why(workspace) == "there are profiles now"
    encoders = workspace.config.encoders.model_copy(update={"image": "none"})
    changed = Workspace(workspace.root, workspace.config.model_copy(update={"encoders": encoders}))
    second, exit_code = refresh_job(changed, now=NOW)
    assert (second["retrained"], exit_code) == ("the encoders have changed", 0)
    assert set(load_model(changed).space_ids) == {"text"}
    assert why(changed) == ""


def test_a_night_before_there_are_any_interactions_publishes_without_a_model(tmp_path: Path) -> None:
    workspace, _ = write_workspace(tmp_path, n_items=8, n_users=6)
    (workspace.data_dir / "interactions.jsonl").write_text("")
    result, exit_code = refresh_job(workspace, now=NOW)
    assert (result["events"], result["retrained"], exit_code) == (0, "", 0)
    assert releases_of(workspace).current() == result["release"]


def test_a_night_may_be_told_another_store(workspace: Workspace, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'other.sqlite3'}"
    result, exit_code = refresh_job(workspace, now=NOW, store_url=url)
    assert (result["events"], exit_code) == (0, 0)
    store = store_of(workspace, url)
    assert len(store.user_state("user-0000").history) > 0
    store.close()
