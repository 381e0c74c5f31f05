"""The families (`tests.worlds.families`) behind a service: a shelf of releases, a store, and how they are joined."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recsys.errors import CorruptArtifact, StoreUnavailable
from recsys.recommender import RecommenderConfig
from recsys.release import LoadedRelease
from recsys.serving_config import ServingConfig
from serving.bootstrap import service_over
from serving.service import Service
from serving.settings import Settings
from serving.telemetry import Telemetry
from tests.worlds.families import DIM, FamilyNames, release
from tests.worlds.flaky_store import FlakyStore
from tests.worlds.in_memory import MeanOfHistory

__all__ = ["DIM", "FamilyNames", "FlakyStore", "MeanOfHistory", "Shelf", "opener", "release", "settings"]


@dataclass
class Shelf:
    """A release store in memory: releases by id, `None` for one whose bytes are broken, and the pointer."""

    releases: dict[str, LoadedRelease | None] = field(default_factory=lambda: {"r1": release()})
    pointer: str | None = "r1"
    pointer_is_broken: bool = False
    is_silent: bool = False
    before: str | None = None
    known: str | None = None
    held: str | None = None

    def current(self) -> str | None:
        if self.pointer_is_broken:
            raise CorruptArtifact("releases/current names no release")
        self._answer()
        return self.pointer

    def previous(self) -> str | None:
        self._answer()
        return self.before

    def last_known(self) -> str | None:
        return self.known

    def hold(self, release_id: str) -> None:
        self.held = release_id

    def _answer(self) -> None:
        if self.is_silent:
            raise StoreUnavailable("the network is gone")

    def load(self, release_id: str) -> LoadedRelease:
        found = self.releases[release_id]
        if found is None:
            raise CorruptArtifact("item_vectors.npy differs from its manifest")
        return found


def settings(workspace: Path, **serving: Any) -> Settings:
    config = {"store_url": "memory://", "live_poll_s": 0.05, "release_poll_s": 0.05, **serving}
    return Settings(workspace, ServingConfig(**config), RecommenderConfig())


def opener(store: Any, shelf: Any) -> Callable[[Settings, Telemetry], Service]:
    """For `create_app(settings, open_service=...)`: the world's parts joined by the real bootstrap."""

    def open_service(settings: Settings, telemetry: Telemetry) -> Service:
        return service_over(store, shelf, shelf.load, settings, telemetry)

    return open_service
