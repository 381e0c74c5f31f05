"""What the benchmark serves: sizes, files, ids and requests. Made once and kept; loads neither torch nor the service.

FOLDER/
    workspace/, cache_off/    two workspaces of one release; the second keeps no query vectors
    peers/                    the same items, vectors and tower for the two peers
    histories.npy             int32 [U, H] item rows of each user, oldest first, with event_types.npy uint8 [U, H]
    redis/dump.rdb            every user's state for the service and for both peers, every item for both peers
    complete                  written last
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.storage.atomic import locked_folder

ROOT = Path(__file__).resolve().parents[3]
PATH = "/v1/recommendations"
LIMIT = 20
N_CANDIDATES = 200
EVENT_TYPES = ("unknown", "view", "cart", "purchase")
# Files that the stored world depends on: another version of one of them makes another world.
SOURCES = (
    "recsys/release.py",
    "recsys/release_loading.py",
    "recsys/catalog.py",
    "recsys/manifest.py",
    "recsys/features",
    "recsys/index",
    "recsys/models",
    "recsys/storage",
    "tests/benchmarks/_serving/build.py",
    "tests/benchmarks/_serving/catalogue.py",
    "tests/benchmarks/_serving/peer_keys.py",
    "tests/benchmarks/_serving/world.py",
)


@dataclass(frozen=True)
class WorldSize:
    """How large the catalogue and its users are.

    Attributes:
        n_clusters: groups of items with like vectors, from which each user takes three.
        history: interactions of each user, all with different items.
    """

    n_items: int = 100_000
    dim: int = 128
    text_dim: int = 384
    image_dim: int = 256
    n_clusters: int = 300
    n_neighbours: int = 200
    n_users: int = 20_000
    history: int = 50


SMOKE_SIZE = WorldSize(2_000, 32, 48, 32, n_clusters=8, n_neighbours=50, n_users=200, history=20)


@dataclass(frozen=True)
class World:
    """A world that is complete on disk."""

    folder: Path
    size: WorldSize

    @cached_property
    def histories(self) -> NDArray[np.int32]:
        histories: NDArray[np.int32] = np.load(self.folder / "histories.npy")
        return histories

    def workspace(self, *, query_cache: bool) -> Path:
        return self.folder / ("workspace" if query_cache else "cache_off")

    def asked_users(self, most: int) -> list[int]:
        """The users that the load asks for: the first ones, and no more than there are."""
        return list(range(min(most, self.size.n_users)))


def item_id(row: int) -> str:
    return f"item-{row:06d}"


def user_id(user: int) -> str:
    return f"user-{user:05d}"


def request_bytes(body: dict[str, object], *headers: tuple[str, str]) -> bytes:
    """One request for recommendations as it goes over the wire."""
    data = json.dumps(body, separators=(",", ":")).encode()
    lines = [f"POST {PATH} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in (*headers, ("Content-Length", str(len(data))))]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def requests_of(users: Sequence[int]) -> list[bytes]:
    """One request for each of these users, for 20 items."""
    return [request_bytes({"user_id": user_id(user), "limit": LIMIT}) for user in users]


def ensure_world(cache: Path, size: WorldSize) -> World:
    """The world of this size, from `cache` where it is there already, else built in a process of its own.

    Worlds of the same size that an earlier version made are removed then.
    """
    folder = cache / _key(size)
    cache.mkdir(parents=True, exist_ok=True)
    with locked_folder(cache):
        if not (folder / "complete").exists():
            for old in cache.glob(f"{size.n_items}x{size.dim}-*"):
                shutil.rmtree(old)
            folder.mkdir()
            command = [sys.executable, "-m", "tests.benchmarks._serving.build", str(folder), json.dumps(asdict(size))]
            subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    return World(folder, size)


def _key(size: WorldSize) -> str:
    digest = hashlib.sha256(json.dumps(asdict(size)).encode())
    for name in SOURCES:
        path = ROOT / name
        for source in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(source.read_bytes())
    return f"{size.n_items}x{size.dim}-{digest.hexdigest()[:12]}"
