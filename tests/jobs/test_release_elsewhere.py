"""`recsys release` with its releases on a shared disk: nothing of it needs the workspace folder's own store."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.bootstrap import catalog_of, releases_of
from jobs.refresh_catalog import publish_release, refresh_catalog
from jobs.release import build_job, list_job, publish_job, rollback_job
from recsys.errors import PublishedMeanwhile
from recsys.workspace import Workspace
from tests.worlds.workspaces import NOW, add_item, copied


@pytest.fixture
def workspace(released: Workspace, tmp_path: Path) -> Workspace:
    """A workspace whose one release lies in its own folder, and whose releases lie elsewhere from now on."""
    return copied(released, tmp_path / "work", more=f'[releases]\nurl = "file://{tmp_path}/shared"')


def build(workspace: Workspace, name: str = "") -> str:
    if name:
        add_item(workspace, name, title="ember flame", categories=["Fire"])
    result, exit_code = build_job(workspace, now=NOW, publish=True)
    assert (exit_code, result["published"]) == (0, True)
    return str(result["release"])


def test_releases_are_built_listed_served_and_rolled_back_elsewhere(workspace: Workspace, tmp_path: Path) -> None:
    in_folder = (workspace.root / "releases" / "current").read_text()
    first = build(workspace)
    assert first == in_folder.strip()  # the same inputs
    second = build(workspace, "item-9000")
    assert (workspace.root / "releases" / "current").read_text() == in_folder
    other = copied(workspace, tmp_path / "other")  # another host, with a cache of its own
    rows = list_job(other)[0]["releases"]
    assert [(row["release"], row["current"]) for row in rows] == [(first, False), (second, True)]
    assert catalog_of(other, second).release.n_items == catalog_of(other, first).release.n_items + 1
    assert rollback_job(other)[0] == {"release": first, "published": True}
    assert releases_of(workspace).current() == first
    assert publish_job(workspace, second)[0]["release"] == second
    assert releases_of(other).current() == second


def test_a_release_that_was_compared_with_another_than_the_current_one_is_not_published(workspace: Workspace) -> None:
    build(workspace)
    add_item(workspace, "item-9000", title="ember flame", categories=["Fire"])
    slow = refresh_catalog(workspace, now=NOW, publish=False)
    theirs = build(workspace, "item-9001")
    with pytest.raises(PublishedMeanwhile, match=f"published release {theirs[:12]} meanwhile"):
        publish_release(workspace, slow)
    assert releases_of(workspace).current() == theirs
    assert publish_job(workspace, slow.release_id)[0]["published"] is True  # having looked again
