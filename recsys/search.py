"""Search by words, a picture, an item or a vector, personalised where there is somebody to do it for.

hydrate → encode → retrieve → filter → rank → expose

    value = (1 - personalise) * relevance + personalise * cosine(query vector, item vector)

relevance is the mean over the kinds of vector that are asked for, and that an item has, of their cosines. Words are
looked for in what is written of an item and in what is said in it: these are one kind, and the nearer one counts.
Letters: C candidates, D width of a vector, N + M rows of the catalogue.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from recsys.budget import UNLIMITED, Budget
from recsys.errors import InvalidRequest
from recsys.expressions.evaluation import mask_of
from recsys.expressions.parsing import parse
from recsys.filtering import NOTHING_MATCHES, GateInput, allowed, lets_go, unfiltered, unjudged_note
from recsys.guard import AlwaysOn
from recsys.history import History
from recsys.live import CatalogView
from recsys.ports import RequestStore
from recsys.rank_items import list_items
from recsys.recommender import ALONE, RecommenderConfig, Surroundings, encode, expose, found_again, gate_of, hydrate
from recsys.release import LoadedRelease
from recsys.retrieval import Found, Nearest, SourceName, merge, searched
from recsys.trace import Trace
from recsys.types import Candidates, Query, Slate

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]
MAX_WORDS, MAX_WORD = 8, 64  # of a text that are looked for in titles: words, and characters of each
WORDS = ("text", "transcript")
QUOTA = 300  # candidates of each kind of vector at first; four times as many where the rules leave too few


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the items should be like.

    Attributes:
        content: modality → float32 [D_m], of any length but 0.
        item_vector: float32 [D], a place among the item vectors: what behaviour says is alike; None = not asked.
        personalise: in [0, 1], the share of the person in the value.
        says: the reason to give.
        leave_out: item ids that are not wanted: what was searched with.
    """

    content: Mapping[str, Floats] = field(default_factory=dict)
    item_vector: Floats | None = None
    personalise: float = 0.0
    says: str = "matches what you search for"
    leave_out: tuple[str, ...] = ()


def search(
    wanted: Wanted,
    query: Query,
    catalog: CatalogView,
    store: RequestStore,
    config: RecommenderConfig,
    around: Surroundings = ALONE,
    budget: Budget = UNLIMITED,
) -> Slate:
    """The items nearest to what is wanted, under the hard rules. What the user has seen is found again.

    Raises:
        InvalidRequest: nothing is asked for that this release can compare.
    """
    config, wanted = found_again(config), in_proportion(wanted)
    trace = Trace()
    known = hydrate(query, catalog, store, config.filter, around, trace)
    query_vector = encode(known, catalog, budget, trace) if wanted.personalise and len(known.history) else None
    gate = gate_of(query, known, catalog, config.filter)
    kept_candidates = find(wanted, query, gate, config, around, trace)
    ranked_candidates = rank(wanted, query_vector, kept_candidates, catalog, trace)
    chosen = ranked_candidates.take(np.arange(min(query.limit, len(ranked_candidates))))

    def say(history: History, shown: Candidates, sources: Sequence[str], catalog: CatalogView) -> list[tuple[str, ...]]:
        return [(wanted.says,)] * len(shown)

    return expose(query, known, chosen, gate, store, config, around, trace, say)


def find(
    wanted: Wanted, query: Query, gate: GateInput, config: RecommenderConfig, around: Surroundings, trace: Trace
) -> Candidates:
    """Candidates that the rules let pass; where nothing matches the request's filter, and it is not strict, those that
    pass without it."""
    kept_candidates = _found(wanted, query, gate, config, around, trace)
    if len(kept_candidates) or not lets_go(query, gate):
        return kept_candidates
    trace.forget(2)
    return _found(wanted, query, unfiltered(gate, config.filter), config, around, trace, NOTHING_MATCHES)


def _found(
    wanted: Wanted,
    query: Query,
    gate: GateInput,
    config: RecommenderConfig,
    around: Surroundings,
    trace: Trace,
    fallback: str = "",
) -> Candidates:
    """Ever more are asked for while they are too few; the stage says `fallback` where there are any."""
    leave_out = [row for each in wanted.leave_out if (row := gate.catalog.row(each)) is not None]
    quota, n_matching = max(query.limit, QUOTA), gate.n_matching
    while True:
        candidates = retrieve(wanted, quota, gate, around, trace)
        with trace.stage("filter", len(candidates)) as stage:
            keep = allowed(gate, candidates.item_rows, config.filter, trace.dropped)
            keep &= ~np.isin(candidates.item_rows, leave_out)
            kept_candidates = candidates.take(keep)
            stage.fallback = fallback if len(kept_candidates) else unjudged_note(config.filter, gate.catalog)
            stage.out(kept_candidates)
        if len(kept_candidates) >= query.limit or quota >= n_matching or trace.stages[-2].fallback:
            return kept_candidates
        quota *= 4
        trace.forget(2)  # the last round is the one that answers


def retrieve(wanted: Wanted, quota: int, gate: GateInput, around: Surroundings, trace: Trace) -> Candidates:
    """The nearest by each kind of vector that is asked for."""
    catalog = gate.catalog
    with trace.stage("retrieve", len(catalog)) as stage:
        found: list[tuple[SourceName, Nearest]] = []
        for name, vector in wanted.content.items():
            index = catalog.content_index(name)
            if index is not None:
                found.append(("content", searched(index, vector, quota, gate.matching, AlwaysOn())))
        if wanted.item_vector is not None:
            nearest = searched(catalog.index, wanted.item_vector, quota, gate.matching, around.index_guard)
            found.append(("ann", nearest))
        if not found:
            raise InvalidRequest("this release has nothing to compare that with: see which modalities it holds")
        stage.fallback = next((nearest.failed for _, nearest in found if nearest.failed), "")
        rows, sources = merge([Found(source, nearest.rows) for source, nearest in found])
        stage.out(rows)
        unvalued = np.zeros(len(rows), np.float32)
        return Candidates(rows, unvalued, sources, unvalued)


def rank(
    wanted: Wanted, query_vector: Floats | None, candidates: Candidates, catalog: CatalogView, trace: Trace
) -> Candidates:
    """The candidates with their value, best first; see the module's docstring."""
    with trace.stage("rank", len(candidates)) as stage:
        value = relevance(wanted, candidates.item_rows, catalog)
        if query_vector is not None:
            mine = _cosines(catalog.vectors(candidates.item_rows), query_vector)
            value = (1 - wanted.personalise) * value + wanted.personalise * mine
        ranked_candidates = candidates.ranked(value.astype(np.float32))
        stage.out(ranked_candidates)
        return ranked_candidates


def relevance(wanted: Wanted, rows: Rows, catalog: CatalogView) -> Floats:
    """float32 [C], the mean cosine over what is wanted and there; 0 for an item that has nothing of it."""
    total, counted = np.zeros(len(rows), np.float32), np.zeros(len(rows), np.float32)
    for names in _kinds(wanted.content):
        nearest, there = np.full(len(rows), -np.inf, np.float32), np.zeros(len(rows), np.bool_)
        for name in names:
            vectors, present = catalog.content(name, rows)
            cosines = np.where(present, _cosines(vectors, wanted.content[name]), -np.inf)
            nearest, there = np.maximum(nearest, cosines), there | present
        total += np.where(there, nearest, np.float32(0))
        counted += there
    if wanted.item_vector is not None:
        total += _cosines(catalog.vectors(rows), wanted.item_vector)
        counted += 1
    return np.asarray(total / np.maximum(counted, 1), dtype=np.float32)


def _kinds(content: Mapping[str, Floats]) -> list[tuple[str, ...]]:
    """The modalities asked for; what is written and what is said together, where both are asked for the same words."""
    written, said = WORDS
    if written in content and said in content and np.array_equal(content[written], content[said]):
        return [WORDS, *((name,) for name in content if name not in WORDS)]
    return [(name,) for name in content]


def of_item(row: int, catalog: CatalogView) -> Wanted:
    """What is like one item, by behaviour and by each kind of content that it has."""
    only = np.array([row], dtype=np.int64)
    content = {}
    for modality in catalog.release.modalities:
        vectors, present = catalog.content(modality.name, only)
        if present[0]:
            content[modality.name] = vectors[0]
    item_vector = catalog.vectors(only)[0] if catalog.release.schema.has_towers else None
    name = catalog.name(row)
    return Wanted(content, item_vector, says=f"like {name}", leave_out=(catalog.item_id(row),))


def refined(wanted: Wanted, words: Mapping[str, Floats], weight: float) -> Wanted:
    """Vector arithmetic: each kind of content moved towards the words, (1 - weight) * item + weight * words, both of
    unit length; where an item has no such content, the words alone. What behaviour says stays in proportion.

    Args:
        words: modality → float32 [D_m], of the words in that modality's space.
        weight: in [0, 1].
    """
    content = dict(wanted.content)
    for name, vector in words.items():
        before = content.get(name)
        moved = _unit(vector) if before is None else (1 - weight) * _unit(before) + weight * _unit(vector)
        content[name] = np.asarray(moved, dtype=np.float32)
    return Wanted(content, wanted.item_vector, wanted.personalise, wanted.says, wanted.leave_out)


def spaces_shared_with(modality: str, release: LoadedRelease) -> tuple[str, ...]:
    """The modalities whose vectors this one's can be compared with: itself, and those of the same weights and width
    (a CLIP pair); `modality` need not be one that items have."""
    spaces = release.manifest.spaces
    mine = spaces.get(modality)
    if mine is None:
        return ()
    same = (mine.encoder, mine.weights_sha256, mine.dim)
    return tuple(
        name
        for name, space in spaces.items()
        if name == modality or (space.encoder, space.weights_sha256, space.dim) == same
    )


def in_proportion(wanted: Wanted) -> Wanted:
    """The same with vectors of length 1: what is compared with them stays finite, however long or short they came."""
    content = {name: _unit(vector) for name, vector in wanted.content.items()}
    item_vector = None if wanted.item_vector is None else _unit(wanted.item_vector)
    return replace(wanted, content=content, item_vector=item_vector)


def _unit(vector: Floats) -> Floats:
    """Of length 1; all 0 where it is."""
    exact = vector.astype(np.float64)  # in which no float32 overflows when it is squared
    length = float(np.linalg.norm(exact))
    return np.asarray(exact / length if length else exact, dtype=np.float32)


def _cosines(vectors: Floats, vector: Floats) -> Floats:
    """float32 [C], cosines of some rows with one vector; 0 for a row of zeros."""
    lengths = np.linalg.norm(vectors, axis=1) * max(float(np.linalg.norm(vector)), 1e-12)
    return np.asarray(vectors @ vector / np.maximum(lengths, 1e-12), dtype=np.float32)


def by_title(
    text: str,
    query: Query,
    catalog: CatalogView,
    store: RequestStore,
    config: RecommenderConfig,
    around: Surroundings = ALONE,
    budget: Budget = UNLIMITED,
) -> Slate:
    """Items whose titles hold the words, all of them or else any, the most popular first: what search falls back to
    while nothing can be encoded. What the user has seen is found again, as in `search`."""
    words = [f"title contains {json.dumps(word[:MAX_WORD])}" for word in text.split()[:MAX_WORDS]]
    rows = np.empty(0, np.int64)
    for join in (" and ", " or "):
        if words and not len(rows):
            rows = np.flatnonzero(mask_of(parse(join.join(words)), catalog))
    rows = rows[np.argsort(-catalog.log_popularity[rows], kind="stable")]
    slate = list_items(rows, None, "content", query, catalog, store, found_again(config), around)
    return replace(slate, degraded=("encode", *slate.degraded))
