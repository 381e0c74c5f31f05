"""Items like one item, under the hard rules that hold for everybody.

    retrieve → filter → rank

The value is the mean cosine over what both items have: item vectors (behaviour and content together) and the content
vectors of each modality.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.config import Config
from recsys.dataset import Modality
from recsys.filtering import FilterConfig, GateInput, allowed, forbidden_by, matching_of
from recsys.index.exact import largest
from recsys.live import CatalogView
from recsys.retrieval import Found, bit_of, merge, source_of
from recsys.times import to_ms
from recsys.trace import Trace
from recsys.types import Candidates, Slate, SlateItem

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
    catalog: CatalogView,
    *,
    now: datetime,
    limit: int,
    config: SimilarConfig | None = None,
    rules: FilterConfig | None = None,
    filter: str = "",
) -> Slate:
    """The slate of an item; an unknown one has no neighbours and is named in `missing_ids`.

    Args:
        rules: the configuration's hard rules.
        filter: an expression that the items must match.
    """
    row, release_id = catalog.row(item_id), catalog.release.release_id
    if row is None:
        return Slate("", (), release_id, missing_ids=(item_id,))
    config, trace = config or SimilarConfig(), Trace()
    rules = rules or FilterConfig()
    gate = GateInput(
        catalog,
        to_ms(now),
        excluded=catalog.item_hashes[[row]],
        forbidden=forbidden_by(rules, catalog),
        matching=matching_of(filter, rules, catalog),
    )
    quota = max(limit, config.quota)
    kept_candidates = _filter(gate, _retrieve(row, gate, quota, config, trace), trace)
    while len(kept_candidates) < limit and quota < len(catalog):
        quota *= 4
        kept_candidates = _filter(gate, _retrieve(row, gate, quota, config, trace), trace)
    ranked_candidates = _rank(row, kept_candidates, catalog, trace)
    chosen = ranked_candidates.take(np.arange(min(limit, len(ranked_candidates))))
    return Slate(
        "",
        _items(row, chosen, catalog),
        release_id,
        degraded=trace.degraded,
        trace=tuple(trace.stages),
        dropped=trace.dropped,
        item_hashes=catalog.item_hashes[chosen.item_rows],
    )


def _retrieve(row: int, gate: GateInput, quota: int, config: SimilarConfig, trace: Trace) -> Candidates:
    """The nearest by item vector and by each kind of content, what follows the item, and all newcomers."""
    catalog = gate.catalog
    with trace.stage("retrieve", len(catalog)) as stage:
        release, only_this = catalog.release, np.array([row], dtype=np.int64)
        found = []
        if release.schema.has_towers:
            nearest, _ = catalog.index.search(catalog.vectors(only_this), quota, gate.matching)
            found.append(Found("ann", nearest[0][nearest[0] < release.n_items]))
        found.append(Found("similar", release.neighbours.top_rows(only_this, quota)))
        found.append(Found("recent", np.arange(release.n_items, len(catalog), dtype=np.int64)))
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


def _filter(gate: GateInput, candidates: Candidates, trace: Trace) -> Candidates:
    with trace.stage("filter", len(candidates)) as stage:
        kept_candidates = candidates.take(allowed(gate, candidates.item_rows, FilterConfig(), trace.dropped))
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


def _items(row: int, chosen: Candidates, catalog: CatalogView) -> tuple[SlateItem, ...]:
    name = catalog.name(row)
    follows = (chosen.sources & bit_of("similar")) > 0
    return tuple(
        SlateItem(
            item_id=catalog.item_id(int(chosen.item_rows[position])),
            value=float(chosen.value[position]),
            source=source_of(int(chosen.sources[position])),
            reasons=(f"often chosen with {name}" if follows[position] else f"like {name}",),
            position=position,
        )
        for position in range(len(chosen))
    )
