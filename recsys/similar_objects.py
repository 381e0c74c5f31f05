"""Items with an object like one object of an item, under the hard rules.

    hydrate → retrieve → filter → rank → expose

The value is the cosine of the two objects' vectors; of each item its best object counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recsys.budget import UNLIMITED, Budget
from recsys.errors import InvalidRequest
from recsys.filtering import NOTHING_MATCHES, FilterConfig, GateInput, allowed, lets_go, unfiltered, unjudged_note
from recsys.history import History
from recsys.item_objects import ItemObjects
from recsys.live import CatalogView
from recsys.ports import RequestStore
from recsys.recommender import ALONE, RecommenderConfig, Surroundings, expose, found_again, gate_of, hydrate
from recsys.retrieval import bit_of
from recsys.trace import Trace
from recsys.types import Candidates, Query, Slate

Rows = NDArray[np.int64]
PICTURE = "image"


def similar_to_object(
    item_id: str,
    number: int,
    query: Query,
    catalog: CatalogView,
    store: RequestStore,
    config: RecommenderConfig,
    around: Surroundings = ALONE,
    budget: Budget = UNLIMITED,
) -> Slate:
    """The slate of an item's object, without the item; an unknown item is like nothing and named in `missing_ids`.

    An item that was sent another picture since the release has no objects until the next one.

    Raises:
        InvalidRequest: the item has no such object, or the release holds none.
    """
    config, trace = found_again(config), Trace()
    known = hydrate(query, catalog, store, config.filter, around, trace, named=(item_id,))
    gate, row = gate_of(query, known, catalog, config.filter), catalog.row(item_id)
    if row is None:
        return expose(query, known, Candidates.none(), gate, store, config, around, trace)
    objects, place = _object(row, number, catalog)
    gate = replace(gate, excluded=np.union1d(gate.excluded, catalog.item_hashes[[row]]))
    with trace.stage("retrieve", len(objects.rows)) as stage:
        candidates = _nearest(objects, place, catalog)
        stage.out(candidates)
    kept_candidates = _filter(query, candidates, gate, config.filter, trace)
    with trace.stage("rank", len(kept_candidates)) as stage:
        ranked_candidates = kept_candidates.ranked(kept_candidates.value)
        stage.out(ranked_candidates)
    chosen = ranked_candidates.take(np.arange(min(query.limit, len(ranked_candidates))))
    says = f"like the {objects.table['tag'][place].as_py()} in {catalog.name(row)}"

    def say(history: History, shown: Candidates, sources: Sequence[str], catalog: CatalogView) -> list[tuple[str, ...]]:
        return [(says,)] * len(shown)

    return expose(query, known, chosen, gate, store, config, around, trace, say)


def _object(row: int, number: int, catalog: CatalogView) -> tuple[ItemObjects, int]:
    objects = catalog.release.objects
    if objects is None:
        message = "this release holds no objects: tag the items with a detector, and build a release"
        raise InvalidRequest(message, field="/object")
    place = None if PICTURE in catalog.unjudged(row) else objects.place(row, number)
    if place is None:
        raise InvalidRequest(f"the item has no object {number}; GET /v1/items/ID lists them", field="/object")
    return objects, place


def _nearest(objects: ItemObjects, place: int, catalog: CatalogView) -> Candidates:
    rows, value = objects.nearest(place)
    if catalog.live_items:
        ids = catalog.item_ids(rows.tolist())
        same = [
            each not in catalog.live_items or PICTURE not in catalog.unjudged(row)
            for each, row in zip(ids, rows.tolist(), strict=True)
        ]
        rows, value = rows[same], value[same]
    return Candidates(rows, value, np.full(len(rows), bit_of("content"), np.int64), value)


def _filter(query: Query, candidates: Candidates, gate: GateInput, config: FilterConfig, trace: Trace) -> Candidates:
    """Where nothing matches the request's filter, and it is not strict, what passes without it."""
    with trace.stage("filter", len(candidates)) as stage:
        kept_candidates = candidates.take(allowed(gate, candidates.item_rows, config, trace.dropped))
        if not len(kept_candidates) and lets_go(query, gate):
            kept_candidates = candidates.take(allowed(unfiltered(gate, config), candidates.item_rows, config))
            stage.fallback = NOTHING_MATCHES if len(kept_candidates) else ""
        stage.fallback = stage.fallback or unjudged_note(config, gate.catalog)
        stage.out(kept_candidates)
        return kept_candidates
