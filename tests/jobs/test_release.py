"""Releases: the same inputs are the same release, a gate holds bad ones up, and there is always a way back."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.bootstrap import catalog_of, releases_of
from jobs.embed import embed_job
from jobs.release import build_job, list_job, publish_job, rollback_job
from jobs.validate import validate_job
from recsys.errors import CorruptArtifact, GateFailed, MissingArtifact
from recsys.workspace import Workspace
from tests.worlds.checkerboard import item_id, next_items
from tests.worlds.workspaces import NOW, Asker, add_item, copied, item_ids, parity, run_jobs, write_workspace


@pytest.fixture
def workspace(released: Workspace, tmp_path: Path) -> Workspace:
    return copied(released, tmp_path / "work")


def build_another(workspace: Workspace, name: str = "item-9000", *, publish: bool = True) -> str:
    add_item(workspace, name, title="ember flame", categories=["Fire"])
    result, exit_code = build_job(workspace, now=NOW, publish=publish)
    assert exit_code == 0
    release_id: str = result["release"]
    return release_id


def current(workspace: Workspace) -> str:
    release_id = releases_of(workspace).current()
    assert release_id is not None
    return release_id


def test_the_same_inputs_are_the_same_release_in_another_workspace(released: Workspace, tmp_path: Path) -> None:
    other, _ = write_workspace(tmp_path / "elsewhere")
    release_id = run_jobs(other)
    assert release_id == current(released)
    one, two = ((each.root / "releases" / release_id / "manifest.json").read_bytes() for each in (released, other))
    assert one == two


def test_building_again_changes_nothing(workspace: Workspace) -> None:
    before = current(workspace)
    result, exit_code = build_job(workspace, now=NOW, publish=True)
    assert (result["release"], exit_code) == (before, 0)
    assert releases_of(workspace).list() == [before]
    assert not list((workspace.root / "artifacts" / "staging").iterdir())


def test_a_release_is_built_without_being_published(workspace: Workspace) -> None:
    before = current(workspace)
    built = build_another(workspace, publish=False)
    assert built != before
    assert current(workspace) == before
    assert releases_of(workspace).list() == [before, built]
    publish_job(workspace, "")
    assert current(workspace) == built


def test_releases_share_the_files_that_they_have_in_common(workspace: Workspace) -> None:
    before = releases_of(workspace).manifest(current(workspace))
    after = releases_of(workspace).manifest(build_another(workspace))
    same = {name for name in before.files if before.files[name] == after.files[name]}
    assert same >= {"query_tower.onnx", "item_tower.onnx", "encoders/text_encoder.onnx", "encoders/image_encoder.onnx"}
    assert not same & {"items.parquet", "item_vectors.npy", "serving.json"}
    n_objects = sum(1 for path in (workspace.root / "artifacts" / "objects").rglob("*") if path.is_file())
    assert n_objects == len({entry.sha256 for each in (before, after) for entry in each.files.values()})


def test_a_failed_gate_keeps_the_current_release_and_says_why(
    released: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strict = copied(released, tmp_path / "work", more="[gate]\nmin_lift_over_popularity = 1000\n")
    before = current(strict)
    add_item(strict, "item-9000", title="ember flame", categories=["Fire"])
    result, exit_code = build_job(strict, now=NOW, publish=True)
    assert exit_code == 1
    assert result["published"] is False
    (problem,) = result["gate_problems"]
    assert problem.startswith("served NDCG@10 1.0000 is not above popularity's")
    assert "gate: served NDCG@10" in capsys.readouterr().out
    assert current(strict) == before
    assert releases_of(strict).list() == [before, result["release"]]
    with pytest.raises(GateFailed, match="is not published: served NDCG@10"):
        publish_job(strict, result["release"])
    assert current(strict) == before


def test_a_catalogue_that_hides_everything_is_not_published(workspace: Workspace) -> None:
    before = current(workspace)
    items = workspace.data_dir / "items.jsonl"
    items.write_text(items.read_text().replace('{"item_id"', '{"hidden": true, "item_id"'))
    result, exit_code = build_job(workspace, now=NOW, publish=True)
    assert exit_code == 1
    assert result["acceptance"]["served"]["ndcg@10"]["value"] == 0
    assert any("fell by more than 10% from 1.0000" in problem for problem in result["gate_problems"])
    assert current(workspace) == before


def test_a_catalogue_that_broke_off_half_way_is_not_published(workspace: Workspace) -> None:
    before = current(workspace)
    items = workspace.data_dir / "items.jsonl"
    items.write_text("".join(items.read_text().splitlines(keepends=True)[:20]))
    result, exit_code = build_job(workspace, now=NOW, publish=True)
    assert exit_code == 1
    assert "the catalogue has 20 items, and the current release has 60" in result["gate_problems"]
    assert current(workspace) == before


def test_rollback_moves_back_to_the_release_before(workspace: Workspace) -> None:
    first = current(workspace)
    second = build_another(workspace)
    assert current(workspace) == second
    result, exit_code = rollback_job(workspace)
    assert (result["release"], exit_code) == (first, 0)
    assert current(workspace) == first
    assert "item-9000" not in Asker.of(workspace).catalog.release.vocabulary


def test_there_is_no_way_back_from_the_first_release(workspace: Workspace) -> None:
    with pytest.raises(MissingArtifact, match="no earlier release"):
        rollback_job(workspace)


def test_a_damaged_release_is_not_rolled_back_to(workspace: Workspace) -> None:
    first = current(workspace)
    second = build_another(workspace)
    damage(workspace, first, "item_vectors.npy")
    with pytest.raises(CorruptArtifact, match=r"item_vectors\.npy of release .* is damaged"):
        rollback_job(workspace)
    assert current(workspace) == second


def test_all_releases_are_listed_and_the_current_one_is_marked(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = current(workspace), build_another(workspace, publish=False)
    capsys.readouterr()
    result, exit_code = list_job(workspace)
    assert exit_code == 0
    assert [(each["release"], each["current"]) for each in result["releases"]] == [(first, True), (second, False)]
    assert result["releases"][0]["acceptance"]["served"]["ndcg@10"]["value"] == 1.0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if "current" in line] == [first[:12]]


def test_a_release_is_published_by_its_first_characters(workspace: Workspace) -> None:
    first, second = current(workspace), build_another(workspace)
    result, _ = publish_job(workspace, first[:6])
    assert result["release"] == current(workspace) == first
    assert publish_job(workspace, second[:6])[0]["release"] == second
    with pytest.raises(MissingArtifact, match="0 releases begin with 'xyz'"):
        publish_job(workspace, "xyz")
    assert current(workspace) == second


def test_publishing_needs_a_release(tmp_path: Path) -> None:
    workspace, _ = write_workspace(tmp_path, n_items=8, n_users=6)
    with pytest.raises(MissingArtifact, match="there is no release yet: run `recsys release build`"):
        publish_job(workspace, "")
    assert list_job(workspace) == ({"releases": []}, 0)


def damage(workspace: Workspace, release_id: str, name: str) -> None:
    store = releases_of(workspace)
    path = store.open(store.manifest(release_id), name)
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["index.faiss", "query_tower.onnx", "serving.json", "encoders/text_encoder.onnx"])
def test_a_damaged_file_is_refused_and_named_and_building_again_mends_it(workspace: Workspace, name: str) -> None:
    release_id = current(workspace)
    damage(workspace, release_id, name)
    with pytest.raises(CorruptArtifact, match=f"{name} of release {release_id[:12]} is damaged"):
        catalog_of(workspace, release_id)
    with pytest.raises(CorruptArtifact, match=name):
        publish_job(workspace, release_id)
    build_job(workspace, now=NOW, publish=True)
    assert item_ids(Asker.of(workspace).slate(history=[item_id(4)]))[0] == item_id(6)


def unreleased(root: Path, *, items: bool = True, interactions: bool = True) -> Workspace:
    workspace, _ = write_workspace(root)
    for name, is_kept in (("items.jsonl", items), ("interactions.jsonl", interactions)):
        if not is_kept:
            (workspace.data_dir / name).write_text("")
    return workspace


def test_before_any_training_a_release_serves_what_follows_and_what_is_popular(tmp_path: Path) -> None:
    workspace = unreleased(tmp_path)
    result, exit_code = build_job(workspace, now=NOW, publish=True)
    assert exit_code == 0, result["gate_problems"]
    asker = Asker.of(workspace)
    assert asker.catalog.release.schema.has_towers is False
    history = [item_id(7), item_id(9)]
    slate = asker.slate(history=history)
    assert item_ids(slate)[0] == next_items(history, n_items=60)[0] == item_id(11)
    assert slate.items[0].source == "similar"
    parts = slate.items[0].parts
    assert (parts["image"], parts["text"], parts["base"]) == (0, 0, 0)
    assert parts["behaviour"] > 0
    assert slate.items[0].because[0] == history[-1]
    anonymous = asker.slate(limit=60)
    assert len(anonymous.items) == 60
    assert {item.source for item in anonymous.items} == {"popular"}
    assert len({item.item_id for item in anonymous.items}) == 60


def test_without_interactions_a_release_serves_its_items(tmp_path: Path) -> None:
    workspace = unreleased(tmp_path, interactions=False)
    result, exit_code = build_job(workspace, now=NOW, publish=True)
    assert exit_code == 0
    assert (result["acceptance"]["n_users"], result["acceptance"]["served"]) == (0, {})
    slate = Asker.of(workspace).slate("somebody", limit=10)
    assert len(slate.items) == 10
    # Nothing but likeness tells items apart, so the slate alternates between the two kinds.
    assert {parity(each) for each in item_ids(slate)} == {0, 1}


def test_an_empty_catalogue_is_a_release_that_serves_nothing(tmp_path: Path) -> None:
    workspace = unreleased(tmp_path, items=False, interactions=False)
    result, exit_code = build_job(workspace, now=NOW, publish=True)
    assert exit_code == 0
    assert result["acceptance"]["n_items"] == 0
    slate = Asker.of(workspace).slate("somebody", [item_id(1)])
    assert slate.items == ()
    assert slate.missing_ids == (item_id(1),)


def test_items_that_came_after_the_embedding_are_embedded_by_the_build(workspace: Workspace) -> None:
    validate_job(workspace, now=NOW)
    embed_job(workspace)
    build_another(workspace)
    assert Asker.of(workspace).catalog.release.n_items == 61
