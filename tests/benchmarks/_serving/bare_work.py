"""`python -m tests.benchmarks._serving.bare_work WORKSPACE PEERS REDIS_URL REPLY HISTORIES CALLS`: the bare parts of a
request, each alone, in one process.

Reads lines from stdin: `parts` or `features`; answers each with one line of JSON, CPU microseconds a call by name. Each
call takes another user, so that nothing is warmer than it is in the service.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import redis.asyncio
import uvloop

from recsys.filtering import FilterConfig, GateInput, allowed
from recsys.history import History
from recsys.index.files import open_index
from recsys.inference.towers import OnnxItemTower, OnnxQueryTower
from recsys.live import CatalogView, view_of
from recsys.ranking import rank_features
from recsys.release_loading import Adapters, load_release
from recsys.storage.release_files import LocalReleaseStore
from recsys.storage.urls import open_state_reader, open_store
from recsys.times import to_ms
from recsys.types import Candidates
from serving.bodies import ENCODER, decode
from serving.schemas import RecommendationReply, RecommendationRequest
from tests.benchmarks._serving.build import ANN_QUOTA
from tests.benchmarks._serving.peer_keys import textbook_item
from tests.benchmarks._serving.world import LIMIT, N_CANDIDATES, item_id, user_id

MOST_USERS = 500
Call = Callable[[int], object]


def load_view(workspace: Path) -> CatalogView:
    """The published release as the service holds it."""
    store = LocalReleaseStore(workspace)
    current = store.current()
    assert current is not None
    adapters = Adapters(open_index, OnnxQueryTower, OnnxItemTower, lambda files: _no_encoder(files))
    return view_of(load_release(store, current, adapters))


def _no_encoder(files: Mapping[str, Path]) -> object:
    raise RuntimeError(f"this release carries no encoders, but there are {sorted(files)}")


class BareWork:
    """The parts over one view; `user` counts the calls."""

    def __init__(self, view: CatalogView, redis_url: str, reply: bytes, histories: Path) -> None:
        self.view = view
        self.histories = np.load(histories)[:MOST_USERS].astype(np.int64)
        self.event_types = np.load(histories.with_name("event_types.npy"))[:MOST_USERS].astype(np.int64)
        self.n_users = len(self.histories)
        self.store = open_store(redis_url)
        self.reader = open_state_reader(redis_url, self.store)
        self.states = [self.store.user_state(user_id(user)) for user in range(self.n_users)]
        assert all(len(state.history) == self.histories.shape[1] for state in self.states), "Redis lacks the users"
        self.requests = [
            json.dumps({"user_id": user_id(user), "limit": LIMIT}, separators=(",", ":")).encode()
            for user in range(self.n_users)
        ]
        self.request_decoder = msgspec.json.Decoder(RecommendationRequest)
        self.reply = msgspec.json.Decoder(RecommendationReply).decode(reply)
        encoder = view.release.query_encoder
        assert encoder is not None
        self.encoder = encoder
        self.vectors = [view.vectors(rows) for rows in self.histories]
        self.queries = [self._tower(user) for user in range(self.n_users)]
        self.found = [view.index.search(query[None], N_CANDIDATES)[0][0] for query in self.queries]
        self.nobody = np.empty(0, np.uint64)
        self.filter = FilterConfig()
        # As many as the service asks for: its quota, and those that the user has seen.
        self.n_asked = ANN_QUOTA + self.histories.shape[1]
        self.pasts = [
            History(rows, types, state.seen, state.blocked)
            for rows, types, state in zip(self.histories, self.event_types, self.states, strict=True)
        ]
        self.leads = [
            view.release.neighbours.votes(past.rows).of(rows) for past, rows in zip(self.pasts, self.found, strict=True)
        ]

    def parts(self) -> dict[str, Call]:
        """The bare parts of a request but the read, which needs an event loop."""
        return {
            "JSON decode": lambda user: decode(self.request_decoder, self.requests[user]),
            "tower": self._tower,
            "index search": lambda user: self.view.index.search(self.queries[user][None], self.n_asked),
            "gate": self._gate,
            "JSON encode": lambda user: ENCODER.encode(self.reply),
        }

    async def read(self, user: int) -> int:
        """By the service's own reader, as far as a request goes whose user did nothing since."""
        return (await self.reader.packed_state(user_id(user), timeout_s=1.0)).version

    def _tower(self, user: int) -> np.ndarray:
        return self.encoder.encode(self.vectors[user], self.event_types[user], None)

    def _gate(self, user: int) -> object:
        state = self.states[user]
        gate = GateInput(self.view, to_ms(datetime.now(UTC)), state.seen, state.blocked, self.nobody)
        return allowed(gate, self.found[user], self.filter)

    def columns(self, user: int) -> object:
        """All that gate and ranking read of 200 candidates, as `recommend` gets it: in-process columns. What the
        history says of them stands with them, as it does in the service."""
        rows, view = self.found[user], self.view
        similarity = view.vectors(rows) @ self.queries[user]
        candidates = Candidates(rows, similarity, np.ones(len(rows), np.int64), similarity, *self.leads[user])
        features = rank_features(self.pasts[user], candidates, view)
        shown = view.availability
        return features, shown.hidden[rows], shown.from_ms[rows], shown.until_ms[rows]


class Hgetall:
    """200 items' features by redis-py's asyncio pipeline, as the textbook stack reads them."""

    def __init__(self, redis_url: str, found: Sequence[np.ndarray]) -> None:
        self._client = redis.asyncio.Redis.from_url(redis_url, decode_responses=True)
        self._keys = [[textbook_item(item_id(row)) for row in rows.tolist()] for rows in found]

    async def read(self, user: int) -> object:
        pipeline = self._client.pipeline(transaction=False)
        for key in self._keys[user]:
            pipeline.hgetall(key)
        features = await pipeline.execute()
        return np.array([float(each["popularity"]) for each in features], np.float32)


def cpu_us(call: Call, n_calls: int, n_users: int) -> float:
    started = time.process_time_ns()
    for number in range(n_calls):
        call(number % n_users)
    return (time.process_time_ns() - started) / 1e3 / n_calls


async def async_cpu_us(call: Callable[[int], Awaitable[object]], n_calls: int, n_users: int) -> float:
    started = time.process_time_ns()
    for number in range(n_calls):
        await call(number % n_users)
    return (time.process_time_ns() - started) / 1e3 / n_calls


def main(workspace: str, redis_url: str, reply: str, histories: str, calls: str) -> None:
    work = BareWork(load_view(Path(workspace)), redis_url, Path(reply).read_bytes(), Path(histories))
    hgetall, n_calls = Hgetall(redis_url, work.found), int(calls)
    loop = uvloop.new_event_loop()
    parts = work.parts()
    for call in parts.values():
        cpu_us(call, min(n_calls, 50), work.n_users)
    loop.run_until_complete(async_cpu_us(hgetall.read, 5, work.n_users))
    loop.run_until_complete(async_cpu_us(work.read, 50, work.n_users))
    for line in sys.stdin:
        if line.strip() == "parts":
            answer = {name: cpu_us(call, n_calls, work.n_users) for name, call in parts.items()}
            read = loop.run_until_complete(async_cpu_us(work.read, n_calls, work.n_users))
            answer["packed read"] = read
        else:
            reads = max(n_calls // 4, 5)
            theirs = loop.run_until_complete(async_cpu_us(hgetall.read, reads, work.n_users))
            answer = {"ours": cpu_us(work.columns, n_calls, work.n_users), "hgetall": theirs}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
