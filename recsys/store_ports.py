"""What the recommender needs of its stores: live state of users and items, and the logs. Adapters live in storage/."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.events import (
    ErasureReceipt,
    EventStatus,
    Exposure,
    Interaction,
    SpoolRange,
    StoredExposures,
    UserMerge,
)
from recsys.types import HistoryItem

MAX_STORED_HISTORY = 200
MAX_STORED_SERVED = 1000


def _no_hashes() -> NDArray[np.uint64]:
    return np.empty(0, np.uint64)


def _no_times() -> NDArray[np.int64]:
    return np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class UserState:
    """All that one request needs to know of a user, read in one round trip.

    Attributes:
        history: the latest `MAX_STORED_HISTORY` interactions, oldest first.
        seen: uint64 [S], sorted `hash64` of every item_id the user ever interacted with.
        blocked: uint64 [K], sorted `hash64` of items this user must never see.
        version: changes whenever history, seen or blocked do; a cache key. What was served does not change it.
        served: uint64 [R], `hash64` of the items last put before the user, in order of arrival; empty unless asked
            for. An item that was served twice stands twice.
        served_at_ms: int64 [R], when each was, UTC milliseconds.
    """

    history: tuple[HistoryItem, ...] = ()
    seen: NDArray[np.uint64] = field(default_factory=_no_hashes)
    blocked: NDArray[np.uint64] = field(default_factory=_no_hashes)
    version: int = 0
    served: NDArray[np.uint64] = field(default_factory=_no_hashes)
    served_at_ms: NDArray[np.int64] = field(default_factory=_no_times)

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory."""
        return 200 + 150 * len(self.history) + 8 * (len(self.seen) + len(self.blocked)) + 16 * len(self.served)

    def unpack(self) -> UserState:
        """Itself: a state that is unpacked already is a `PackedState` too."""
        return self


class PackedState(Protocol):
    """A user's state as it was read. Who keeps derived values by (user, version) unpacks only what has changed."""

    @property
    def version(self) -> int:
        """`UserState.version`, without unpacking anything."""
        ...

    @property
    def served(self) -> NDArray[np.uint64]:
        """`UserState.served`, without unpacking the rest."""
        ...

    @property
    def served_at_ms(self) -> NDArray[np.int64]:
        """`UserState.served_at_ms`, without unpacking the rest."""
        ...

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory."""
        ...

    def unpack(self) -> UserState:
        """All of it; some 50 µs for 200 items of history."""
        ...


class StateReader(Protocol):
    """Users' states for an event loop: the one read of the hot path."""

    async def packed_state(self, user_id: str, *, timeout_s: float, with_served: bool = False) -> PackedState:
        """One round trip; an unknown user has version 0 and the empty state.

        Cancelling it is safe: the answer, when it comes, is given to nobody.

        Args:
            timeout_s: what is left of the request's budget.
            with_served: read what was served lately too.

        Raises:
            StoreUnavailable: the store does not answer within `timeout_s`, or is known not to answer at all, which is
                said at once; or what it holds is not a state (then from the answer's own methods).
        """
        ...

    async def close(self) -> None:
        """Let go of the connection; whoever still waits gets StoreUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class LiveItem:
    """An item as upserted while a release serves.

    Attributes:
        item_id: its external id.
        fields: the catalogue fields that were ever upserted (of `CatalogItem`, as JSON values; None clears one).
            All others are the release's, so a newer catalogue changes them.
        vectors: modality → float32 [D] content vector in the encoder's space.
        space_ids: modality → embedding space of that vector; another space's vector is not used.
        deleted: True = the item must not be shown any more.
        version: the store's counter at the write; grows with every upsert.
    """

    item_id: str
    fields: Mapping[str, Any]
    vectors: Mapping[str, NDArray[np.float32]]
    space_ids: Mapping[str, str]
    deleted: bool = False
    version: int = 0


class FeatureStore(Protocol):
    """Live state of users and items. A store, not a cache: nothing in it may be lost.

    Every method raises StoreUnavailable when the store does not answer.
    """

    def user_state(self, user_id: str, with_served: bool = False) -> UserState:
        """One round trip; an unknown user has the empty state. `served` is filled when asked for."""
        ...

    def import_histories(self, histories: Iterable[tuple[str, Sequence[HistoryItem]]]) -> int:
        """Merge past interactions into the users' states without logging them as events; the number of users.

        Idempotent by `event_hash`; history ends up sorted by (occurred_at_ms, arrival). What lies before the erasure
        of its user stays away, and so does what has no time.
        """
        ...

    def block(self, user_id: str, item_ids: Sequence[str]) -> None:
        """Never show these items to this user again."""
        ...

    def unblock(self, user_id: str, item_ids: Sequence[str]) -> None:
        """They may be shown again."""
        ...

    def note_served(self, user_id: str, item_hashes: NDArray[np.uint64], at_ms: int, keep_s: float) -> None:
        """These items (uint64 [R], `hash64`) were put before the user; see `UserState.served`.

        Of each user the last `MAX_STORED_SERVED` are kept, until `keep_s` after the last call; who wants to forget them
        one by one looks at `served_at_ms`. Not durable: what was served does not outlive a power cut.
        """
        ...

    def merge_users(self, source_user_id: str, target_user_id: str, *, now: datetime) -> UserState:
        """An anonymous user turned out to be a known one: the target's state after it, in one atomic step.

        Histories are merged by time (at the same time, the target's first), seen and blocked united, what was served
        joined, and the source's state is gone. The log is left as it is; the merge is added to `merges`. Again is the
        same as once. Later events of the source make a state of the source again, until it is merged again.
        """
        ...

    def merges(self) -> Iterator[UserMerge]:
        """All merges, in order. Streams."""
        ...

    def erase_user(self, user_id: str, *, now: datetime) -> ErasureReceipt:
        """Forget a user, and all who were merged into them: states, interactions, exposures, marks, merges.

        From the first step on, nothing of theirs that happened up to `now` (or up to the latest of their events, should
        its clock have been ahead) comes in any more: such events are "rejected", such exposures, imports and served
        items dropped. For that a hash of the id stays, with this time. What they do later makes a new user.

        Again is the same as once, with a receipt of zeros; a call that raised is to be repeated. Cursors stay valid.
        """
        ...

    def upsert_items(self, items: Sequence[LiveItem]) -> int:
        """Write items (their `version` is set by the store); the store's version after it."""
        ...

    def items_since(self, version: int) -> tuple[int, Sequence[LiveItem]]:
        """The store's version now, and the items written after `version`, each once, in its latest form.

        A `version` beyond the store's own is of a store that was lost: the answer then holds all items.
        """
        ...

    def delete_items(self, item_ids: Sequence[str]) -> int:
        """Each becomes a `LiveItem` that is deleted and keeps nothing of its content; the store's version after it.
        A later upsert brings the item back."""
        ...

    def trending(self, now_ms: int, half_life_s: float, k: int) -> tuple[tuple[str, ...], NDArray[np.float32]]:
        """What is taken most now: at most `k` item_ids and their weights float32 [<= k], the largest first.

        An accepted event weighs 2 ** (-age / half_life_s), whatever its type, in steps of ten minutes and for at most
        five half-lives or a day. One round trip; meant to be asked every few seconds, not for each request.
        """
        ...

    def ping(self) -> None:
        """Raises StoreUnavailable unless the store can answer."""
        ...

    def close(self) -> None: ...


class EventLog(Protocol):
    """Append-only log of interactions and exposures. The adapter that implements it also keeps the users' states:
    an accepted interaction is in the log and in `FeatureStore.user_state` after one atomic step."""

    def append(self, interactions: Sequence[Interaction]) -> list[EventStatus]:
        """One status each, in order. The second event with one event_id is a "duplicate", also within a batch; one
        from before the erasure of its user is "rejected", for good."""
        ...

    def append_exposure(self, exposure: Exposure) -> None:
        """One exposure; dropped when its user was erased after it."""
        ...

    def append_exposures(
        self, exposures: Sequence[Exposure], spooled: SpoolRange | None = None, *, served_keep_s: float = 0.0
    ) -> StoredExposures:
        """A batch in one atomic step; those whose user was erased after them are dropped.

        Args:
            spooled: where the batch comes from. Bytes that were stored before are not stored again: when the store
                has the spool beyond `start` already, nothing is written, and `until` says where to go on.
            served_keep_s: where it is not 0, the items count as served to their users too: see
                `FeatureStore.note_served`.
        """
        ...

    def read(self, after: str = "") -> Iterator[tuple[str, Interaction]]:
        """Interactions in append order after a cursor ("" = from the start), each with its cursor. Streams.

        Cursors stay valid when users are erased: the others' events after them are all read, each once."""
        ...

    def exposures(self, after: str = "") -> Iterator[tuple[str, Exposure]]: ...


class RequestStore(Protocol):
    """The part of a store that one request uses."""

    def user_state(self, user_id: str) -> PackedState:
        """See `FeatureStore.user_state`."""
        ...

    def append_exposure(self, exposure: Exposure) -> None:
        """See `EventLog.append_exposure`."""
        ...


class Store(FeatureStore, EventLog, Protocol):
    """What one store URL gives: `sqlite:///path`, `redis://host:port/db`, `memory://`."""
