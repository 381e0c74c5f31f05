"""What is taken most just now: read from the store now and then, turned into rows of a catalogue once for each."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from recsys.errors import StoreUnavailable
from recsys.live import CatalogView
from recsys.times import to_ms
from serving.telemetry import Telemetry, log

Ask = Callable[[int], tuple[tuple[str, ...], NDArray[np.float32]]]
"""UTC milliseconds → item ids, best first, and their weights float32."""
NO_ROWS = np.empty(0, np.int64)


class Trends:
    """The last answer; reading it is free."""

    def __init__(self, ask: Ask, telemetry: Telemetry) -> None:
        self._ask = ask
        self._telemetry = telemetry
        self._latest: tuple[tuple[str, ...], NDArray[np.float32]] = ((), np.empty(0, np.float32))
        self._in_rows: tuple[object, object, NDArray[np.int64], NDArray[np.float32]] | None = None

    def refresh(self) -> None:
        """Ask the store; while it does not answer, the last answer stays."""
        try:
            self._latest = self._ask(to_ms(datetime.now(UTC)))
        except StoreUnavailable as error:
            self._telemetry.store_error("trending")
            log(logging.DEBUG, "what is trending could not be read", why=str(error))

    def rows(self, catalog: CatalogView) -> NDArray[np.int64]:
        """int64, best first, in rows of this catalogue."""
        return self.weighted(catalog)[0]

    def weighted(self, catalog: CatalogView) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The rows int64, best first, and their weights float32."""
        latest, in_rows, mark = self._latest, self._in_rows, catalog.newcomers.mark
        if in_rows is None or in_rows[0] is not latest or in_rows[1] is not mark:
            item_ids, weights = latest
            known = [(row, at) for at, item_id in enumerate(item_ids) if (row := catalog.row(item_id)) is not None]
            rows = np.array([row for row, _ in known], dtype=np.int64) if known else NO_ROWS
            if in_rows is not None and np.array_equal(rows, in_rows[2]):
                rows = in_rows[2]  # the same object: what was found with it still holds
            self._in_rows = in_rows = (latest, mark, rows, weights[[at for _, at in known]])
        return in_rows[2], in_rows[3]
