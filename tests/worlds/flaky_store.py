"""A store that can be taken down."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from recsys.errors import StoreUnavailable
from recsys.events import ErasureReceipt, EventStatus, Exposure, Interaction, SpoolRange, StoredExposures
from recsys.ports import LiveItem, UserState
from recsys.storage.memory_store import MemoryStore


class FlakyStore(MemoryStore):
    """A store that answers only while it is `up`."""

    def __init__(self) -> None:
        super().__init__()
        self.up = True

    def _require_up(self) -> None:
        if not self.up:
            raise StoreUnavailable("the store at 10.1.2.3 does not answer")

    def user_state(self, user_id: str, with_served: bool = False) -> UserState:
        self._require_up()
        return super().user_state(user_id, with_served)

    def append(self, interactions: Sequence[Interaction]) -> list[EventStatus]:
        self._require_up()
        return super().append(interactions)

    def append_exposures(
        self, exposures: Sequence[Exposure], spooled: SpoolRange | None = None, *, served_keep_s: float = 0.0
    ) -> StoredExposures:
        self._require_up()
        return super().append_exposures(exposures, spooled, served_keep_s=served_keep_s)

    def note_served(self, user_id: str, item_hashes: NDArray[np.uint64], at_ms: int, keep_s: float) -> None:
        self._require_up()
        super().note_served(user_id, item_hashes, at_ms, keep_s)

    def merge_users(self, source_user_id: str, target_user_id: str, *, now: datetime) -> UserState:
        self._require_up()
        return super().merge_users(source_user_id, target_user_id, now=now)

    def erase_user(self, user_id: str, *, now: datetime) -> ErasureReceipt:
        self._require_up()
        return super().erase_user(user_id, now=now)

    def trending(self, now_ms: int, half_life_s: float, k: int) -> tuple[tuple[str, ...], NDArray[np.float32]]:
        self._require_up()
        return super().trending(now_ms, half_life_s, k)

    def upsert_items(self, items: Sequence[LiveItem]) -> int:
        self._require_up()
        return super().upsert_items(items)

    def items_since(self, version: int) -> tuple[int, Sequence[LiveItem]]:
        self._require_up()
        return super().items_since(version)

    def ping(self) -> None:
        self._require_up()

    def forget_items(self) -> None:
        """As a Redis without persistence does when it restarts."""
        with self._lock:
            self._items.clear()
            self._items_version = 0
