"""THE REQUEST. `recommend` is the whole flow; the rest of this file is its stages, in the same order.

hydrate → encode → retrieve → filter → rank → choose → expose
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.config import Config
from recsys.errors import ArtifactError, StoreUnavailable
from recsys.events import Exposure, hash64
from recsys.filtering import FilterConfig, GateInput, allowed, fails_closed
from recsys.history import history_rows, joined
from recsys.live import CatalogView
from recsys.ports import RequestStore, UserState
from recsys.ranking import rank_features, reasons_of, value_parts
from recsys.reranking import RerankConfig, mmr
from recsys.retrieval import Found, RetrievalConfig, bit_of, merge, source_of
from recsys.times import to_ms
from recsys.trace import Trace
from recsys.types import Candidates, Query, Slate, SlateItem

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]


class RecommenderConfig(Config):
    """The `[recommender]` section: one part a stage.

    Attributes:
        log_exposures: write each slate to the event log; without it no experiment or off-policy estimate is possible.
    """

    retrieval: RetrievalConfig = RetrievalConfig()
    filter: FilterConfig = FilterConfig()
    rerank: RerankConfig = RerankConfig()
    log_exposures: bool = True


@dataclass(frozen=True, slots=True)
class Known:
    """A query after hydration.

    Attributes:
        rows: int64 [T], the history in rows of this catalogue, oldest first; unknown items are left out.
        event_types: int64 [T], their codes.
        seen, blocked, excluded: uint64, sorted `hash64` of item ids.
        profile: float32 [P], the user's profile text vector, or None.
        missing_ids: ids named in the request that this catalogue does not know.
        user_is_known: False where the store did not answer: then `seen` is of this session only, `blocked` empty.
    """

    rows: Rows
    event_types: Rows
    seen: NDArray[np.uint64]
    blocked: NDArray[np.uint64]
    excluded: NDArray[np.uint64]
    profile: Floats | None
    missing_ids: tuple[str, ...]
    user_is_known: bool


def recommend(query: Query, catalog: CatalogView, store: RequestStore, config: RecommenderConfig) -> Slate:
    """One slate. A failing dependency does not raise: the slate names the stage in `degraded`."""
    trace = Trace()
    known = hydrate(query, catalog, store, trace)
    query_vector = encode(known, catalog, trace)
    candidates = retrieve(known, query_vector, catalog, config.retrieval, trace)
    kept_candidates = filter_candidates(query, known, query_vector, candidates, catalog, config.filter, trace)
    ranked_candidates = rank(known, kept_candidates, catalog, trace)
    chosen = choose(query, ranked_candidates, catalog, config.rerank, trace)
    return expose(query, known, chosen, catalog, store, config, trace)


def hydrate(query: Query, catalog: CatalogView, store: RequestStore, trace: Trace) -> Known:
    """What the store knows of the user, joined to the history that came with the request."""
    with trace.stage("hydrate", 1) as stage:
        state, user_is_known = UserState(), True
        if query.user_id is not None:
            try:
                state = store.user_state(query.user_id)
            except StoreUnavailable:
                user_is_known = False
                stage.fallback = "without_stored_history"
        rows, event_types = history_rows(joined(state.history, query.history), catalog)
        in_session = np.array([hash64(item.item_id) for item in query.history], dtype=np.uint64)
        named = [item.item_id for item in query.history] + list(query.exclude_item_ids)
        stage.out(rows)
        return Known(
            rows=rows,
            event_types=event_types,
            seen=np.union1d(state.seen, in_session) if len(in_session) else state.seen,
            blocked=state.blocked,
            excluded=np.unique(np.array([hash64(each) for each in query.exclude_item_ids], dtype=np.uint64)),
            profile=catalog.release.profile_of(query.user_id),
            missing_ids=tuple(dict.fromkeys(item_id for item_id in named if catalog.row(item_id) is None)),
            user_is_known=user_is_known,
        )


def encode(known: Known, catalog: CatalogView, trace: Trace) -> Floats | None:
    """float32 [D], the query tower over the history's item vectors; None where there is no tower or it fails."""
    with trace.stage("encode", len(known.rows)) as stage:
        release = catalog.release
        if release.query_encoder is None:
            stage.fallback = "no_query_tower"
            return None
        latest = slice(max(len(known.rows) - release.schema.max_history, 0), None)
        history = catalog.vectors(known.rows[latest])
        try:
            query_vector = release.query_encoder.encode(history, known.event_types[latest], known.profile)
        except ArtifactError:
            stage.fallback = "query_tower_failed"
            return None
        if not np.isfinite(query_vector).all():
            stage.fallback = "query_vector_not_finite"
            return None
        stage.n_out = 1
        return query_vector


def retrieve(
    known: Known, query_vector: Floats | None, catalog: CatalogView, config: RetrievalConfig, trace: Trace
) -> Candidates:
    """Candidates of all sources, each row once."""
    with trace.stage("retrieve", len(catalog)) as stage:
        release = catalog.release
        overshoot = min(len(known.seen), config.max_seen_overshoot)
        found = []
        if query_vector is not None:
            try:
                nearest, _ = catalog.index.search(query_vector[None, :], config.ann + overshoot)
                is_new = nearest[0] >= release.n_items
                found += [Found("ann", nearest[0][~is_new]), Found("recent", nearest[0][is_new])]
            except (RuntimeError, ValueError):  # what FAISS and its checks raise; the other sources still answer
                stage.fallback = "without_ann"
        found.append(Found("similar", release.neighbours.top_rows(known.rows, config.similar)))
        found.append(Found("recent", _newcomers(query_vector, catalog, config.recent + overshoot)))
        found.append(Found("popular", release.popular_rows[: config.popular + overshoot]))
        candidates = _compared(*merge(found), query_vector, catalog)
        stage.out(candidates)
        return candidates


def _newcomers(query_vector: Floats | None, catalog: CatalogView, quota: int) -> Rows:
    """Rows of the items that came after the release: the nearest to the query, or the latest without one."""
    n = catalog.release.n_items
    # Those that nobody may see would only take places of the quota.
    shown = np.flatnonzero(~catalog.hidden[n:])
    if query_vector is None:
        return n + shown[::-1][:quota]
    return n + shown[np.argsort(-(catalog.live_vectors[shown] @ query_vector), kind="stable")][:quota]


def _compared(rows: Rows, sources: Rows, query_vector: Floats | None, catalog: CatalogView) -> Candidates:
    """Candidates with their similarity to the query: 0 for all of them where there is no query vector."""
    similarity = np.zeros(len(rows), np.float32) if query_vector is None else catalog.vectors(rows) @ query_vector
    return Candidates(rows, similarity.astype(np.float32), sources, np.full(len(rows), np.nan, dtype=np.float32))


def filter_candidates(
    query: Query,
    known: Known,
    query_vector: Floats | None,
    candidates: Candidates,
    catalog: CatalogView,
    config: FilterConfig,
    trace: Trace,
) -> Candidates:
    """The hard rules; then, where too few are left, a top up from the whole catalogue under the same rules."""
    with trace.stage("filter", len(candidates)) as stage:
        now_ms = to_ms(query.now)
        gate = GateInput(catalog, now_ms, known.seen, known.blocked, known.excluded, known.user_is_known)
        if not known.user_is_known:
            stage.fallback = "nothing_is_shown" if fails_closed(gate, config) else "without_stored_seen_and_blocked"
        kept_candidates = candidates.take(allowed(gate, candidates.item_rows, config))
        if len(kept_candidates) < query.limit:
            extra = _top_up(gate, candidates.item_rows, query.limit - len(kept_candidates), config)
            sources = np.where(extra < catalog.release.n_items, bit_of("popular"), bit_of("recent"))
            kept_candidates = kept_candidates.joined(_compared(extra, sources, query_vector, catalog))
        stage.out(kept_candidates)
        return kept_candidates


def _top_up(gate: GateInput, tried: Rows, n_missing: int, config: FilterConfig, block: int = 4096) -> Rows:
    """Allowed rows that were no candidates, the most popular first, newcomers last: short only when all is tried."""
    n, n_now = gate.catalog.release.n_items, len(gate.catalog)
    found = np.empty(0, np.int64)
    for order in (gate.catalog.release.popular_rows, np.arange(n_now - 1, n - 1, -1, dtype=np.int64)):
        for start in range(0, len(order), block):
            if len(found) >= n_missing:
                return found[:n_missing]
            rows = order[start : start + block]
            rows = rows[~np.isin(rows, tried)]
            found = np.concatenate([found, rows[allowed(gate, rows, config)]])
    return found[:n_missing]


def rank(known: Known, candidates: Candidates, catalog: CatalogView, trace: Trace) -> Candidates:
    """The candidates with their value, best first."""
    with trace.stage("rank", len(candidates)) as stage:
        value = catalog.release.schema.blend.value(rank_features(known.rows, candidates, catalog))
        ranked_candidates = candidates.ranked(value)
        stage.out(ranked_candidates)
        return ranked_candidates


def choose(
    query: Query, ranked_candidates: Candidates, catalog: CatalogView, config: RerankConfig, trace: Trace
) -> Candidates:
    """The slate's items in order: value against likeness to those already chosen."""
    with trace.stage("choose", len(ranked_candidates)) as stage:
        window = ranked_candidates.take(np.arange(min(len(ranked_candidates), max(query.limit, config.window))))
        vectors, present = catalog.all_content(window.item_rows)
        chosen = window.take(mmr(window.value, vectors, present, query.limit, config.diversity))
        stage.out(chosen)
        return chosen


def expose(
    query: Query,
    known: Known,
    chosen: Candidates,
    catalog: CatalogView,
    store: RequestStore,
    config: RecommenderConfig,
    trace: Trace,
) -> Slate:
    """The slate with sources and reasons, and its record in the exposure log."""
    with trace.stage("expose", len(chosen)) as stage:
        items = _slate_items(query, known, chosen, catalog)
        if config.log_exposures:
            try:
                store.append_exposure(_exposure(query, items, catalog.release.release_id))
            except StoreUnavailable:
                stage.fallback = "exposure_not_logged"
        stage.out(items)
    return Slate(
        recommendation_id=query.recommendation_id,
        items=items,
        release=catalog.release.release_id,
        degraded=trace.degraded,
        missing_ids=known.missing_ids,
        trace=tuple(trace.stages),
    )


def _slate_items(query: Query, known: Known, chosen: Candidates, catalog: CatalogView) -> tuple[SlateItem, ...]:
    sources = [source_of(bits) for bits in chosen.sources.tolist()]
    reasons = reasons_of(known.rows, chosen, sources, catalog)
    parts = value_parts(known.rows, chosen, catalog) if query.explain else [{}] * len(chosen)
    return tuple(
        SlateItem(
            item_id=catalog.item_id(int(chosen.item_rows[position])),
            value=float(chosen.value[position]),
            source=sources[position],
            reasons=reasons[position],
            position=position,
            parts=parts[position],
        )
        for position in range(len(chosen))
    )


def _exposure(query: Query, items: tuple[SlateItem, ...], release_id: str) -> Exposure:
    return Exposure(
        recommendation_id=query.recommendation_id,
        user_id=query.user_id,
        session_id=query.session_id,
        occurred_at=query.now,
        release=release_id,
        item_ids=tuple(item.item_id for item in items),
        propensities=tuple(item.propensity for item in items),
        sources=tuple(item.source for item in items),
    )
