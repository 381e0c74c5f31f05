"""Items like one item, under the hard rules that hold for everybody.

    retrieve → filter → rank

The value is the mean cosine over what both items have: item vectors (behaviour and content together) and the content
vectors of each modality.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from recsys.filtering import FilterConfig, GateInput, allowed
from recsys.live import CatalogView
from recsys.retrieval import Found, merge, source_of
from recsys.trace import Trace
from recsys.types import Candidates, Slate, SlateItem

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]
N_CANDIDATES = 300
NOBODY = np.empty(0, np.uint64)


def similar(item_id: str, catalog: CatalogView, *, now: datetime, limit: int) -> Slate:
    """The slate of an item; an unknown one has no neighbours and is named in `missing_ids`."""
    row = catalog.row(item_id)
    release_id = catalog.release.release_id
    if row is None:
        return Slate("", (), release_id, missing_ids=(item_id,))
    trace = Trace()
    candidates = _retrieve(row, catalog, limit, trace)
    kept_candidates = _filter(row, candidates, catalog, now, trace)
    ranked_candidates = _rank(row, kept_candidates, catalog, trace).take(np.arange(min(limit, len(kept_candidates))))
    return Slate("", _items(ranked_candidates, row, catalog), release_id, degraded=trace.degraded)


def _retrieve(row: int, catalog: CatalogView, limit: int, trace: Trace) -> Candidates:
    """The nearest by item vector, what goes with the item, the newcomers, and the nearest by content alone."""
    with trace.stage("retrieve", len(catalog)) as stage:
        release = catalog.release
        k = max(limit + 50, N_CANDIDATES)
        found = []
        if release.schema.has_towers:
            nearest, _ = release.index.search(catalog.vectors(np.array([row])), k)
            found.append(Found("ann", nearest[0]))
        found.append(Found("similar", release.neighbours.top_rows(np.array([row]), k)))
        found.append(Found("recent", np.arange(release.n_items, len(catalog), dtype=np.int64)))
        if not release.schema.has_towers:
            found.append(Found("ann", _nearest_by_content(row, catalog, k)))
        rows, sources = merge(found)
        nothing = np.zeros(len(rows), np.float32)
        candidates = Candidates(rows, nothing, sources, nothing)
        stage.out(candidates)
        return candidates


def _nearest_by_content(row: int, catalog: CatalogView, k: int) -> Rows:
    """int64 [k'], over the whole catalogue: for releases without item vectors."""
    rows = np.arange(len(catalog), dtype=np.int64)
    return rows[np.argsort(-_cosine(row, rows, catalog), kind="stable")[:k]]


def _filter(row: int, candidates: Candidates, catalog: CatalogView, now: datetime, trace: Trace) -> Candidates:
    with trace.stage("filter", len(candidates)) as stage:
        gate = GateInput(catalog, int(now.timestamp() * 1000), NOBODY, NOBODY, catalog.item_hashes[[row]])
        kept_candidates = candidates.take(allowed(gate, candidates.item_rows, FilterConfig()))
        stage.out(kept_candidates)
        return kept_candidates


def _rank(row: int, candidates: Candidates, catalog: CatalogView, trace: Trace) -> Candidates:
    with trace.stage("rank", len(candidates)) as stage:
        ranked_candidates = candidates.ranked(_cosine(row, candidates.item_rows, catalog))
        stage.out(ranked_candidates)
        return ranked_candidates


def _cosine(row: int, rows: Rows, catalog: CatalogView) -> Floats:
    """float32 [C]: mean over item vectors and modalities of the cosine to one item, where both have one; else 0."""
    total, counted = np.zeros(len(rows), np.float32), np.zeros(len(rows), np.float32)
    if catalog.release.schema.has_towers:
        total += _normalised(catalog.vectors(rows)) @ _normalised(catalog.vectors(np.array([row])))[0]
        counted += 1
    for modality in catalog.release.modalities:
        own, is_there = catalog.content(modality.name, np.array([row]))
        if is_there[0]:
            vectors, present = catalog.content(modality.name, rows)
            total += np.where(present, _normalised(vectors) @ _normalised(own)[0], 0)
            counted += present
    return (total / np.maximum(counted, 1)).astype(np.float32)


def _normalised(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)


def _items(ranked: Candidates, row: int, catalog: CatalogView) -> tuple[SlateItem, ...]:
    reason = f"like {catalog.title(row) or catalog.item_id(row)}"
    return tuple(
        SlateItem(
            catalog.item_id(int(ranked.item_rows[position])),
            float(ranked.value[position]),
            source_of(int(ranked.sources[position])),
            (reason,),
            position,
        )
        for position in range(len(ranked))
    )
