"""A user's history in the rows of a catalogue, and what follows from it alone.

Letters: T interactions, V items that follow them, N items of the release.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Protocol
from weakref import ReferenceType

import numpy as np
from numpy.typing import NDArray

from recsys.events import hash64
from recsys.features.category_lists import CategoryLists
from recsys.live import CatalogView
from recsys.ports import ItemIndex, PackedState, UserState
from recsys.types import Candidates, HistoryItem

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]
Hashes = NDArray[np.uint64]
NO_HASHES: Hashes = np.empty(0, np.uint64)
LOOKED_BACK = 20  # latest interactions that tell which categories somebody is looking at
NEAREST_KEPT, FOUND_KEPT = 400, 800  # neighbours and candidates that are kept, about
ALIKE_KEPT, BYTES_OF_AN_ALIKE = 64, 100
BYTES_OF_OBJECTS = 1500
"""About what the Python objects of one kept history weigh beside its arrays."""
BYTES_OF_A_SESSION_ITEM = 300
"""The same of each interaction that came with the request: it stands in the key."""


@dataclass(frozen=True, slots=True)
class KeptNearest:
    """What an index answered to the history's query vector: rows int64 [k] and similarities float32 [k].

    `index` is a weak reference: what is kept of users must not keep earlier snapshots of the catalogue.
    """

    index: ReferenceType[ItemIndex]
    k: int
    rows: Rows
    similarity: Floats


@dataclass(frozen=True, slots=True)
class KeptFound:
    """The candidates of a history, and what they were found with; `index` and `trending` tell by being the same objects
    that what is shown, what came since the release, and what is taken just now are the same.

    Attributes:
        quotas: of the sources, any object that is equal where they are.
    """

    index: ReferenceType[ItemIndex]
    trending: Rows
    quotas: object
    overshoot: int
    candidates: Candidates


class History:
    """What one user did, in rows; immutable but for what is worked out from it once and kept.

    Attributes:
        rows: int64 [T], oldest first; items that the catalogue lacks are left out.
        event_types: int64 [T], their codes.
        seen, blocked: uint64, sorted `hash64` of item ids.
        missing_ids: ids of the session that the catalogue does not know.
        newcomers_mark: the `Newcomers.mark` that the rows hold for; None where each interaction was with an item of the
            release, so that they hold for all its snapshots.
        query_vector: float32 [D] once the query tower ran; None before.
        nearest: its neighbours as an index last gave them without a filter; None before.
        found: its candidates as they were last found without a filter, pins or exploration; None before.
        alike: row of the release → row of the interaction that it is most like, -1 for none; of some that were shown.
    """

    def __init__(
        self,
        rows: Rows,
        event_types: Rows,
        seen: Hashes,
        blocked: Hashes,
        missing_ids: tuple[str, ...] = (),
        newcomers_mark: object = None,
        n_session: int = 0,
    ) -> None:
        """
        Args:
            n_session: interactions that came with the request.
        """
        self.rows, self.event_types = rows, event_types
        self.seen, self.blocked = seen, blocked
        self.missing_ids = missing_ids
        self.query_vector: Floats | None = None
        self.nearest: KeptNearest | None = None
        self.found: KeptFound | None = None
        self.alike: dict[int, int] = {}
        self.newcomers_mark = newcomers_mark
        self._n_session = n_session
        self._favourites: list[int] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def favourite_categories(self, lists: CategoryLists, k: int) -> list[int]:
        """The codes of the `k` categories that its latest items have most; worked out once."""
        if self._favourites is None:
            self._favourites = lists.richest(self.rows[-LOOKED_BACK:], k)
        return self._favourites

    @property
    def size_bytes(self) -> int:
        """About what keeping it costs, with all that may be worked out later."""
        n_marks = len(self.seen) + len(self.blocked)
        n_more = 12 * n_marks + 32 * 2 * n_marks  # as many more neighbours and popular items as the user has seen
        objects = BYTES_OF_OBJECTS + BYTES_OF_A_SESSION_ITEM * self._n_session
        kept = 12 * NEAREST_KEPT + 32 * FOUND_KEPT + BYTES_OF_AN_ALIKE * ALIKE_KEPT + n_more
        return objects + kept + 16 * len(self.rows) + 8 * n_marks


@dataclass(frozen=True, slots=True)
class NoCache:
    """Keeps nothing."""

    def of(self, key: Hashable, newcomers_mark: object, make: Callable[[], History]) -> History:
        return make()


class Histories(Protocol):
    """Where histories are kept between requests; see `HistoryCache` and `NoCache`."""

    def of(self, key: Hashable, newcomers_mark: object, make: Callable[[], History]) -> History: ...


class HistoryCache:
    """The least recently used histories leave when all of them weigh more than `max_bytes`. Safe from several threads.

    The key holds the version of the user's state, the session and the release; a history in which newcomers stand, or
    items that nobody knows yet, holds only as long as the newcomers are the same. So a hit is never old.
    """

    def __init__(self, max_bytes: int, on_look_up: Callable[[bool], None] = lambda is_hit: None) -> None:
        """`on_look_up` is told of each look-up whether it was a hit."""
        self._max_bytes = max_bytes
        self._on_look_up = on_look_up
        self._kept: dict[Hashable, History] = {}
        self._bytes = 0
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size_bytes(self) -> int:
        return self._bytes

    def of(self, key: Hashable, newcomers_mark: object, make: Callable[[], History]) -> History:
        """The history kept under `key`, if it holds for these newcomers, else `make()`'s, kept from now on."""
        with self._lock:
            found = self._kept.pop(key, None)
            if found is not None:
                self._kept[key] = found  # a dict keeps the order of insertion: it is now the youngest
                if found.newcomers_mark is not None and found.newcomers_mark is not newcomers_mark:
                    found = None
        self._on_look_up(found is not None)
        return found if found is not None else self._keep(key, make())

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self._bytes = 0

    def _keep(self, key: Hashable, history: History) -> History:
        size = history.size_bytes
        if size > self._max_bytes:
            return history
        with self._lock:
            replaced = self._kept.pop(key, None)
            self._bytes += size - (0 if replaced is None else replaced.size_bytes)
            self._kept[key] = history
            while self._bytes > self._max_bytes:
                oldest = next(iter(self._kept))
                self._bytes -= self._kept.pop(oldest).size_bytes
        return history


def joined(stored: Sequence[HistoryItem], session: Sequence[HistoryItem]) -> tuple[HistoryItem, ...]:
    """What the store knows, then what came with the request; a session item that is also stored counts once.

    A client may send as history what it has already sent as events: such an item keeps its later place. One sent
    without a time stands for every stored one of its item and event type.
    """
    if not session:
        return tuple(stored)
    named = {(item.item_id, item.event_type, item.occurred_at_ms) for item in session}
    earlier = (
        item
        for item in stored
        if (item.item_id, item.event_type, item.occurred_at_ms) not in named
        and (item.item_id, item.event_type, 0) not in named
    )
    return (*earlier, *session)


def history_rows(history: Sequence[HistoryItem], catalog: CatalogView) -> tuple[Rows, Rows]:
    """Item rows int64 [T] and event type codes int64 [T], oldest first, without items that the catalogue lacks."""
    rows = np.array(catalog.rows([item.item_id for item in history]), dtype=np.int64)
    names = [item.event_type for item in history]
    code_of = {name: catalog.release.event_type_code(name) for name in set(names)}
    codes = np.array([code_of[name] for name in names], dtype=np.int64)
    known = rows >= 0
    return (rows, codes) if known.all() else (rows[known], codes[known])


def history_of(state: UserState, session: Sequence[HistoryItem], catalog: CatalogView) -> History:
    """What a user did, stored and in this session. Its arrays are its own: those of a state are views of all that the
    store holds of the user."""
    interactions = joined(state.history, session)
    rows, event_types = history_rows(interactions, catalog)
    in_session = sorted_hashes([item.item_id for item in session])
    is_of_release = len(rows) == len(interactions) and not (rows >= catalog.release.n_items).any()
    return History(
        rows,
        event_types,
        np.union1d(state.seen, in_session) if len(in_session) else state.seen.copy(),
        state.blocked.copy(),
        tuple(item.item_id for item in session if catalog.row(item.item_id) is None),
        newcomers_mark=None if is_of_release else catalog.newcomers.mark,
        n_session=len(session),
    )


def served_since(stored: PackedState, since_ms: float) -> Hashes:
    """uint64, sorted: what the user was served at that time (UTC milliseconds) or later."""
    return np.unique(stored.served[stored.served_at_ms >= since_ms])


def sorted_hashes(item_ids: Sequence[str]) -> Hashes:
    """uint64, sorted, of some ids."""
    return np.unique(np.array([hash64(each) for each in item_ids], dtype=np.uint64)) if item_ids else NO_HASHES
