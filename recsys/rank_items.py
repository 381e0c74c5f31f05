"""Given items in order of value for a user, and lists that are the same for everybody.

rank_items      hydrate → encode → filter → rank → (explain) → expose    the request's own ranking, of named items
list_items      filter → expose                                          popular or trending items, in their order
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.budget import UNLIMITED, Budget
from recsys.explanations import explain
from recsys.filtering import (
    NOTHING_MATCHES,
    FilterConfig,
    GateInput,
    allowed,
    fails_closed,
    lets_go,
    unfiltered,
    unjudged_note,
)
from recsys.live import CatalogView
from recsys.ports import RequestStore
from recsys.recommender import (
    ALONE,
    RecommenderConfig,
    Surroundings,
    encode,
    expose,
    found_again,
    gate_of,
    hydrate,
    rank,
)
from recsys.retrieval import SourceName, bit_of, compared
from recsys.trace import Trace
from recsys.types import Candidates, Query, Slate

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]
BLOCK = 4096


def rank_items(
    item_ids: Sequence[str],
    query: Query,
    catalog: CatalogView,
    store: RequestStore,
    config: RecommenderConfig,
    around: Surroundings = ALONE,
    budget: Budget = UNLIMITED,
) -> Slate:
    """These items, best first, each once. Those that may not be shown are left out, seen ones are not; what the
    catalogue does not know is named in `missing_ids`."""
    config = found_again(config)
    trace = Trace()
    known = hydrate(query, catalog, store, config.filter, around, trace, named=item_ids)
    query_vector = encode(known, catalog, budget, trace)
    gate = gate_of(query, known, catalog, config.filter)
    rows = np.array(list(dict.fromkeys(row for each in item_ids if (row := catalog.row(each)) is not None)), np.int64)
    with trace.stage("filter", len(rows)) as stage:
        kept = rows[allowed(gate, rows, config.filter, trace.dropped)]
        if not len(kept) and lets_go(query, gate):
            kept = rows[allowed(unfiltered(gate, config.filter), rows, config.filter)]
            stage.fallback = NOTHING_MATCHES if len(kept) else ""
        stage.fallback = stage.fallback or unjudged_note(config.filter, catalog)
        rows = kept
        stage.out(rows)
    sources = np.full(len(rows), bit_of("given"), np.int64)
    candidates = compared(rows, sources, query_vector, catalog, catalog.release.neighbours.votes(known.history.rows))
    ranked_candidates = rank(known, query_vector, candidates, catalog, config.rank, around, budget, trace)
    chosen = ranked_candidates.take(np.arange(min(query.limit, len(rows))))
    explained = explain(query, known, query_vector, chosen, catalog, config.rank, budget, trace)
    return expose(query, known, chosen, gate, store, config, around, trace, explained=explained)


def list_items(
    rows: Rows,
    values: Floats | None,
    source: SourceName,
    query: Query,
    catalog: CatalogView,
    store: RequestStore,
    config: RecommenderConfig,
    around: Surroundings = ALONE,
) -> Slate:
    """The first of these rows int64 [F] that may be shown, in their order, with their values float32 [F]; None = by
    popularity, log(1 + interactions)."""
    config = config.model_copy(update={"filter": _for_a_list(config.filter, query)})
    trace = Trace()
    known = hydrate(query, catalog, store, config.filter, around, trace)
    gate = gate_of(query, known, catalog, config.filter)
    with trace.stage("filter", len(rows)) as stage:
        kept = _first_allowed(rows, query.limit, gate, config.filter, trace.dropped)
        if not len(kept) and lets_go(query, gate):
            kept = _first_allowed(rows, query.limit, unfiltered(gate, config.filter), config.filter)
            stage.fallback = NOTHING_MATCHES if len(kept) else ""
        stage.fallback = stage.fallback or unjudged_note(config.filter, catalog)
        rows = rows[kept]
        values = catalog.log_popularity[rows] if values is None else values[kept]
        stage.out(rows)
    sources = np.full(len(rows), bit_of(source), np.int64)
    chosen = Candidates(rows, np.zeros(len(rows), np.float32), sources, values)
    return expose(query, known, chosen, gate, store, config, around, trace)


def _first_allowed(
    rows: Rows, limit: int, gate: GateInput, config: FilterConfig, dropped: dict[str, int] | None = None
) -> Rows:
    """int64 [k], k <= limit: the first places in `rows` that may be shown."""
    kept = np.empty(0, np.int64)
    for start in range(0, 0 if fails_closed(gate, config) else len(rows), BLOCK):
        if len(kept) >= limit:
            break
        places = np.arange(start, min(start + BLOCK, len(rows)))
        kept = np.concatenate([kept, places[allowed(gate, rows[places], config, dropped)]])
    return kept[:limit]


def _for_a_list(config: FilterConfig, query: Query) -> FilterConfig:
    """A list for nobody in particular has nothing that was seen."""
    return config if query.user_id or query.history else config.model_copy(update={"exclude_seen": False})
