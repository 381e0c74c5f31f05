"""The families (`tests.worlds.families`) as a shop: the same places, with categories, prices and attributes to filter
by, a recsys.toml that is followed, and towers that can be slow.

Item a3 has the category alpha, the price 4, the year 2003 and, its number being odd, the colour blue; red where even.
The last three of gamma nobody has taken yet.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.testclient import TestClient

from recsys.catalog import CatalogItem
from recsys.config import load_config
from recsys.dataset import Modality
from recsys.release import LoadedRelease
from recsys.serving_config import ServingConfig
from recsys.workspace import CONFIG_NAME, WorkspaceConfig
from serving.app import create_app
from serving.bootstrap import require_sound, service_over
from serving.live_config import ConfigWatcher
from serving.service import Service
from serving.settings import Settings
from serving.telemetry import Telemetry
from tests.serving.world import FlakyStore, Shelf
from tests.worlds.families import DIM, FAMILIES, SPACES, FamilyNames, axis_of
from tests.worlds.in_memory import ContentIsPlace, MeanOfHistory, in_memory_release

N_COLD = 3
RED, BLUE = "red", "blue"
Floats = NDArray[np.float32]


@dataclass
class SlowTower(MeanOfHistory):
    """A query tower that takes its time, once it is told to."""

    delay_s: float = 0.0
    dim: int = DIM
    n_calls: int = 0

    def encode(self, history: Floats, event_types: NDArray[np.int64], user_text: Floats | None = None) -> Floats:
        time.sleep(self.delay_s)
        return super().encode(history, event_types, user_text)


def described(family: str, number: int) -> CatalogItem:
    item_id = f"{FAMILIES[family]}{number}"
    colour = BLUE if number % 2 else RED
    return CatalogItem(
        item_id,
        title=f"Title of {item_id}",
        categories=(family,),
        price=number + 1.0,
        attributes={"year": 2000 + number, "colour": colour, "brand": f"brand {number % 3}"},
    )


def shop(release_id: str = "r1", *, per_family: int = 10, families: Sequence[str] = tuple(FAMILIES)) -> LoadedRelease:
    """A release of `per_family` items each."""
    items = [described(family, number) for family in families for number in range(per_family)]
    noise = np.random.default_rng(0).normal(0, 0.05, (len(items), DIM)).astype(np.float32)
    vectors = np.array([axis_of(family) for family in families for _ in range(per_family)], np.float32) + noise
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    counts = np.maximum(np.arange(len(items), 0, -1) - N_COLD, 0)
    there = np.ones(len(items), dtype=np.bool_)
    return in_memory_release(
        items,
        vectors,
        release_id=release_id,
        counts=counts,
        category_names=tuple(families),
        modalities=tuple(Modality(name, SPACES[name].space_id, vectors, there) for name in ("image", "text")),
        query_encoder=SlowTower(),
        item_encoder=ContentIsPlace(DIM),
        content_encoder=FamilyNames(),
        spaces=SPACES,
    )


def without_encoders(release: LoadedRelease) -> LoadedRelease:
    return replace(release, content_encoder=None)


@dataclass
class Shop:
    """A running service and what it leans on."""

    client: TestClient
    store: Any
    shelf: Shelf
    workspace: Path

    @property
    def service(self) -> Service:
        service: Service = self.client.app.state.service  # type: ignore[attr-defined]
        return service

    def configure(self, toml: str) -> None:
        (self.workspace / CONFIG_NAME).write_text(toml)

    def get(self, path: str, **parameters: Any) -> Any:
        return self.client.get(path, params={name: _as_text(value) for name, value in parameters.items()})

    def post(self, path: str, **body: Any) -> Any:
        return self.client.post(path, json=body)


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass
class Parts:
    """What a shop is made of; the world's own where it is left out."""

    toml: str = ""
    store: Any = field(default_factory=FlakyStore)
    shelf: Shelf = field(default_factory=lambda: Shelf({"r1": shop()}))
    change: Callable[[Service], Service] = lambda service: service


@contextmanager
def open_shop(parts: Parts | None = None, **serving: Any) -> Iterator[Shop]:
    """The service over these parts, with these `[serving]` settings."""
    parts = parts or Parts()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / CONFIG_NAME).write_text(parts.toml)
        config = load_config(root / CONFIG_NAME, WorkspaceConfig)
        fast = {"store_url": "memory://", "live_poll_s": 0.05, "release_poll_s": 0.05, **serving}
        settings = Settings(root, ServingConfig(**fast), config.recommender, config=config)

        def open_service(settings: Settings, telemetry: Telemetry) -> Service:
            watcher = ConfigWatcher(root, settings.config, validate=require_sound, poll_s=0.05)
            shelf = parts.shelf
            return parts.change(service_over(parts.store, shelf, shelf.load, settings, telemetry, watcher=watcher))

        app = create_app(settings, open_service=open_service)
        with TestClient(app, raise_server_exceptions=False) as client:
            yield Shop(client, parts.store, parts.shelf, root)
