"""From what heads and people said to a release that is filtered by it, and a model that has learned from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embeddings.tagging.taxonomy import TagDefinition, Taxonomy
from jobs.artifacts import load_content, load_dataset, load_model
from jobs.bootstrap import releases_of
from jobs.refresh import why_retrain
from jobs.release import build_job, publish_job
from jobs.tags_of import tagged, tagging_of, with_implied, with_unmet
from jobs.train import train_job
from recsys.errors import CorruptArtifact, GateFailed, MissingArtifact
from recsys.expressions.evaluation import mask_of
from recsys.expressions.parsing import parse
from recsys.live import updated
from recsys.models.model import load_model as load_weights
from recsys.ports import LiveItem
from recsys.storage.artifact_files import write_artifact
from recsys.tags import JUDGED_SCHEMA, TAG_COLUMNS, TAGS_SCHEMA, looks_at
from recsys.workspace import Workspace
from tests.worlds.checkerboard import item_id
from tests.worlds.tagged_items import said
from tests.worlds.workspaces import NOW, Asker, add_item, copied

COVERS = ("beach", "nsfw")
BLOCKS = '[recommender.filter]\nblocked_tags = ["nsfw"]\n'
EVEN = [said(item_id(row), "beach") for row in range(0, 60, 2)]
ROWS = [*EVEN, said(item_id(1), "nsfw"), said(item_id(3), "nsfw", "unsure", 0.4)]


@pytest.fixture
def workspace(released: Workspace, tmp_path: Path) -> Workspace:
    return copied(released, tmp_path / "work")


def put_tags(
    workspace: Workspace,
    rows: Sequence[Mapping[str, Any]] = ROWS,
    *,
    head: str = "image",
    covers: Sequence[str] = COVERS,
    refused: Sequence[str] = (),
    reads: Sequence[str] | None = None,
) -> None:
    """What `recsys tag` leaves of one head."""
    ids = load_dataset(workspace).vocabulary.item_ids
    judged = {"item_id": ids, "status": ["refused" if each in refused else "judged" for each in ids]}

    def fill(folder: Path) -> dict[str, Any]:
        pq.write_table(pa.Table.from_pylist([dict(each) for each in rows], schema=TAGS_SCHEMA), folder / "tags.parquet")
        pq.write_table(pa.table(judged, schema=JUDGED_SCHEMA), folder / "judged.parquet")
        return {}

    key = f"{len(rows)}-{len(refused)}-{len(covers)}"
    made_from = {"covers": list(covers)} | ({} if reads is None else {"reads": list(reads)})
    write_artifact(workspace.root, f"tags-{head}", key, made_from, fill)


def say(workspace: Workspace, item: str, tag: str, verdict: str) -> None:
    path = workspace.data_dir / "tags" / "human.jsonl"
    path.parent.mkdir(exist_ok=True)
    word = {"item_id": item, "tag": tag, "verdict": verdict, "by": "ann", "at": "2026-05-01T12:00:00Z"}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(word) + "\n")


def built(workspace: Workspace, *, publish: bool = True) -> str:
    result, exit_code = build_job(workspace, now=NOW, publish=publish)
    assert exit_code == 0, result["gate_problems"]
    return str(result["release"])


def passing(workspace: Workspace, text: str) -> set[str]:
    view = Asker.of(workspace).catalog
    return {view.item_id(row) for row in np.flatnonzero(mask_of(parse(text), view))}


def test_where_nothing_was_ever_tagged_there_are_no_tags(workspace: Workspace) -> None:
    assert tagging_of(workspace, load_dataset(workspace)) is None
    assert tagged(workspace, load_dataset(workspace)).items.column_names[-1] == "line"


def test_tags_flow_into_the_release_with_who_says_so(workspace: Workspace) -> None:
    put_tags(workspace, refused=[item_id(5)])
    say(workspace, item_id(0), "beach", "no")
    say(workspace, item_id(7), "beach", "yes")
    built(workspace)
    even = {item_id(row) for row in range(0, 60, 2)}
    assert passing(workspace, 'tags has "beach"') == even - {item_id(0)} | {item_id(7)}
    assert passing(workspace, 'tags has "beach" and not tags has "nsfw"') == passing(workspace, 'tags has "beach"')
    assert passing(workspace, 'tags_unsure has "nsfw"') == {item_id(3), item_id(5)}
    release = Asker.of(workspace).catalog.release
    assert release.schema.tag_heads == {"image": COVERS}
    assert set(TAG_COLUMNS) < set(release.items.column_names)
    assert release.tag_details is not None
    (told,) = release.tag_details.of(7)
    assert (told["by"], told["model"], told["verdict"], told["confidence"]) == ("human", "ann", "yes", 1.0)
    assert [each["verdict"] for each in release.tag_details.of(0)] == ["no"]


def test_the_same_tags_are_the_same_release(workspace: Workspace) -> None:
    put_tags(workspace)
    assert built(workspace) == built(workspace)


def test_an_item_that_came_after_its_head_ran_counts_as_not_readable(workspace: Workspace) -> None:
    put_tags(workspace)
    add_item(workspace, "pictured", title="ember", image="images/item-0001.png")
    add_item(workspace, "words alone", title="ember")
    built(workspace)
    assert passing(workspace, 'tags_unsure has "nsfw"') == {item_id(3), "pictured"}


def test_an_image_head_may_read_words_too(workspace: Workspace) -> None:
    put_tags(workspace, reads=["image", "text"])
    put_tags(workspace, head="detection")
    tagging = tagged(workspace, load_dataset(workspace)).tagging
    assert tagging is not None
    assert tagging.reads == {"image": ("image", "text"), "detection": ("image",)}


@pytest.mark.parametrize(
    ("head", "statuses"),
    [
        ("image", ["refused", "absent", "absent"]),
        ("detection", ["refused", "absent", "absent"]),
        ("text", ["absent", "refused", "absent"]),
        ("speech", ["absent", "absent", "absent"]),
        ("fusion", ["refused", "refused", "absent"]),
        ("of a later version", ["refused", "refused", "absent"]),
    ],
)
def test_what_a_head_has_not_met_is_refused_where_there_is_what_it_looks_at(head: str, statuses: list[str]) -> None:
    fields = {"title": [None, "words", None], "description": [None] * 3, "audio": [None] * 3}
    strings = {name: pa.array(values, pa.string()) for name, values in fields.items()}
    items = pa.table({"item_id": ["a", "b", "c"], "image": ["a.png", None, None], **strings})
    assert with_unmet(JUDGED_SCHEMA.empty_table(), items, looks_at(head))["status"].to_pylist() == statuses
    met = pa.table({"item_id": ["a", "b", "c"], "status": ["judged"] * 3}, schema=JUDGED_SCHEMA)
    assert with_unmet(met, items, looks_at(head)).equals(met)


def test_a_tag_above_others_is_covered_where_all_below_it_are() -> None:
    taxonomy = Taxonomy(
        tags={
            "adult": TagDefinition(),
            "nsfw": TagDefinition(parent="adult"),
            "gore": TagDefinition(parent="adult"),
            "place": TagDefinition(),
            "beach": TagDefinition(parent="place"),
            "city": TagDefinition(parent="place"),
        }
    )
    heads = with_implied({"image": ["nsfw", "beach"], "text": ["gore", "unheard of"]}, taxonomy)
    assert heads == {"image": ("nsfw", "beach", "adult"), "text": ("gore", "unheard of", "adult")}


def test_a_blocked_tag_that_no_head_covers_refuses_the_build(released: Workspace, tmp_path: Path) -> None:
    workspace = copied(released, tmp_path / "work", more=BLOCKS)
    with pytest.raises(MissingArtifact, match="'nsfw', which no head covers: nothing would be shown"):
        built(workspace)
    put_tags(workspace, covers=["beach", "NSFW"], rows=EVEN)
    with pytest.raises(MissingArtifact, match="there is 'NSFW'"):
        built(workspace)


def test_a_release_of_before_the_tag_was_blocked_is_not_published(released: Workspace, tmp_path: Path) -> None:
    workspace = copied(released, tmp_path / "work", more=BLOCKS)
    current = str(releases_of(workspace).current())
    with pytest.raises(GateFailed, match="which no head covers"):
        publish_job(workspace, current)


def test_a_blocked_tag_is_on_no_slate_of_a_new_release(released: Workspace, tmp_path: Path) -> None:
    workspace = copied(released, tmp_path / "work", more=BLOCKS)
    put_tags(workspace, refused=[item_id(5)])
    built(workspace)
    shown = {item.item_id for item in Asker.of(workspace).slate(limit=100).items}
    assert {item_id(row) for row in range(60)} - shown == {item_id(row) for row in (1, 3, 5)}


def test_an_artifact_that_does_not_say_what_it_covers_is_refused(workspace: Workspace) -> None:
    write_artifact(workspace.root, "tags-image", "odd", {}, lambda folder: {})
    with pytest.raises(CorruptArtifact, match="does not say which tags it covers"):
        tagging_of(workspace, load_dataset(workspace))


def test_a_model_that_has_learned_from_tags_is_served_as_it_was_trained(workspace: Workspace) -> None:
    before = load_model(workspace)
    put_tags(workspace)
    dataset = tagged(workspace, load_dataset(workspace))
    content = load_content(workspace, dataset)
    assert why_retrain(workspace, dataset, content) == "there are tags now"
    train_job(workspace)
    model = load_model(workspace)
    assert model.key != before.key
    assert model.category_names == ("Fire", "Water", "tag:beach", "tag:nsfw")
    assert why_retrain(workspace, dataset, content) == ""
    built(workspace)
    view = Asker.of(workspace).catalog
    release = view.release
    trained = load_weights(model.path / "weights")
    np.testing.assert_allclose(release.item_vectors, trained.item_vectors(content.item_content(dataset)), atol=1e-5)
    # A twin of an item, sent as it is, lies where the item would lie without an id.
    twin = LiveItem(
        "twin",
        {"categories": ["Fire"], "attributes": {"tags": ["beach"]}},
        {each.name: each.vectors[12] for each in release.modalities},
        {each.name: each.space_id for each in release.modalities},
    )
    view = updated(view, 1, [twin])
    assert release.item_encoder is not None
    known = {each.name: each.vectors[12] for each in release.modalities}
    expected = release.item_encoder.encode_new(known, release.categories_of(view.released_fields(12)))
    np.testing.assert_allclose(view.vectors(np.array([60]))[0], expected, atol=1e-6)
    untagged = release.item_encoder.encode_new(known, release.categories_of({"categories": ["Fire"]}))
    assert np.abs(untagged - expected).max() > 1e-4
