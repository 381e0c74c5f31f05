"""Models beside each other on held-out interactions of a world in which the right ranking is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.embed import embed_job
from jobs.evaluate import evaluate_job
from jobs.validate import validate_job
from recsys.errors import ConfigError, MissingArtifact
from recsys.storage.artifact_files import read_artifact
from recsys.workspace import Workspace
from tests.worlds.workspaces import NOW, add_item, copied, write_workspace


@pytest.fixture(scope="module")
def workspace(released: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return copied(released, tmp_path_factory.mktemp("evaluated") / "work")


def test_the_model_finds_what_popularity_cannot(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    result, exit_code = evaluate_job(workspace)
    assert exit_code == 0
    models = result["models"]
    ndcg = {name: report["ndcg@10"]["value"] for name, report in models.items()}
    assert list(ndcg) == ["popularity", "item_knn", "transitions", "two_tower", "blend"]
    assert result["default"] == "blend"
    # What comes next is a function of the last item: transitions know it, and nothing is popular.
    assert ndcg["transitions"] == 1.0
    assert ndcg["blend"] == 1.0
    assert ndcg["two_tower"] > 0.6
    assert ndcg["popularity"] < 0.2
    assert {report["n_users"] for report in models.values()} == {160}
    printed = capsys.readouterr().out
    assert all(name in printed for name in models)
    assert "1.0000-1.0000" in printed


def test_the_figures_are_kept_with_what_they_were_made_of(workspace: Workspace) -> None:
    result, _ = evaluate_job(workspace)
    _, manifest = read_artifact(workspace.root, "evaluation")
    assert manifest.summary["models"]["blend"] == result["models"]["blend"]
    assert set(manifest.made_from) == {"dataset", "model", "evaluation"}


def test_a_model_of_another_catalogue_is_not_evaluated(released: Workspace, tmp_path: Path) -> None:
    changed = copied(released, tmp_path / "work")
    add_item(changed, "item-9000", title="new")
    validate_job(changed, now=NOW)
    embed_job(changed)
    with pytest.raises(ConfigError, match="the catalogue has changed since the model was trained"):
        evaluate_job(changed)


def test_evaluating_needs_a_model(tmp_path: Path) -> None:
    fresh, _ = write_workspace(tmp_path, n_items=8, n_users=6)
    validate_job(fresh, now=NOW)
    embed_job(fresh)
    with pytest.raises(MissingArtifact, match=r"there is no model .* run `recsys train`"):
        evaluate_job(fresh)
