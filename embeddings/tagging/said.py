"""All that models and people said of a catalogue's items, in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embeddings.tagging.tag_tree import Ints, TagTree
from recsys.tags import TAGS_SCHEMA

VERDICTS = ("yes", "unsure", "no")


@dataclass(frozen=True)
class Said:
    """`R` rows of known items.

    Attributes:
        rows: `TAGS_SCHEMA`.
        key: int64 [R], see `TagTree.key`.
        confidence: float32 [R].
        verdict: int64 [R], places in `VERDICTS`.
        human: bool [R].
        at: int64 [R], ms since 1970.
    """

    rows: pa.Table
    key: Ints
    confidence: NDArray[np.float32]
    verdict: Ints
    human: NDArray[np.bool_]
    at: Ints

    @staticmethod
    def of(item_ids: pa.Array, tables: Sequence[pa.Table], tree: TagTree) -> Said:
        """Rows of items that are not among the ids are left out."""
        rows = pa.concat_tables([TAGS_SCHEMA.empty_table(), *(each.cast(TAGS_SCHEMA) for each in tables)])
        rows = rows.combine_chunks()
        item = places_of(rows["item_id"], item_ids)
        known = item >= 0
        if not known.all():
            rows, item = rows.filter(pa.array(known)), item[known]
        return Said(
            rows=rows,
            key=tree.key(item, places_of(rows["tag"], pa.array(tree.tags, pa.string()))),
            confidence=rows["confidence"].to_numpy(),
            verdict=places_of(rows["verdict"], pa.array(VERDICTS)),
            human=places_of(rows["by"], pa.array(["human"])) == 0,
            at=rows["at"].cast(pa.int64()).to_numpy(),
        )

    def surest(self, verdict: str) -> Ints:
        """Of models' rows with this verdict the surest one of each key, by key: their places.

        Which of equally sure ones is told does not depend on the order of the rows.
        """
        places = np.flatnonzero(~self.human & (self.verdict == VERDICTS.index(verdict)))
        orders: list[NDArray[Any]] = [
            self.at[places],
            self._source()[places],
            -self.confidence[places],
            self.key[places],
        ]
        if self.rows["evidence"].null_count < len(self.rows):
            orders.insert(0, _rank(self.rows["evidence"])[places])
        return _first_of_each(places[np.lexsort(orders)], self.key)

    def latest_of_people(self) -> Ints:
        """A person's last word on each key, by key: the places; of two at one time the later row."""
        places = np.flatnonzero(self.human)
        order = np.lexsort((-places, -self.at[places], self.key[places]))
        return _first_of_each(places[order], self.key)

    def _source(self) -> Ints:
        """int64 [R]: rank of head, model and version."""
        head, model, version = (_rank(self.rows[name]) for name in ("head", "model", "version"))
        combined: Ints = (head * (model.max(initial=0) + 1) + model) * (version.max(initial=0) + 1) + version
        return combined


def places_of(column: pa.ChunkedArray, values: pa.Array) -> Ints:
    """int64 [R]: where each one stands among the values, -1 = nowhere."""
    return np.asarray(pc.fill_null(pc.index_in(column, value_set=values), -1).to_numpy(), np.int64)


def _rank(column: pa.ChunkedArray) -> Ints:
    values = sorted(pc.unique(column).to_pylist(), key=lambda each: (each is None, each or ""))
    return places_of(column, pa.array(values, pa.string()))


def _first_of_each(places: Ints, key: Ints) -> Ints:
    """The first place of each key, of places by ascending key."""
    keys = key[places]
    return places[np.flatnonzero(np.diff(keys, prepend=-1))]
