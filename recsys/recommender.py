"""THE REQUEST. `recommend` is the whole flow; the rest of this file is its stages, in the same order.

hydrate → encode → retrieve → filter → rank → choose → (explain) → expose
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from recsys.budget import UNLIMITED, Budget
from recsys.config import Config
from recsys.errors import ArtifactError, StoreUnavailable
from recsys.explanations import NOT_ASKED, Explanations, explain
from recsys.exposing import Say, exposure_of, slate_items, still_shown
from recsys.expressions.evaluation import matches
from recsys.expressions.parsing import parse
from recsys.filtering import (
    NOTHING_MATCHES,
    FilterConfig,
    GateInput,
    allowed,
    fallback_of,
    forbidden_by,
    lets_go,
    matching_of,
    top_up,
    unfiltered,
)
from recsys.guard import AlwaysOn
from recsys.history import NO_HASHES, Histories, History, NoCache, history_of, served_since, sorted_hashes
from recsys.live import CatalogView
from recsys.ports import PackedState, RequestStore, UserState
from recsys.ranking import RankConfig, ranked, ranked_by_blend, reasons_of
from recsys.reranking import RerankConfig, SlateInput, choose_slate, pinned_rows
from recsys.retrieval import (
    Asked,
    RetrievalConfig,
    bit_of,
    compared,
    found_before,
    found_by_all,
    keep_found,
    merge,
    nearest_to,
)
from recsys.retrieval.sources import NO_ROWS
from recsys.times import to_ms
from recsys.trace import OpenStage, Trace
from recsys.types import Candidates, Query, Slate

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]
Hashes = NDArray[np.uint64]
NOBODY: PackedState = UserState()


class RecommenderConfig(Config):
    """The `[recommender]` section: one part a stage.

    Attributes:
        log_exposures: write each slate to the event log; without it no experiment or off-policy estimate is possible.
    """

    retrieval: RetrievalConfig = RetrievalConfig()
    filter: FilterConfig = FilterConfig()
    rank: RankConfig = RankConfig()
    rerank: RerankConfig = RerankConfig()
    log_exposures: bool = True


def found_again(config: RecommenderConfig) -> RecommenderConfig:
    """For who looks for something: what was seen, or served a moment ago, is among the answers."""
    of_filter = config.filter.model_copy(update={"exclude_seen": False, "exclude_served_s": 0.0})
    return config.model_copy(update={"filter": of_filter})


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a request leans on beside the catalogue and the store; the default leans on nothing.

    Attributes:
        histories: kept between requests, by the version of the user's state and the release.
        trending: int64, rows of what is taken most just now, best first.
        index_guard, ranker_guard: say whether index and ranker are worth asking, and learn whether they answered.
        latest: the catalogue as it is when the slate leaves, which the last gate judges by; None = as it was.
    """

    histories: Histories = field(default_factory=NoCache)
    trending: Rows = field(default_factory=lambda: NO_ROWS)
    index_guard: AlwaysOn = field(default_factory=AlwaysOn)
    ranker_guard: AlwaysOn = field(default_factory=AlwaysOn)
    latest: Callable[[], CatalogView | None] = lambda: None


ALONE = Surroundings()


@dataclass(frozen=True, slots=True)
class Known:
    """A query after hydration.

    Attributes:
        history: what the user did, in rows of this catalogue, with what was seen and blocked.
        excluded, served: uint64, sorted `hash64` of item ids: named in the request, served a moment ago.
        profile: float32 [P], the user's profile text vector, or None.
        missing_ids: ids named in the request that this catalogue does not know.
        user_is_known: False where the store did not answer: then `seen` is of this session only, `blocked` empty.
    """

    history: History
    excluded: Hashes
    served: Hashes
    profile: Floats | None
    missing_ids: tuple[str, ...]
    user_is_known: bool


def recommend(
    query: Query,
    catalog: CatalogView,
    store: RequestStore,
    config: RecommenderConfig,
    around: Surroundings = ALONE,
    budget: Budget = UNLIMITED,
) -> Slate:
    """One slate. A failing dependency does not raise, and a stage that would take too long is left out: the slate names
    it in `degraded`."""
    trace = Trace()
    known = hydrate(query, catalog, store, config.filter, around, trace)
    query_vector = encode(known, catalog, budget, trace)
    gate = gate_of(query, known, catalog, config.filter)
    candidates = retrieve(query, known, query_vector, gate, config, around, budget, trace)
    kept_candidates = filter_candidates(query, known, query_vector, candidates, gate, config.filter, trace)
    ranked_candidates = rank(known, query_vector, kept_candidates, catalog, config.rank, around, budget, trace)
    chosen = choose(query, ranked_candidates, catalog, config.rerank, budget, trace)
    explained = explain(query, known, query_vector, chosen, catalog, config.rank, budget, trace)
    return expose(query, known, chosen, gate, store, config, around, trace, explained=explained)


def hydrate(
    query: Query,
    catalog: CatalogView,
    store: RequestStore,
    config: FilterConfig,
    around: Surroundings,
    trace: Trace,
    named: Sequence[str] = (),
) -> Known:
    """What the store knows of the user, joined to the history that came with the request.

    `named` are more ids of the request, to be told where the catalogue does not know them.
    """
    with trace.stage("hydrate", 1) as stage:
        user_is_known = True
        try:
            stored = NOBODY if query.user_id is None else store.user_state(query.user_id)
            history, served = _read(stored, query, catalog, config, around)
        except StoreUnavailable:  # it does not answer, or what it answers is no state
            user_is_known, stage.fallback = False, "without_stored_history"
            history, served = _read(NOBODY, query, catalog, config, around)
        named = (*query.exclude_item_ids, *named)
        missing = [*history.missing_ids, *(each for each in named if catalog.row(each) is None)]
        stage.out(history)
        return Known(
            history=history,
            excluded=sorted_hashes(query.exclude_item_ids),
            served=served,
            profile=catalog.release.profile_of(query.user_id),
            missing_ids=tuple(dict.fromkeys(missing)),
            user_is_known=user_is_known,
        )


def _read(
    stored: PackedState, query: Query, catalog: CatalogView, config: FilterConfig, around: Surroundings
) -> tuple[History, Hashes]:
    """The history, and what was served lately. Raises StoreUnavailable where what is stored is no state."""
    key = (query.user_id, stored.version, query.history, catalog.release.release_id)
    history = around.histories.of(
        key, catalog.newcomers.mark, lambda: history_of(stored.unpack(), query.history, catalog)
    )
    since_ms = to_ms(query.now) - 1e3 * config.exclude_served_s
    return history, served_since(stored, since_ms) if config.exclude_served_s else NO_HASHES


def encode(known: Known, catalog: CatalogView, budget: Budget, trace: Trace) -> Floats | None:
    """float32 [D], the query tower over the history's item vectors; None where there is no tower or it fails."""
    history = known.history
    with trace.stage("encode", len(history)) as stage:
        if history.query_vector is None:
            history.query_vector = _encoded(known, catalog, budget, stage)
        stage.n_out = int(history.query_vector is not None)
        return history.query_vector


def _encoded(known: Known, catalog: CatalogView, budget: Budget, stage: OpenStage) -> Floats | None:
    release, history = catalog.release, known.history
    if release.query_encoder is None:
        stage.fallback = "no_query_tower"
        return None
    if not budget.affords("encode"):
        stage.fallback = "no_time"
        return None
    latest = slice(max(len(history) - release.schema.max_history, 0), None)
    vectors = catalog.vectors(history.rows[latest])
    try:
        query_vector = release.query_encoder.encode(vectors, history.event_types[latest], known.profile)
    except ArtifactError:
        stage.fallback = "query_tower_failed"
        return None
    if not np.isfinite(query_vector).all():
        stage.fallback = "query_vector_not_finite"
        return None
    return query_vector


def gate_of(query: Query, known: Known, catalog: CatalogView, config: FilterConfig) -> GateInput:
    """What the hard rules look at for this request."""
    return GateInput(
        catalog,
        to_ms(query.now),
        known.history.seen,
        known.history.blocked,
        known.excluded,
        known.user_is_known,
        known.served,
        query.paged,
        forbidden_by(config, catalog),
        matching_of(query.filter, config, catalog),
    )


def retrieve(
    query: Query,
    known: Known,
    query_vector: Floats | None,
    gate: GateInput,
    config: RecommenderConfig,
    around: Surroundings,
    budget: Budget,
    trace: Trace,
) -> Candidates:
    """Candidates of all sources, each row once; best first where the blend ranks, so that they are kept ranked."""
    with trace.stage("retrieve", len(gate.catalog)) as stage:
        dropped_soon = len(gate.seen) + len(gate.served) + len(gate.paged)
        asked = Asked(
            gate.catalog,
            known.history,
            query_vector,
            overshoot=min(dropped_soon, config.retrieval.max_seen_overshoot),
            matching=gate.matching,
            pinned=np.array(list(_pins(config.rerank, gate.catalog)), dtype=np.int64),
            trending=around.trending,
            explores=config.rerank.exploration.explore_share > 0,
            seed=query.seed,
        )
        candidates = found_before(asked, config.retrieval)
        if candidates is None:
            nearest = nearest_to(asked, config.retrieval.ann + asked.overshoot, around.index_guard, budget)
            stage.fallback, votes = nearest.failed, gate.catalog.release.neighbours.votes(known.history.rows)
            rows, sources = merge(found_by_all(asked, nearest, votes, config.retrieval))
            candidates = compared(rows, sources, query_vector, gate.catalog, votes, nearest.similarity)
            if gate.catalog.release.ranker is None:
                candidates = ranked_by_blend(known.history, candidates, gate.catalog)
            if not nearest.failed:
                keep_found(asked, config.retrieval, candidates)
        stage.out(candidates)
        return candidates


def filter_candidates(
    query: Query,
    known: Known,
    query_vector: Floats | None,
    candidates: Candidates,
    gate: GateInput,
    config: FilterConfig,
    trace: Trace,
) -> Candidates:
    """The hard rules; then, where too few are left, a top up from the whole catalogue under the same rules. Where
    nothing matches the request's filter, and it is not strict, everything else that may be shown."""
    with trace.stage("filter", len(candidates)) as stage:
        stage.fallback = fallback_of(gate, config)
        kept_candidates = candidates.take(allowed(gate, candidates.item_rows, config, trace.dropped))
        missing = query.limit - len(kept_candidates)
        if missing > 0:
            extra = top_up(gate, candidates.item_rows, missing, config)
            if not len(kept_candidates) and not len(extra) and lets_go(query, gate):
                stage.fallback = stage.fallback or NOTHING_MATCHES
                extra = top_up(unfiltered(gate, config), NO_ROWS, missing, config)
            votes = gate.catalog.release.neighbours.votes(known.history.rows)
            sources = np.where(extra < gate.catalog.release.n_items, bit_of("popular"), bit_of("recent"))
            kept_candidates = kept_candidates.joined(compared(extra, sources, query_vector, gate.catalog, votes))
        stage.out(kept_candidates)
        return kept_candidates


def rank(
    known: Known,
    query_vector: Floats | None,
    candidates: Candidates,
    catalog: CatalogView,
    config: RankConfig,
    around: Surroundings,
    budget: Budget,
    trace: Trace,
) -> Candidates:
    """The candidates with their value, best first: by the release's ranker where it has one, else by its blend."""
    with trace.stage("rank", len(candidates)) as stage:
        ranked_candidates, stage.fallback = ranked(
            known.history, candidates, query_vector, catalog, config, around.ranker_guard, budget
        )
        stage.out(ranked_candidates)
        return ranked_candidates


def choose(
    query: Query,
    ranked_candidates: Candidates,
    catalog: CatalogView,
    config: RerankConfig,
    budget: Budget,
    trace: Trace,
) -> Candidates:
    """The slate's items in order: value against likeness to those already chosen, a surface's rules, exploration."""
    with trace.stage("choose", len(ranked_candidates)) as stage:
        rows, exploring = ranked_candidates.item_rows, config.exploration.explore_share > 0
        given = SlateInput(
            rows,
            ranked_candidates.value,
            query.limit,
            catalog.diversity,
            matches=lambda when, some: matches(parse(when), catalog, some),
            groups_of=catalog.kinds,
            pins=_pins(config, catalog),
            is_cold=catalog.log_popularity[rows] == 0 if exploring else None,
            seed=query.seed,
            explain=query.explain,
        )
        if not budget.affords("choose"):
            stage.fallback, config = "no_time", config.model_copy(update={"diversity": 0.0})
        chosen = choose_slate(given, config)
        trace.notes = [(note, int(rows[note.at])) for note in chosen.notes]
        stage.n_out = len(chosen.at)
        slate = ranked_candidates.take(chosen.at)
        return replace(slate, value=chosen.value, boost=chosen.boost, propensity=chosen.propensity)


def _pins(config: RerankConfig, catalog: CatalogView) -> dict[int, int]:
    """Item row → place."""
    return pinned_rows(config.rules.pins, catalog.row) if config.rules.pins else {}


def expose(
    query: Query,
    known: Known,
    chosen: Candidates,
    gate: GateInput,
    store: RequestStore,
    config: RecommenderConfig,
    around: Surroundings,
    trace: Trace,
    say: Say = reasons_of,
    explained: Explanations = NOT_ASKED,
) -> Slate:
    """The slate with sources and reasons, and its record in the exposure log.

    Args:
        say: why each item is there; see `Say`.
        explained: the parts of each item's value; where the query asks for them and there are none, it is one part.
    """
    catalog = gate.catalog
    with trace.stage("expose", len(chosen)) as stage:
        chosen = still_shown(chosen, query, gate, config.filter, around.latest(), trace)
        items = slate_items(query, known.history, chosen, catalog, say, explained)
        if config.log_exposures:
            try:
                store.append_exposure(exposure_of(query, items, catalog.release.release_id))
            except StoreUnavailable:
                stage.fallback = "exposure_not_logged"
        stage.out(items)
    return Slate(
        recommendation_id=query.recommendation_id,
        items=items,
        release=catalog.release.release_id,
        variants=query.variants,
        degraded=trace.degraded,
        missing_ids=known.missing_ids,
        trace=tuple(trace.stages),
        dropped=trace.dropped,
        surface=query.surface,
        item_hashes=catalog.item_hashes[chosen.item_rows],
    )
