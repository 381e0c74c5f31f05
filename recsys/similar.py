"""Items like one item, under the hard rules.

    hydrate → retrieve → filter → rank → expose

The value is the mean cosine over what both items have: item vectors (behaviour and content together) and the content
vectors of each modality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.budget import UNLIMITED, Budget
from recsys.config import Config
from recsys.dataset import Modality
from recsys.filtering import NOTHING_MATCHES, FilterConfig, GateInput, allowed, lets_go, unfiltered, unjudged_note
from recsys.history import History
from recsys.index.exact import largest
from recsys.live import CatalogView
from recsys.ports import RequestStore
from recsys.recommender import ALONE, RecommenderConfig, Surroundings, expose, found_again, gate_of, hydrate
from recsys.retrieval import Found, bit_of, merge, searched
from recsys.trace import Trace
from recsys.types import Candidates, Query, Slate

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]


class SimilarConfig(Config):
    """How widely is searched.

    Attributes:
        quota: candidates from each source at first; four times as many where the rules leave too few, and so on.
        max_scanned_items: in catalogues up to this size content vectors are compared with all others; beyond it they
            only put in order what item vectors and behaviour bring.
    """

    quota: Annotated[int, Field(gt=0)] = 300
    max_scanned_items: Annotated[int, Field(ge=0)] = 50_000


def similar(
    item_id: str,
    query: Query,
    catalog: CatalogView,
    store: RequestStore,
    config: RecommenderConfig,
    around: Surroundings = ALONE,
    budget: Budget = UNLIMITED,
    *,
    plan: SimilarConfig | None = None,
) -> Slate:
    """The slate of an item; an unknown one has no neighbours and is named in `missing_ids`. What the query's user has
    seen is found again."""
    config = found_again(config)
    plan, trace = plan or SimilarConfig(), Trace()
    known = hydrate(query, catalog, store, config.filter, around, trace, named=(item_id,))
    gate, row = gate_of(query, known, catalog, config.filter), catalog.row(item_id)
    if row is None:
        return expose(query, known, Candidates.none(), gate, store, config, around, trace)
    gate = replace(gate, excluded=np.union1d(gate.excluded, catalog.item_hashes[[row]]))
    kept_candidates = _found(row, query, gate, plan, config.filter, around, trace)
    if not len(kept_candidates) and lets_go(query, gate):
        trace.forget(2)
        lifted = unfiltered(gate, config.filter)
        kept_candidates = _found(row, query, lifted, plan, config.filter, around, trace, NOTHING_MATCHES)
    ranked_candidates = _rank(row, kept_candidates, catalog, trace)
    chosen = ranked_candidates.take(np.arange(min(query.limit, len(ranked_candidates))))
    follows = dict(zip(chosen.item_rows.tolist(), ((chosen.sources & bit_of("similar")) > 0).tolist(), strict=True))
    name = catalog.name(row)

    def say(history: History, shown: Candidates, sources: Sequence[str], catalog: CatalogView) -> list[tuple[str, ...]]:
        rows = shown.item_rows.tolist()
        return [(f"often chosen with {name}" if follows[row] else f"like {name}",) for row in rows]

    return expose(query, known, chosen, gate, store, config, around, trace, say)


def _found(
    row: int,
    query: Query,
    gate: GateInput,
    plan: SimilarConfig,
    config: FilterConfig,
    around: Surroundings,
    trace: Trace,
    fallback: str = "",
) -> Candidates:
    """Candidates that the rules let pass; ever more are asked for while they are too few."""
    quota = max(query.limit, plan.quota)
    kept_candidates = _filter(gate, _retrieve(row, gate, quota, plan, around, trace), config, trace, fallback)
    while len(kept_candidates) < query.limit and quota < gate.n_matching and not trace.stages[-2].fallback:
        quota *= 4
        trace.forget(2)  # the last round is the one that answers
        kept_candidates = _filter(gate, _retrieve(row, gate, quota, plan, around, trace), config, trace, fallback)
    return kept_candidates


def _retrieve(
    row: int, gate: GateInput, quota: int, config: SimilarConfig, around: Surroundings, trace: Trace
) -> Candidates:
    """The nearest by item vector and by each kind of content, what follows the item, and the latest newcomers."""
    catalog = gate.catalog
    with trace.stage("retrieve", len(catalog)) as stage:
        release, only_this = catalog.release, np.array([row], dtype=np.int64)
        n_items = release.n_items
        found = []
        if release.schema.has_towers:
            own_vector = catalog.vectors(only_this)[0]
            nearest = searched(catalog.index, own_vector, quota, gate.matching, around.index_guard)
            stage.fallback = nearest.failed
            found.append(Found("ann", nearest.rows[nearest.rows < n_items]))
            found.append(Found("recent", nearest.rows[nearest.rows >= n_items]))
        found.append(Found("similar", release.neighbours.top_rows(only_this, quota)))
        newcomers = np.arange(len(catalog) - 1, n_items - 1, -1, dtype=np.int64)
        if gate.matching is not None:
            newcomers = newcomers[gate.matching.mask[newcomers]]
        found.append(Found("recent", newcomers[:quota]))
        if release.n_items <= config.max_scanned_items:
            by_content = (_nearest_by_content(row, each, catalog, quota) for each in release.modalities)
            found += [Found("content", nearest_rows) for nearest_rows in by_content]
        rows, sources = merge(found)
        unvalued = np.zeros(len(rows), np.float32)
        stage.out(rows)
        return Candidates(rows, unvalued, sources, unvalued)


def _nearest_by_content(row: int, modality: Modality, catalog: CatalogView, quota: int) -> Rows:
    """int64 [k], rows of the release whose content is nearest to the item's; none where it has no such content."""
    own, is_there = catalog.content(modality.name, np.array([row], dtype=np.int64))
    if not is_there[0]:
        return np.empty(0, np.int64)
    cosines = modality.vectors @ own[0]
    cosines[~modality.present] = -np.inf
    return largest(cosines, min(quota, int(np.count_nonzero(modality.present))))[0]


def _filter(gate: GateInput, candidates: Candidates, config: FilterConfig, trace: Trace, fallback: str) -> Candidates:
    """The stage says `fallback` where any are left."""
    with trace.stage("filter", len(candidates)) as stage:
        kept_candidates = candidates.take(allowed(gate, candidates.item_rows, config, trace.dropped))
        stage.fallback = fallback if len(kept_candidates) else unjudged_note(config, gate.catalog)
        stage.out(kept_candidates)
        return kept_candidates


def _rank(row: int, candidates: Candidates, catalog: CatalogView, trace: Trace) -> Candidates:
    with trace.stage("rank", len(candidates)) as stage:
        ranked_candidates = candidates.ranked(_mean_cosine(row, candidates.item_rows, catalog))
        stage.out(ranked_candidates)
        return ranked_candidates


def _mean_cosine(row: int, rows: Rows, catalog: CatalogView) -> Floats:
    """float32 [C]: mean over item vectors and modalities of the cosine to one item, where both have one; else 0."""
    total, counted = np.zeros(len(rows), np.float32), np.zeros(len(rows), np.float32)
    only_this = np.array([row], dtype=np.int64)
    if catalog.release.schema.has_towers:
        total += _normalised(catalog.vectors(rows)) @ _normalised(catalog.vectors(only_this))[0]
        counted += 1
    for modality in catalog.release.modalities:
        own, is_there = catalog.content(modality.name, only_this)
        if is_there[0]:
            vectors, present = catalog.content(modality.name, rows)
            total += np.where(present, vectors @ own[0], np.float32(0))
            counted += present
    return (total / np.maximum(counted, 1)).astype(np.float32, copy=False)


def _normalised(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)
