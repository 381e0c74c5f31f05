"""The job around embedding: only what changed is encoded, and the vectors line up with the dataset."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from embeddings.fake_encoder import FakeEncoder
from embeddings.item_text import profile_text
from jobs.artifacts import load_content, load_dataset
from jobs.embed import embed_job, profile_texts
from jobs.embed_streams import EmbedChoice, engine_of, refused_path
from jobs.validate import validate_job
from recsys.errors import MissingArtifact
from recsys.workspace import Workspace
from tests.worlds.checkerboard import World
from tests.worlds.workspaces import NOW, add_item, write_workspace


@pytest.fixture
def embedded(tmp_path: Path) -> tuple[Workspace, World]:
    workspace, world = write_workspace(tmp_path, n_items=8, n_users=6)
    validate_job(workspace, now=NOW)
    embed_job(workspace)
    return workspace, world


def embed_again(workspace: Workspace) -> tuple[dict[str, Any], int]:
    validate_job(workspace, now=NOW)
    return embed_job(workspace)


def change_item(workspace: Workspace, row: int, **fields: object) -> None:
    path = workspace.data_dir / "items.jsonl"
    items = [json.loads(line) for line in path.read_text().splitlines()]
    items[row] |= fields
    path.write_text("".join(json.dumps(item) + "\n" for item in items))


def encoded(result: dict[str, Any]) -> dict[str, int]:
    return {name: result[name]["encoded"] for name in ("image", "text", "users")}


def test_vectors_are_those_of_the_encoder_in_the_order_of_the_items(embedded: tuple[Workspace, World]) -> None:
    workspace, world = embedded
    dataset = load_dataset(workspace)
    content = load_content(workspace, dataset)
    image = content.modality("image")
    assert image.present.all()
    direct = FakeEncoder("image").encode([item.picture for item in world.items])
    np.testing.assert_allclose(image.vectors, direct, atol=2**-10)  # kept as float16: 11 bits of a value up to 1
    text = content.modality("text")
    of_first = FakeEncoder("text").encode([f"{world.items[0].title}. Fire."])[0]
    np.testing.assert_allclose(text.vectors[0], of_first, atol=2**-10)


def test_a_second_run_encodes_nothing(embedded: tuple[Workspace, World]) -> None:
    workspace, _ = embedded
    before = load_content(workspace, load_dataset(workspace))
    result, exit_code = embed_job(workspace)
    assert exit_code == 0
    assert encoded(result) == {"image": 0, "text": 0, "users": 0}
    assert result["text"]["known_already"] == result["image"]["known_already"] == 8
    assert result["content"] == before.key


def test_a_changed_title_encodes_one_text(embedded: tuple[Workspace, World]) -> None:
    workspace, _ = embedded
    before = load_content(workspace, load_dataset(workspace)).modality("text").vectors
    change_item(workspace, 3, title="something else altogether")
    result, _ = embed_again(workspace)
    assert encoded(result) == {"image": 0, "text": 1, "users": 0}
    after = load_content(workspace, load_dataset(workspace)).modality("text").vectors
    assert np.flatnonzero((before != after).any(axis=1)).tolist() == [3]


def test_a_new_item_encodes_its_own_content(embedded: tuple[Workspace, World]) -> None:
    workspace, world = embedded
    (workspace.data_dir / "images" / "new.png").write_bytes(world.items[0].picture + b"\0")
    add_item(workspace, "item-9000", title="brand new", image="images/new.png")
    result, _ = embed_again(workspace)
    assert encoded(result) == {"image": 1, "text": 1, "users": 0}


def test_two_identical_pictures_are_encoded_once_and_the_report_says_so(tmp_path: Path) -> None:
    workspace, _ = write_workspace(tmp_path, n_items=8, n_users=6)
    images = workspace.data_dir / "images"
    shutil.copyfile(images / "item-0000.png", images / "item-0004.png")
    result, _ = embed_again(workspace)
    told = result["image"]
    assert (told["items"], told["encoded"], told["known_already"], told["duplicates"]) == (8, 7, 0, 1)
    assert (told["absent"], told["refused"], told["saved_encodes"]) == (0, 0, 1)
    assert told["saved_device_s"] == pytest.approx(told["device_s"] / 7, abs=1e-3)
    vectors = load_content(workspace, load_dataset(workspace)).modality("image").vectors
    np.testing.assert_array_equal(vectors[0], vectors[4])
    assert (vectors[0] != vectors[2]).any()


def test_a_picture_that_cannot_be_read_costs_that_item_alone(
    embedded: tuple[Workspace, World], capsys: pytest.CaptureFixture[str]
) -> None:
    workspace, world = embedded
    (workspace.data_dir / "images" / "item-0002.png").write_bytes(b"not a picture")
    (workspace.data_dir / "images" / "item-0005.png").unlink()
    change_item(workspace, 6, image="http://127.0.0.1:9/picture.png")
    result, exit_code = embed_again(workspace)
    assert exit_code == 1
    assert (result["image"]["refused"], result["image"]["encoded"]) == (3, 0)
    present = load_content(workspace, load_dataset(workspace)).modality("image").present
    assert np.flatnonzero(~present).tolist() == [2, 5, 6]
    said = capsys.readouterr().out
    assert "not_found 1, as item-0005:" in said
    assert "address_not_global 1, as item-0006:" in said
    refused = pq.read_table(refused_path(workspace, "image")).to_pylist()
    assert [(each["item_id"], each["reference"], each["reason"]) for each in refused] == [
        ("item-0002", "images/item-0002.png", "unknown_format"),
        ("item-0005", "images/item-0005.png", "not_found"),
        ("item-0006", "http://127.0.0.1:9/picture.png", "address_not_global"),
    ]

    (workspace.data_dir / "images" / "item-0002.png").write_bytes(world.items[2].picture)
    mended, _ = embed_job(workspace)
    assert (mended["image"]["refused"], mended["image"]["encoded"]) == (2, 0)


def test_items_without_pictures_or_words_have_none(tmp_path: Path) -> None:
    workspace, _ = write_workspace(tmp_path, n_items=8, n_users=6)
    add_item(workspace, "bare")
    result, exit_code = embed_again(workspace)
    assert exit_code == 0
    assert (result["image"]["absent"], result["text"]["absent"]) == (1, 1)
    content = load_content(workspace, load_dataset(workspace))
    assert not content.modality("text").present[8]
    assert not content.modality("text").vectors[8].any()


def test_pictures_are_named_relative_to_the_items_file(tmp_path: Path) -> None:
    workspace, _ = write_workspace(tmp_path, n_items=8, n_users=6, more='[data]\nitems_file = "shop/items.jsonl"\n')
    (workspace.data_dir / "shop").mkdir()
    for name in ("items.jsonl", "images"):
        (workspace.data_dir / name).rename(workspace.data_dir / "shop" / name)
    result, exit_code = embed_again(workspace)
    assert exit_code == 0
    assert encoded(result)["image"] == 8


def test_a_modality_may_be_switched_off(tmp_path: Path) -> None:
    workspace, _ = write_workspace(tmp_path, n_items=8, n_users=6)
    encoders = workspace.config.encoders.model_copy(update={"text": "none"})
    workspace = Workspace(workspace.root, workspace.config.model_copy(update={"encoders": encoders}))
    result, _ = embed_again(workspace)
    assert set(result) == {"content", "image"}
    dataset = load_dataset(workspace)
    content = load_content(workspace, dataset)
    assert set(content.spaces) == {"image"}
    assert content.user_content(dataset) is None


def test_vectors_of_another_catalogue_are_refused(embedded: tuple[Workspace, World]) -> None:
    workspace, _ = embedded
    change_item(workspace, 0, item_id="renamed")
    validate_job(workspace, now=NOW)
    with pytest.raises(MissingArtifact, match="changed since they were embedded: run `recsys embed` first"):
        load_content(workspace, load_dataset(workspace))
    embed_job(workspace)
    assert load_content(workspace, load_dataset(workspace)).modality("text").present.all()


def test_embedding_needs_a_dataset(tmp_path: Path) -> None:
    workspace, _ = write_workspace(tmp_path, n_items=8, n_users=6)
    with pytest.raises(MissingArtifact, match="run `recsys validate`"):
        embed_job(workspace)


def test_profiles_are_what_users_told(tmp_path: Path) -> None:
    workspace, _ = write_workspace(tmp_path, n_items=8, n_users=6)
    with (workspace.data_dir / "users.jsonl").open("a") as users:
        users.write(json.dumps({"user_id": "silent"}) + "\n")
    result, _ = embed_again(workspace)
    dataset = load_dataset(workspace)
    texts = profile_texts(dataset)
    assert texts[0] == "likes: Fire. ember flame furnace scarlet."
    assert texts[-1] is None
    # 4 users and 2 newcomers, who say one of two things, and one who says nothing.
    assert (result["users"]["encoded"], result["users"]["saved_encodes"], result["users"]["absent"]) == (2, 4, 1)
    profiles = load_content(workspace, dataset).user_content(dataset)
    assert profiles is not None
    assert profiles.user_ids[4:] == ("newcomer-fire", "newcomer-water", "silent")
    assert profiles.text.present.tolist() == [True] * 6 + [False]
    np.testing.assert_array_equal(profiles.text.vectors[0], profiles.text.vectors[4])
    assert (profiles.text.vectors[4] != profiles.text.vectors[5]).any()


@pytest.mark.parametrize(
    ("attributes", "text", "expected"),
    [
        ({}, None, None),
        ({}, "  ", None),
        ({"city": "Wien"}, None, "city: Wien."),
        ({}, "I like\n jazz!", "I like jazz!"),
        ({"likes": ["jazz", "rock"], "age": 34}, "Hello", "age: 34. likes: jazz, rock. Hello."),
        ({"first_name": "Ann", "member": True, "staff": False}, None, "first name: Ann. member."),
        (
            {"empty": "", "none": None, "list": [], "nested": {"a": 1}, "zero": 0, "share": 0.5},
            None,
            "share: 0.5. zero: 0.",
        ),
    ],
)
def test_the_text_of_a_profile(attributes: dict[str, Any], text: str | None, expected: str | None) -> None:
    assert profile_text(attributes, text) == expected


def test_another_engine_leaves_the_same_content(embedded: tuple[Workspace, World], tmp_path: Path) -> None:
    workspace, _ = embedded
    other, _ = write_workspace(tmp_path / "other", n_items=8, n_users=6)
    validate_job(other, now=NOW)
    result, exit_code = embed_job(other, EmbedChoice(engine_of("processes", workers=2)))
    assert exit_code == 0
    assert encoded(result) == {"image": 8, "text": 8, "users": 2}
    for name in ("image", "text"):
        one, two = (load_content(each, load_dataset(each)).modality(name).vectors for each in (workspace, other))
        np.testing.assert_array_equal(one, two)


def test_what_failed_is_tried_again_when_it_is_asked_for(embedded: tuple[Workspace, World]) -> None:
    workspace, _ = embedded
    (workspace.data_dir / "images" / "item-0002.png").write_bytes(b"not a picture")
    embed_again(workspace)
    again, _ = embed_job(workspace)
    retried, exit_code = embed_job(workspace, EmbedChoice(retry_failed=True))
    assert (again["image"]["known_already"], retried["image"]["known_already"]) == (8, 7)
    assert (retried["image"]["refused_by_reason"], exit_code) == ({"unknown_format": 1}, 1)
