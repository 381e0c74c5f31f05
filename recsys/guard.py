"""Whether a part of a request is worth asking."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.live import CatalogView

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]


class AlwaysOn:
    """The index is asked each time; a service has one that stops asking for a while."""

    def works(self) -> bool:
        return True

    def note(self, worked: bool) -> None:
        """Nothing is learned from it."""

    def answered(self, catalog: CatalogView, query_vector: Floats, rows: Rows) -> None:
        """What the index answered without a filter: nobody looks at it."""
