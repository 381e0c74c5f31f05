from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from starlette.testclient import TestClient

from recsys.trace import StageTrace
from recsys.types import Slate, SlateItem
from serving.recent_traces import RecentTraces
from serving.routes.traces import renderer
from serving.trace_peers import answering_peers
from tests.serving.asking import recommend, refused
from tests.serving.conftest import Serve

STAGES = tuple(StageTrace(name, 0.5, 200, 100) for name in ("hydrate", "filter", "rank"))


def slate(name: str, n_items: int = 2) -> Slate:
    items = tuple(SlateItem(f"i{at}", 0.5, "ann", ("because",), at) for at in range(n_items))
    return Slate(name, items, "r1", degraded=("hydrate",), trace=STAGES)


def test_the_last_requests_are_kept_and_older_ones_go() -> None:
    traces = RecentTraces(3, 1 << 20)
    for number in range(10):
        traces.put(slate(f"r{number}"))
    assert len(traces) == 3
    assert traces.get("r6") is None
    kept = traces.get("r7")
    assert kept is not None
    assert kept.slate.items[1].item_id == "i1"


def test_large_slates_are_bounded_by_their_bytes() -> None:
    traces = RecentTraces(10_000, 1 << 20)
    for number in range(100):
        traces.put(slate(f"r{number}", n_items=500))
    assert 0 < len(traces) < 10


def test_the_same_recommendation_is_kept_once_and_nothing_where_none_are() -> None:
    traces, none = RecentTraces(3, 1 << 20), RecentTraces(0, 1 << 20)
    for _ in range(5):
        traces.put(slate("r"))
        none.put(slate("r"))
    assert (len(traces), len(none)) == (1, 0)


def test_a_trace_says_what_the_stages_did_and_where_the_items_came_from(client: TestClient) -> None:
    answered = recommend(client, history=[{"item_id": "a1"}], limit=3)
    assert "trace" not in answered
    trace = client.get(f"/v1/recommendations/{answered['recommendation_id']}/trace").json()
    assert trace["stages"][0]["name"] == "hydrate"
    assert [(item["item_id"], item["source"]) for item in trace["items"]] == [
        (item["item_id"], item["source"]) for item in answered["items"]
    ]
    assert trace["release"] == "r1"


def test_what_is_not_kept_any_more_is_not_found_and_the_answer_says_how_many_are(serve: Serve) -> None:
    client = serve(traces={"recent": 2})
    first = recommend(client)["recommendation_id"]
    for _ in range(2):
        recommend(client)
    problem = refused(client.get(f"/v1/recommendations/{first}/trace"), 404)
    assert "last 2 recommendations" in problem["detail"]


def test_what_rules_dropped_is_in_the_trace() -> None:
    traces = RecentTraces(3, 1 << 20)
    traces.put(slate("r"), surface="home", dropped={"seen": 12})
    rendered = renderer(traces)("r")
    assert rendered is not None
    assert b'"surface":"home"' in rendered
    assert b'"dropped":{"seen":12}' in rendered


PEER = """
import asyncio, sys
from pathlib import Path
from serving.recent_traces import RecentTraces
from serving.routes.traces import renderer
from serving.trace_peers import answering_peers
from tests.serving.test_recent_traces import slate

async def main():
    traces = RecentTraces(10, 1 << 30)
    traces.put(slate("theirs/1 é", n_items=500))
    async with answering_peers(renderer(traces), Path(sys.argv[1]), sys.argv[2]):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


@pytest.fixture
def folder() -> Any:
    with TemporaryDirectory() as folder:  # a socket's path must be short
        yield Path(folder)


def peer(folder: Path, name: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PEER, str(folder), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_trace_is_found_in_the_worker_that_knows_it(folder: Path) -> None:
    ours = RecentTraces(10, 1 << 20)
    ours.put(slate("ours"))

    async def ask() -> list[bytes | None]:
        async with answering_peers(renderer(ours), folder, "us") as peers:
            return [await peers.find(name) for name in ("ours", "theirs/1 é", "nobody's", "x" * 10_000)]

    killed = peer(folder, "killed")
    killed.kill()
    killed.communicate()
    with peer(folder, "them") as process:
        own, theirs, nobodys, too_long = asyncio.run(ask())
        process.communicate()
    assert own is not None
    assert theirs is not None
    assert theirs.count(b'"item_id"') == 500
    assert nobodys is too_long is None
    assert list(folder.iterdir()) == [], "those that ended leave no sockets behind"


def test_without_room_for_a_socket_a_worker_still_knows_its_own(tmp_path: Path) -> None:
    ours = RecentTraces(10, 1 << 20)
    ours.put(slate("ours"))
    far = tmp_path / ("x" * 120)
    far.mkdir()

    async def ask() -> bytes | None:
        async with answering_peers(renderer(ours), far, "us") as peers:
            return await peers.find("ours")

    assert asyncio.run(ask()) is not None
