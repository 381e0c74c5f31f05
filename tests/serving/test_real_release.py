"""The service over a release that the jobs really made: trained towers, ONNX encoders, files on disk."""

from __future__ import annotations

import base64
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from recsys.storage.redis_server import PrivateRedis
from recsys.storage.release_files import LocalReleaseStore
from tests.integration.released_workspace import recsys, write_workspace
from tests.serving.asking import event, soon
from tests.serving.test_process import ask, serving
from tests.worlds.checkerboard import World, item_id

pytestmark = pytest.mark.slow
FAST = "live_poll_s = 0.1\nrelease_poll_s = 0.1\nretry_refused_release_s = 0.2\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, World]:
    """A workspace with one published release."""
    folder = tmp_path_factory.mktemp("released")
    world = write_workspace(folder)
    with (folder / "recsys.toml").open("a") as config:
        config.write(FAST)
    for job in (["validate"], ["embed"], ["train"], ["release", "build"], ["release", "publish"]):
        recsys(*job, folder=folder)
    return folder, world


@pytest.fixture(scope="module")
def base(made: tuple[Path, World]) -> Iterator[str]:
    with serving(made[0]) as (_, base):
        soon(lambda: ask(base + "/readyz")[0] == 200, within_s=20)
        yield base


def recommended(base: str, **body: Any) -> dict[str, Any]:
    status, reply = ask(base + "/v1/recommendations", body)
    assert status == 200, reply
    return dict(reply)


def ids(reply: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in reply["items"]]


def test_the_next_item_of_the_circle_is_found_and_each_event_moves_it(base: str) -> None:
    for row in (10, 12, 14):
        assert ask(base + "/v1/events:batch", {"events": [event("walker", item_id(row))]})[1]["accepted"] == 1
        reply = recommended(base, user_id="walker", limit=3)
        assert ids(reply)[0] == item_id(row + 2)
        assert reply["degraded"] == []


def test_a_session_is_served_by_the_same_towers(base: str) -> None:
    history = [{"item_id": item_id(row)} for row in (31, 33)]
    reply = recommended(base, session_id="s", history=history, limit=5, explain=True)
    assert ids(reply)[0] == item_id(35)
    first = reply["items"][0]
    assert sum(first["parts"].values()) == pytest.approx(first["value"], abs=1e-4)


def test_a_new_item_is_placed_by_its_words_and_picture(base: str, made: tuple[Path, World]) -> None:
    fire, water = made[1].items[0], made[1].items[1]
    for name, like in (("new-fire", fire), ("new-water", water)):
        body = {"item_id": name, "title": like.title, "categories": list(like.categories)}
        body["image_base64"] = base64.b64encode(like.picture).decode()
        status, reply = ask(base + "/v1/items", body)
        assert (status, reply["modalities"], reply["recommendable"]) == (200, ["image", "text"], True)
    rank = ids(recommended(base, history=[{"item_id": item_id(row)} for row in (20, 22, 24)], limit=100))
    assert rank.index("new-fire") < rank.index("new-water")
    like_fire = ids(ask(base + "/v1/items/new-fire/similar?limit=60")[1])
    assert like_fire.index(item_id(2)) < like_fire.index(item_id(3))


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_another_process_shows_an_item_within_two_seconds_and_hides_a_deleted_one(
    made: tuple[Path, World], kind: str, tmp_path: Path
) -> None:
    folder, world = made
    with ExitStack() as stack:
        url = f"sqlite:///{tmp_path}/two.sqlite3"
        if kind == "redis":
            url = stack.enter_context(PrivateRedis(tmp_path)).url
        (_, mine), (_, other) = (stack.enter_context(serving(folder, "--store", url)) for _ in range(2))
        for base in (mine, other):
            soon(lambda base=base: ask(base + "/readyz")[0] == 200, within_s=20)  # type: ignore[misc]
        like = world.items[0]
        body = {"item_id": "new", "title": like.title, "categories": list(like.categories), "price": 777.0}
        assert ask(mine + "/v1/items", body)[1]["recommendable"]
        of_price = {"filter": "price = 777", "strict_filtering": True}
        soon(lambda: ids(recommended(other, limit=100)).count("new") == 1, within_s=2)
        assert ids(recommended(other, **of_price)) == ["new"]
        assert ask(mine + "/v1/items:delete", {"item_ids": ["new", item_id(3)]})[1]["deleted"] == 2
        soon(lambda: "new" not in ids(recommended(other, limit=100)), within_s=2)
        assert item_id(3) not in ids(recommended(other, limit=100))
        first = recommended(mine, limit=5, user_id="u")
        second = recommended(other, limit=5, user_id="u", page_token=first["next_page_token"])
        assert not set(ids(first)) & set(ids(second))


def test_a_picture_that_is_none_is_refused_in_words(base: str) -> None:
    body = {"item_id": "x", "image_base64": base64.b64encode(b"GIF89a....").decode()}
    status, problem = ask(base + "/v1/items", body)
    assert (status, problem["field"]) == (422, "/image_base64")


def test_a_corrupt_release_is_refused_under_load_and_the_mended_one_takes_over(
    base: str, made: tuple[Path, World]
) -> None:
    folder, _ = made
    releases = LocalReleaseStore(folder)
    old = releases.current()
    _add_an_item(folder)
    recsys("release", "build", folder=folder)
    new = next(release_id for release_id in releases.list() if release_id != old)
    broken = _object(releases, new, "item_vectors.npy")
    sound = folder / "sound"
    shutil.copyfile(broken, sound)
    statuses: list[int] = []
    served: list[str] = []
    done = threading.Event()

    def load() -> None:
        while not done.is_set():
            status, reply = ask(base + "/v1/recommendations", {"history": [{"item_id": item_id(4)}]})
            statuses.append(status)
            served.append(reply.get("release", ""))

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    _flip_a_byte(broken)
    releases.publish(new)
    soon(lambda: new in json.dumps(ask(base + "/readyz")[1].get("reasons", "")))
    assert set(served) == {old}
    shutil.copyfile(sound, broken)
    soon(lambda: served[-1] == new, within_s=10)
    done.set()
    for thread in threads:
        thread.join()
    assert set(statuses) == {200}
    assert "late" in ids(recommended(base, limit=100))
    releases.publish(str(old))
    soon(lambda: recommended(base)["release"] == old)


def _add_an_item(folder: Path) -> None:
    (items,) = (folder / "data").glob("items.*")
    with items.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"item_id": "late", "title": "ember flame", "categories": ["Fire"]}) + "\n")


def _object(releases: LocalReleaseStore, release_id: str, name: str) -> Path:
    """The file that holds this part of the release; its own, for no other release has these bytes."""
    path = releases.open(releases.manifest(release_id), name)
    path.chmod(0o644)
    return path


def _flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
