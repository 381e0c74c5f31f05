"""`recsys embed report` on a small catalogue with known faults."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs.embed import embed_job
from jobs.embed_report import embed_report_job
from jobs.validate import validate_job
from recsys.errors import MissingArtifact
from recsys.workspace import Workspace
from tests.worlds.workspaces import NOW, add_item, copied, write_workspace

HOSTILE = '<script>alert("1")</script>'


def picture(workspace: Workspace, name: str, image: Image.Image | bytes) -> str:
    """Write a picture into the workspace; the reference that names it."""
    content = image
    if isinstance(image, Image.Image):
        sink = io.BytesIO()
        image.save(sink, "PNG")
        content = sink.getvalue()
    assert isinstance(content, bytes)
    (workspace.data_dir / "images" / name).write_bytes(content)
    return f"images/{name}"


def noise(seed: int) -> Image.Image:
    """A picture like nothing in the checkerboard: big cells of any colour."""
    cells = np.random.default_rng(seed).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    return Image.fromarray(cells).resize((48, 48), Image.Resampling.NEAREST)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """60 sound items, and one for each fault."""
    workspace, world = write_workspace(tmp_path_factory.mktemp("faulty"))
    add_item(workspace, "twin", title="A word of its own", image=f"images/{world.items[4].item_id}.png")
    blank = picture(workspace, "blank.png", Image.new("RGB", (64, 64), (9, 200, 9)))
    add_item(workspace, "blank", title="Nothing here", image=blank)
    add_item(workspace, "broken", title=HOSTILE, image=picture(workspace, "broken.png", b"\x89PNG and no more"))
    add_item(workspace, "bare", title=f"{world.items[7].title} again")
    validate_job(workspace, now=NOW)
    embed_job(workspace)
    return workspace


@pytest.fixture(scope="module")
def first_report(faulty: Workspace) -> tuple[dict[str, Any], str, int]:
    return reported(faulty)


def reported(workspace: Workspace, **options: Any) -> tuple[dict[str, Any], str, int]:
    """The JSON file, the page and the exit code."""
    _, exit_code = embed_report_job(workspace, **options)
    folder = workspace.root / "artifacts" / "report"
    return json.loads((folder / "embed.json").read_text()), (folder / "embed.html").read_text(), exit_code


def test_every_fault_is_in_the_json_and_on_the_page(
    first_report: tuple[dict[str, Any], str, int],
) -> None:
    report, page, exit_code = first_report
    same = [group for group in report["near_duplicates"]["image"]["groups"] if group["kind"] == "same"]
    assert [[each["item_id"] for each in group["items"]] for group in same] == [["item-0004", "twin"]]
    assert [(each["item_id"], each["kind"]) for each in report["blank_images"]["images"]] == [("blank", "constant")]
    image = report["presence"]["kinds"]["image"]
    assert (image["present"], image["absent"], image["refused"]) == (62, 1, 1)
    assert [each["item_id"] for each in image["refused_items"]] == ["broken"]
    assert report["drift"]["why_not"] == "there is no release yet"
    assert "items have a picture and a text" in report["disagreement"]["why_not"]
    assert exit_code == 0
    assert page.count("data:image/jpeg;base64,") >= 3
    assert HOSTILE not in page


def test_the_same_workspace_gives_the_same_bytes_wherever_they_go(
    faulty: Workspace, first_report: tuple[dict[str, Any], str, int], tmp_path: Path
) -> None:
    report, page, _ = first_report
    embed_report_job(faulty, html=tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == page
    assert json.loads((tmp_path / "page.json").read_text()) == report
    assert str(tmp_path) not in page


def test_a_sample_begins_with_the_members_of_groups(faulty: Workspace) -> None:
    report, page, _ = reported(faulty, sample=1)
    blank = report["blank_images"]
    assert (blank["looked_at"], blank["pictures"], blank["sampled"]) == (1, 61, True)
    assert "a random sample of the others" in page
    twins = report["near_duplicates"]["image"]["groups"][0]
    assert [each["item_id"] for each in twins["items"]] == ["item-0004", "twin"]


def test_broken_vectors_alarm_and_a_picture_that_went_away_is_named(faulty: Workspace, tmp_path: Path) -> None:
    workspace = copied(faulty, tmp_path / "copy")
    (workspace.data_dir / "images" / "blank.png").unlink()
    path = next((workspace.root / "artifacts" / "content").glob("*/text.npy"))
    vectors = np.load(path)
    vectors[2], vectors[5] = np.nan, 3.0
    path.chmod(0o644)
    np.save(path, vectors)
    report, _, exit_code = reported(workspace)
    assert report["presence"]["kinds"]["text"]["not_finite"] == ["item-0002", "item-0005"]
    assert report["findings"][0]["level"] == "alarm"
    assert exit_code == 1
    unreadable = report["blank_images"]["unreadable"]
    assert [(each["item_id"], each["reason"]) for each in unreadable] == [("blank", "not_found")]


def test_nothing_new_since_the_release_is_no_drift(released: Workspace, tmp_path: Path) -> None:
    report, _, exit_code = reported(copied(released, tmp_path / "copy"))
    assert report["drift"]["why_not"].startswith("nothing is new")
    assert exit_code == 0


def test_a_batch_unlike_the_release_alarms_and_names_the_items(released: Workspace, tmp_path: Path) -> None:
    workspace = copied(released, tmp_path / "copy")
    for n in range(12):
        add_item(workspace, f"new-{n}", title="River rain", image=picture(workspace, f"new-{n}.png", noise(n)))
    validate_job(workspace, now=NOW)
    embed_job(workspace)
    report, page, exit_code = reported(workspace)
    assert report["drift"]["added"] == 12
    image = report["drift"]["kinds"]["image"]
    assert set(image["alarms"]) == {"energy", "far"}
    assert {each["item_id"] for each in image["farthest"]} == {f"new-{n}" for n in range(12)}
    assert "image: alarm" in page
    assert exit_code == 1


def test_changed_and_removed_items_are_counted(released: Workspace, tmp_path: Path) -> None:
    workspace = copied(released, tmp_path / "copy")
    path = workspace.data_dir / "items.jsonl"
    items = [json.loads(line) for line in path.read_text().splitlines()]
    items[0]["title"] = "something else altogether"
    path.write_text("".join(json.dumps(item) + "\n" for item in items[:-1]))
    validate_job(workspace, now=NOW)
    embed_job(workspace)
    report, _, _ = reported(workspace)
    drift = report["drift"]
    assert (drift["added"], drift["changed"], drift["removed"]) == (0, 1, 1)
    assert (drift["kinds"]["text"]["new"], drift["kinds"]["image"]["new"]) == (1, 0)


def test_without_vectors_the_message_names_the_job(tmp_path: Path) -> None:
    workspace, _ = write_workspace(tmp_path, n_items=8, n_users=6)
    validate_job(workspace, now=NOW)
    with pytest.raises(MissingArtifact, match="recsys embed"):
        embed_report_job(workspace)
    embed_job(workspace)
    shutil.rmtree(workspace.root / "artifacts" / "content")
    with pytest.raises(MissingArtifact, match="recsys embed"):
        embed_report_job(workspace)
