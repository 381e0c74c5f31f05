"""A user's history in the rows of a catalogue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.live import CatalogView
from recsys.types import HistoryItem

Rows = NDArray[np.int64]


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
    rows: list[int] = []
    codes: list[int] = []
    for item in history:
        row = catalog.row(item.item_id)
        if row is not None:
            rows.append(row)
            codes.append(catalog.release.event_type_code(item.event_type))
    return np.asarray(rows, dtype=np.int64), np.asarray(codes, dtype=np.int64)
