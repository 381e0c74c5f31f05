"""The batch: how a model meets a catalogue that has changed since it was trained, and builds that meet each other."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor, TimeoutError
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from jobs.bootstrap import catalog_of, releases_of
from jobs.refresh_catalog import refresh_catalog
from recsys.catalog import ITEM_FIELDS
from recsys.errors import ArtifactError, GateFailed, SpaceMismatch
from recsys.features.diversity import diversity_of
from recsys.storage.artifact_files import write_artifact
from recsys.storage.atomic import locked_folder
from recsys.workspace import Workspace
from tests.worlds.checkerboard import item_id
from tests.worlds.rankers import write_ranker
from tests.worlds.workspaces import NOW, Asker, add_item, copied, item_ids, parity


@pytest.fixture
def workspace(released: Workspace, tmp_path: Path) -> Workspace:
    return copied(released, tmp_path / "work")


def rewrite_items(workspace: Workspace, change: Any) -> None:
    path = workspace.data_dir / "items.jsonl"
    items = change([json.loads(line) for line in path.read_text().splitlines()])
    path.write_text("".join(json.dumps(item) + "\n" for item in items))


def vectors_by_id(workspace: Workspace) -> dict[str, NDArray[np.float32]]:
    release = Asker.of(workspace).catalog.release
    return dict(zip(release.vocabulary.item_ids, release.item_vectors, strict=True))


def build(workspace: Workspace) -> None:
    refresh_catalog(workspace, now=NOW, publish=True)


def test_learned_ids_follow_their_items_when_the_catalogue_is_reordered(workspace: Workspace) -> None:
    before = vectors_by_id(workspace)
    rewrite_items(workspace, lambda items: items[::-1][10:])
    build(workspace)
    after = vectors_by_id(workspace)
    assert list(after) == [item_id(row) for row in range(49, -1, -1)]
    for name, vector in after.items():
        np.testing.assert_allclose(vector, before[name], atol=1e-5)


def test_an_item_that_the_model_never_saw_stands_among_those_of_its_content(workspace: Workspace) -> None:
    add_item(workspace, "newcomer", title="river ocean rain", categories=["Water"], image="images/item-0001.png")
    build(workspace)
    vectors = vectors_by_id(workspace)
    cosines = {name: float(vector @ vectors["newcomer"]) for name, vector in vectors.items() if name != "newcomer"}
    of_water = np.mean([cosine for name, cosine in cosines.items() if parity(name) == 1])
    of_fire = np.mean([cosine for name, cosine in cosines.items() if parity(name) == 0])
    assert of_water > of_fire + 0.1
    asker = Asker.of(workspace)
    shown = item_ids(asker.slate(history=[item_id(1), item_id(3)], limit=40))
    hidden_from = item_ids(asker.slate(history=[item_id(0), item_id(2)], limit=40))
    assert shown.index("newcomer") < (hidden_from.index("newcomer") if "newcomer" in hidden_from else 40)


def test_a_category_that_the_model_never_saw_changes_nothing(workspace: Workspace) -> None:
    before = vectors_by_id(workspace)
    rewrite_items(workspace, lambda items: [{**item, "categories": [*item["categories"], "New"]} for item in items])
    build(workspace)
    release = Asker.of(workspace).catalog.release
    assert release.schema.category_names == ("Fire", "Water")
    assert release.items["categories"][0].as_py() == ["Fire", "New"]
    # The text of an item names its categories, so its vector moves a little, and by that alone.
    assert all(float(vectors @ before[name]) > 0.9 for name, vectors in vectors_by_id(workspace).items())


def test_a_model_of_other_encoders_is_refused(workspace: Workspace) -> None:
    encoders = workspace.config.encoders.model_copy(update={"text": "none"})
    changed = Workspace(workspace.root, workspace.config.model_copy(update={"encoders": encoders}))
    before = releases_of(workspace).current()
    with pytest.raises(SpaceMismatch, match="run `recsys train` again"):
        build(changed)
    assert releases_of(workspace).current() == before


def test_publishing_what_fails_its_gate_raises(workspace: Workspace) -> None:
    gate = workspace.config.gate.model_copy(update={"min_lift_over_popularity": 1000.0})
    strict = Workspace(workspace.root, workspace.config.model_copy(update={"gate": gate}))
    with pytest.raises(GateFailed, match=r"is not published: served NDCG@10 .* is not above popularity's"):
        build(strict)


def test_the_catalogue_of_a_release_is_what_requests_know_of_an_item(workspace: Workspace) -> None:
    store = releases_of(workspace)
    manifest = store.manifest(str(store.current()))
    assert pq.read_table(store.open(manifest, "items.parquet")).column_names == list(ITEM_FIELDS)
    assert not [name for name, entry in manifest.files.items() if entry.size_bytes == 0]


def test_two_builds_of_one_workspace_take_turns(workspace: Workspace) -> None:
    turn = workspace.root / "artifacts" / "staging"
    with ThreadPoolExecutor() as pool:
        with locked_folder(turn):
            (turn / "release").mkdir()  # another build is at work here
            waiting = pool.submit(build, workspace)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=1.5)
            assert (turn / "release").is_dir()
        waiting.result(timeout=60)


def test_a_build_that_fails_leaves_no_files_behind(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object) -> None:
        raise RuntimeError("no")

    add_item(workspace, "item-9000")
    monkeypatch.setattr("jobs.refresh_catalog.verify_staged", fails)
    before = releases_of(workspace).list()
    with pytest.raises(RuntimeError):
        build(workspace)
    assert not list((workspace.root / "artifacts" / "staging").iterdir())
    assert releases_of(workspace).list() == before


def test_profiles_are_found_by_the_user_who_told_them(released: Workspace) -> None:
    release = Asker.of(released).catalog.release
    fire, water = release.profile_of("newcomer-fire"), release.profile_of("newcomer-water")
    assert fire is not None
    assert water is not None
    assert float(fire @ water) < 0.5
    first = release.profile_of("user-0000")
    assert first is not None
    np.testing.assert_array_equal(first, fire)
    assert release.profile_of("user-0159") is None  # the last quarter told nothing
    assert release.profile_of(None) is None


def test_who_told_what_they_like_gets_a_slate_of_their_own_before_any_event(released: Workspace) -> None:
    asker = Asker.of(released)
    slates = {name: item_ids(asker.slate(name)) for name in ("newcomer-fire", "newcomer-water", "a stranger")}
    fire, water = ([parity(each) for each in slates[name]] for name in ("newcomer-fire", "newcomer-water"))
    assert fire.count(0) >= 9
    assert water.count(1) >= 9
    assert slates["a stranger"] == item_ids(asker.slate(None))
    assert len({tuple(slate) for slate in slates.values()}) == 3


def test_a_release_carries_compact_content_that_its_whole_content_gives(released: Workspace) -> None:
    release = Asker.of(released).catalog.release
    again = diversity_of(release.modalities, release.n_items)
    assert release.stored_diversity is not None
    assert np.array_equal(release.stored_diversity.projection, again.projection)
    assert np.array_equal(release.stored_diversity.vectors, again.vectors)


def put_ranker(workspace: Workspace, key: str, *features: str) -> None:
    def fill(folder: Path) -> dict[str, Any]:
        write_ranker(folder / "ranker.onnx", {"p_click": [1.0] * len(features)}, features=features)
        return {}

    write_artifact(workspace.root, "ranker", key, {}, fill)


def test_a_release_takes_along_the_ranker_that_was_trained_last(workspace: Workspace) -> None:
    assert Asker.of(workspace).catalog.release.ranker is None
    put_ranker(workspace, "first", "similarity")
    put_ranker(workspace, "second", "similarity", "is_new")
    # It knows nothing of what follows what, so it serves worse than the blend: built, and not published.
    built = refresh_catalog(workspace, now=NOW, publish=False)
    release = catalog_of(workspace, built.release_id).release
    assert release.ranker is not None
    assert release.ranker.feature_names == release.schema.ranker_features == ("similarity", "is_new")
    assert release.schema.ranker_outputs == ("p_click",)


def test_a_ranker_that_reads_what_nobody_computes_is_not_built_into_a_release(workspace: Workspace) -> None:
    put_ranker(workspace, "only", "age")
    with pytest.raises(ArtifactError, match="reads age"):
        build(workspace)


def test_a_release_carries_what_the_item_tower_makes_its_vectors_of(released: Workspace) -> None:
    release = Asker.of(released).catalog.release
    assert release.item_encoder is not None
    assert release.id_vectors is not None
    assert release.id_vectors.present.any()
    categories = [release.categories_of({"categories": names.as_py()}) for names in release.items["categories"]]
    again = release.item_encoder.encode_batch(
        release.id_vectors.vectors,
        release.id_vectors.present,
        {each.name: (each.vectors, each.present) for each in release.modalities},
        np.stack(categories),
    )
    np.testing.assert_allclose(again, release.item_vectors, atol=1e-6)
