"""The job around training: what it needs, what it leaves, and that it does not do the same work twice."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

from jobs.artifacts import load_dataset, load_model
from jobs.embed import embed_job
from jobs.train import _under_torchrun, train_job, validation_split
from jobs.validate import validate_job
from recsys.errors import InputError, MissingArtifact
from recsys.models.model import load_model as load_weights
from recsys.storage.atomic import locked_folder
from recsys.workspace import Workspace
from tests.worlds.workspaces import NOW, add_item, copied, write_workspace


def prepared(root: Path, more: str = "") -> Workspace:
    workspace, _ = write_workspace(root, n_items=8, n_users=12, more=more, max_tokens=1000)
    validate_job(workspace, now=NOW)
    embed_job(workspace)
    return workspace


def test_training_needs_a_dataset_and_its_vectors(tmp_path: Path) -> None:
    workspace, _ = write_workspace(tmp_path, n_items=8, n_users=6)
    with pytest.raises(MissingArtifact, match=r"there is no dataset .* run `recsys validate`"):
        train_job(workspace)
    validate_job(workspace, now=NOW)
    with pytest.raises(MissingArtifact, match=r"there is no content .* run `recsys embed`"):
        train_job(workspace)


def test_training_on_vectors_of_another_catalogue_is_refused(tmp_path: Path) -> None:
    workspace = prepared(tmp_path)
    add_item(workspace, "item-9000", title="new")
    validate_job(workspace, now=NOW)
    with pytest.raises(MissingArtifact, match="run `recsys embed` first"):
        train_job(workspace)


def test_training_without_interactions_says_what_is_missing(tmp_path: Path) -> None:
    workspace, _ = write_workspace(tmp_path, n_items=8, n_users=6)
    (workspace.data_dir / "interactions.jsonl").write_text("")
    validate_job(workspace, now=NOW)
    embed_job(workspace)
    with pytest.raises(InputError, match=r"no interactions to learn from: put interactions\.\*"):
        train_job(workspace)


def test_the_model_has_learned_the_world(released: Workspace) -> None:
    model = load_model(released)
    # Of 60 items 30 have the right parity, and only one comes next.
    assert model.summary["best_ndcg_at_10"] > 0.6
    assert model.summary["blend_ndcg_at_10"] > 0.95
    assert model.n_interactions == load_dataset(released).sequences.n_events
    assert model.reads_profiles
    assert model.id_present.all()
    assert model.id_vectors.shape == (60, 32)


def test_what_the_service_reads_of_a_model_is_what_torch_holds(released: Workspace) -> None:
    model, trained = load_model(released), load_weights(load_model(released).path / "weights")
    assert model.item_ids == load_dataset(released).vocabulary.item_ids
    assert model.event_type_names == trained.spec.event_type_names
    assert model.category_names == trained.spec.category_names == ("Fire", "Water")
    assert model.max_history == trained.spec.model.max_history
    assert dict(model.space_ids) == {each.name: each.space_id for each in trained.spec.modalities}
    np.testing.assert_array_equal(model.id_present, trained.trained)
    assert {path.name for path in model.path.glob("*.onnx")} == {"query_tower.onnx", "item_tower.onnx"}


def test_a_finished_model_is_not_trained_again(released: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_model(released)
    monkeypatch.setattr("jobs.train.fit_towers", None)  # calling it would fail
    result, exit_code = train_job(released)
    assert exit_code == 0
    assert result["model"] == before.key
    assert not (released.root / "artifacts" / "training" / before.key).exists()


def test_other_settings_make_another_model(released: Workspace, tmp_path: Path) -> None:
    workspace = copied(released, tmp_path / "work")
    training = workspace.config.training.model_copy(update={"max_tokens": 2000, "seed": 1})
    changed = Workspace(workspace.root, workspace.config.model_copy(update={"training": training}))
    result, _ = train_job(changed)
    assert result["model"] != load_model(released).key
    assert load_model(workspace).key == result["model"]
    train_job(workspace)  # back to the first settings: its model is there, and current again
    assert load_model(workspace).key == load_model(released).key


def test_a_temporal_split_trains_on_what_came_before_and_is_judged_there_too(tmp_path: Path) -> None:
    workspace = prepared(tmp_path, 'split = "temporal"\ntemporal_quantile = 0.8\n')  # of [evaluation], which is last
    dataset = load_dataset(workspace)
    config = workspace.config.evaluation
    assert config.split == "temporal"
    cut_ms = np.quantile(dataset.sequences.occurred_at_ms, 0.8, method="lower")
    split = validation_split(dataset, config)
    assert split.history.occurred_at_ms.max() <= cut_ms
    assert split.train.n_events < split.history.n_events
    # Each user's last interaction before the cut is what validation asks for, and no part of what is learned.
    last = [
        dataset.sequences.item_rows[mine][dataset.sequences.occurred_at_ms[mine] <= cut_ms][-1]
        for mine in (dataset.sequences.of(int(user)) for user in split.target_users)
    ]
    assert split.target_items.tolist() == last
    result, _ = train_job(workspace)
    assert result["steps"] > 0


def test_data_without_order_trains_a_model_without_order(tmp_path: Path) -> None:
    workspace, _ = write_workspace(tmp_path, n_items=8, n_users=12, max_tokens=1000)
    path = workspace.data_dir / "interactions.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({"user_id": row["user_id"], "item_id": row["item_id"]}) + "\n" for row in rows))
    validate_job(workspace, now=NOW)
    embed_job(workspace)
    train_job(workspace)
    assert load_weights(load_model(workspace).path / "weights").spec.model.ordered is False


def test_the_ranks_of_a_killed_run_are_waited_for(
    released: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = threading.Event()

    def launched(*arguments: object, **options: object) -> subprocess.CompletedProcess[bytes]:
        started.set()
        return subprocess.CompletedProcess((), 0)

    monkeypatch.setattr("jobs.train.subprocess.run", launched)
    working = tmp_path / "training"
    working.mkdir()
    again = threading.Thread(target=_under_torchrun, args=(released, working, 2))
    with locked_folder(working, shared=True), locked_folder(working, shared=True):  # two ranks, still at work
        again.start()
        assert not started.wait(0.3)
    assert started.wait(10)
    again.join()


@pytest.mark.slow
def test_two_ranks_train_under_torchrun(tmp_path: Path) -> None:
    workspace = prepared(tmp_path)
    one, _ = train_job(workspace)
    two, exit_code = train_job(workspace, ranks=2)
    assert exit_code == 0
    assert (one["n_ranks"], two["n_ranks"]) == (1, 2)
    assert (two["steps"], two["tokens"]) == (one["steps"], one["tokens"])
    assert two["model"] != one["model"]
    assert load_model(workspace).key == two["model"]
    first, second = one["validations"][0]["ndcg_at_10"], two["validations"][0]["ndcg_at_10"]
    assert second == pytest.approx(first, abs=0.05)
