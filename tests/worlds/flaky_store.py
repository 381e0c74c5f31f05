"""A store that can be taken down."""

from __future__ import annotations

from collections.abc import Sequence

from recsys.errors import StoreUnavailable
from recsys.events import EventStatus, Exposure, Interaction
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

    def user_state(self, user_id: str) -> UserState:
        self._require_up()
        return super().user_state(user_id)

    def append(self, interactions: Sequence[Interaction]) -> list[EventStatus]:
        self._require_up()
        return super().append(interactions)

    def append_exposure(self, exposure: Exposure) -> None:
        self._require_up()
        super().append_exposure(exposure)

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
