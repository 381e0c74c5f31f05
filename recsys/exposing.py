"""From chosen candidates to the items of a slate, and to its record in the exposure log."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from recsys.events import Exposure
from recsys.explanations import Explanations, as_one
from recsys.filtering import FilterConfig, GateInput, still_allowed
from recsys.history import History
from recsys.live import CatalogView
from recsys.retrieval import source_of
from recsys.trace import Trace
from recsys.types import Candidates, Query, SlateItem

Say = Callable[[History, Candidates, Sequence[str], CatalogView], list[tuple[str, ...]]]
"""(history, what is shown, their sources, catalogue) → why each is there."""


def still_shown(
    chosen: Candidates, query: Query, gate: GateInput, config: FilterConfig, latest: CatalogView | None, trace: Trace
) -> Candidates:
    """The last gate: what was hidden, deleted or ended while this request ran does not leave."""
    if latest is None or latest is gate.catalog:
        return chosen
    return chosen.take(still_allowed(gate, latest, chosen.item_rows, query.filter, config, trace.dropped))


def slate_items(
    query: Query, history: History, chosen: Candidates, catalog: CatalogView, say: Say, explained: Explanations
) -> tuple[SlateItem, ...]:
    sources = [source_of(bits) for bits in chosen.sources.tolist()]
    reasons = say(history, chosen, sources, catalog)
    rows, values = chosen.item_rows.tolist(), chosen.value.tolist()
    propensities = [1.0] * len(rows) if chosen.propensity is None else chosen.propensity.tolist()
    ids, places = catalog.item_ids(rows), range(len(rows))
    if not query.explain:
        return tuple(map(SlateItem, ids, values, sources, reasons, places, propensities))
    whys = [explained.get(row) or as_one(value) for row, value in zip(rows, values, strict=True)]
    parts, because = [why.parts for why in whys], [why.because for why in whys]
    return tuple(map(SlateItem, ids, values, sources, reasons, places, propensities, parts, because))


def exposure_of(query: Query, items: tuple[SlateItem, ...], release_id: str) -> Exposure:
    return Exposure(
        recommendation_id=query.recommendation_id,
        user_id=query.user_id,
        session_id=query.session_id,
        occurred_at=query.now,
        release=release_id,
        item_ids=tuple([item.item_id for item in items]),
        propensities=tuple([item.propensity for item in items]),
        sources=tuple([item.source for item in items]),
        surface=query.surface,
        context=query.context,
        variants=query.variants,
    )
