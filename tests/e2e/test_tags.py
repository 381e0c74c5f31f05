"""From labels to a shop's pages: train a head, tag, let a person overrule it, release, and ask on every path.

In the world half the pictures are of fire and half of water. Fire is blocked.
"""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.integration.released_workspace import recsys, write_workspace
from tests.serving.asking import event, soon
from tests.serving.test_process import ask, serving
from tests.worlds.checkerboard import World, item_id

pytestmark = pytest.mark.slow

SETTINGS = """
live_poll_s = 0.1
release_poll_s = 0.1

[serving.budgets]
search_ms = 60000

[tagging]
taxonomy = "taxonomy.toml"

[tagging.training]
max_epochs = 40
folds = 3

[recommender.filter]
exclude_seen = false
blocked_tags = ["fire"]
"""
TAXONOMY = """
[tags.element]

[tags.fire]
names = { en = "fire", zh = "火" }
parent = "element"
group = "kind"

[tags.water]
parent = "element"
group = "kind"
"""
N_LABELLED = 30
DENIED, ACCUSED = item_id(40), item_id(41)  # fire by its picture, water by its picture


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, World]:
    """A workspace whose release knows what is in its pictures."""
    folder = tmp_path_factory.mktemp("tagged")
    world = write_workspace(folder)
    with (folder / "recsys.toml").open("a") as config:
        config.write(SETTINGS)
    (folder / "taxonomy.toml").write_text(TAXONOMY, encoding="utf-8")
    labels = [f"{item_id(row)},{'fire' if row % 2 == 0 else 'water'}" for row in range(N_LABELLED)]
    (folder / "labels.csv").write_text("\n".join(["item_id,tag", *labels]) + "\n")
    (folder / "words.csv").write_text(
        f"item_id,tag,verdict\n{DENIED},fire,no\n{DENIED},water,yes\n{ACCUSED},fire,yes\n"
    )
    recsys("validate", folder=folder)
    recsys("tag", "train", "--head", "image", "--labels", str(folder / "labels.csv"), folder=folder)
    recsys("tag", folder=folder)
    recsys("tag", "review", "import", str(folder / "words.csv"), "--by", "anna", folder=folder)
    for job in (["embed"], ["train"], ["release", "build", "--publish"]):
        recsys(*job, folder=folder)
    return folder, world


@pytest.fixture(scope="module")
def base(made: tuple[Path, World]) -> Iterator[str]:
    with serving(made[0]) as (_, base):
        soon(lambda: ask(base + "/readyz")[0] == 200, within_s=20)
        soon(lambda: ask(base + "/v1/search", {"text": "is the encoder there"})[0] == 200, within_s=30)
        yield base


def is_fire(name: str) -> bool:
    """What is true of an item of the release, as the last one to speak has it."""
    if name in (DENIED, ACCUSED):
        return name == ACCUSED
    return int(name.removeprefix("item-")) % 2 == 0


def shown(reply: tuple[int, Any]) -> list[str]:
    status, body = reply
    assert status == 200, body
    return [item["item_id"] for item in body["items"]]


def test_a_filter_by_a_tag_gives_the_items_that_have_it(base: str) -> None:
    for text in ('tags has "water"', 'tags has "element" and not tags has "fire"', 'tags has any ("water", "ice")'):
        asked = {"filter": text, "strict_filtering": True, "limit": 100}
        found = shown(ask(base + "/v1/recommendations", asked))
        assert len(found) == 30, text
        assert not any(map(is_fire, found))
    none = {"filter": 'tags has "fire"', "strict_filtering": True, "limit": 100}
    assert shown(ask(base + "/v1/recommendations", none)) == []


def test_an_item_shows_its_tags_and_who_says_so(base: str) -> None:
    status, water = ask(f"{base}/v1/items/{item_id(31)}")
    assert status == 200
    told = {each["tag"]: each for each in water["tags"]}
    assert told["water"]["verdict"] == "yes"
    assert (told["water"]["by"], told["water"]["head"]) == ("model", "image")
    assert 0.5 < told["water"]["confidence"] <= 1
    assert told["water"]["version"]
    assert told["water"]["at"]
    status, denied = ask(f"{base}/v1/items/{DENIED}")
    assert status == 200
    said = {each["tag"]: each for each in denied["tags"]}
    assert (said["fire"]["verdict"], said["fire"]["by"], said["fire"]["model"]) == ("no", "human", "anna")


def test_a_blocked_tag_never_appears_on_any_path(base: str, made: tuple[Path, World]) -> None:
    fires = [item_id(row) for row in range(0, 60, 2) if item_id(row) != DENIED]
    picture = base64.b64encode(made[1].items[0].picture).decode()
    for name in fires[:6]:
        ask(base + "/v1/events:batch", {"events": [event("pyromaniac", name)]})
    history = [{"item_id": name} for name in fires[:5]]
    similar_to = urllib.parse.quote(item_id(31))
    paths: list[tuple[str, Any]] = [
        ("/v1/recommendations", {"limit": 100}),
        ("/v1/recommendations", {"user_id": "pyromaniac", "limit": 100}),
        ("/v1/recommendations", {"session_id": "s", "history": history, "limit": 100}),
        ("/v1/search", {"text": "fire flame", "limit": 100}),
        ("/v1/search", {"image_base64": picture, "limit": 100}),
        ("/v1/search", {"item_id": item_id(31), "limit": 100}),
        ("/v1/refine", {"item_id": item_id(31), "text": "but with fire", "limit": 100}),
        ("/v1/rank", {"user_id": "pyromaniac", "item_ids": [item_id(row) for row in range(60)]}),
        (f"/v1/items/{similar_to}/similar?limit=100", None),
        ("/v1/popular?limit=100", None),
        ("/v1/trending?limit=100", None),
    ]
    for path, body in paths:
        found = shown(ask(base + path, body))
        assert found or "trending" in path, path
        assert not [name for name in found if is_fire(name)], path
    for name in (fires[3], ACCUSED):
        _, item = ask(f"{base}/v1/items/{name}")
        assert not item["shown"]
        assert item["reasons"]


def test_pages_to_the_end_hold_every_item_but_the_blocked_ones(base: str) -> None:
    seen: list[str] = []
    asked: dict[str, Any] = {"limit": 10}
    while True:
        status, reply = ask(base + "/v1/recommendations", asked)
        seen += shown((status, reply))
        if not reply["next_page_token"]:
            break
        asked = {"limit": 10, "page_token": reply["next_page_token"]}
    assert sorted(seen) == sorted(item_id(row) for row in range(60) if not is_fire(item_id(row)))


def test_what_nobody_has_judged_yet_is_not_shown_and_a_new_price_hides_nothing(
    base: str, made: tuple[Path, World]
) -> None:
    water, picture = item_id(33), base64.b64encode(made[1].items[1].picture).decode()
    assert ask(base + "/v1/items", {"item_id": water, "price": 3.5})[0] == 200
    assert ask(base + "/v1/items", {"item_id": "new", "title": "a new thing", "image_base64": picture})[0] == 200
    cheap = {"filter": "price < 10", "strict_filtering": True, "limit": 100}
    soon(lambda: shown(ask(base + "/v1/recommendations", cheap)) == [water])
    assert "new" not in shown(ask(base + "/v1/recommendations", {"limit": 100}))
    assert "new" not in shown(ask(base + "/v1/search", {"text": "a new thing", "limit": 100}))
    assert ask(base + "/v1/items", {"item_id": water, "image_base64": picture})[0] == 200
    soon(lambda: water not in shown(ask(base + "/v1/recommendations", {"limit": 100})))


def test_tagging_again_changes_nothing_and_a_persons_word_stays(made: tuple[Path, World]) -> None:
    folder = made[0]
    before = sorted((folder / "artifacts" / "tags-image").iterdir())
    recsys("tag", "--json", str(folder / "tag.json"), folder=folder)
    assert sorted((folder / "artifacts" / "tags-image").iterdir()) == before
    assert json.loads((folder / "tag.json").read_text())["image"]["refused"] == 0
    done = recsys("release", "build", "--json", str(folder / "release.json"), folder=folder)
    again = recsys("release", "build", "--json", str(folder / "again.json"), folder=folder)
    assert done.returncode == again.returncode == 0
    built = [json.loads((folder / name).read_text())["release"] for name in ("release.json", "again.json")]
    assert built[0] == built[1]


def test_a_picture_that_is_replaced_under_its_name_is_judged_anew(made: tuple[Path, World]) -> None:
    folder, world = made
    (folder / "data" / "images" / f"{item_id(35)}.png").write_bytes(world.items[2].picture)
    recsys("release", "build", "--json", str(folder / "replaced.json"), folder=folder)
    release = json.loads((folder / "replaced.json").read_text())["release"]
    files = json.loads((folder / "releases" / release / "manifest.json").read_text())["files"]
    items = pq.read_table(next((folder / "artifacts" / "objects").rglob(files["items.parquet"]["sha256"])))
    tags = dict(zip(items["item_id"].to_pylist(), items["tags"].to_pylist(), strict=True))
    assert "fire" in tags[item_id(35)]
    assert "fire" not in tags[item_id(37)]
