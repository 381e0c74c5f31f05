"""From one snapshot of the catalogue to the next, at the cost of what changed: all else is shared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from recsys.errors import InvalidRequest
from recsys.events import hash64
from recsys.expressions.evaluation import allowed_by, lately_asked
from recsys.expressions.overlay import ChangedRow, Overlay
from recsys.expressions.parsing import parse
from recsys.live.availability import Availability
from recsys.live.layered import Layered
from recsys.live.newcomers import Newcomers
from recsys.live.searches import Searches
from recsys.live.unjudged import unjudged_content
from recsys.live.view import CatalogView
from recsys.ports import LiveItem
from recsys.release import LoadedRelease

A = TypeVar("A", np.uint64, np.float32)
MASKS_MADE_READY = 32


def view_of(release: LoadedRelease, live_items: Iterable[LiveItem] = (), version: int = 0) -> CatalogView:
    """The snapshot of a release with these upserts applied (each item once)."""
    newcomers, availability = Newcomers.none(release), Availability.of(release)
    untouched = CatalogView(
        release=release,
        version=version,
        item_hashes=release.vocabulary.hashes,
        log_popularity=release.log_popularity,
        live_items=Layered[str, LiveItem](),
        newcomers=newcomers,
        availability=availability,
        overlay=Overlay(release.columns, (), release.n_items),
        searches=Searches(release, newcomers, availability.hidden),
        lineage=object(),
    )
    return updated(untouched, version, tuple(live_items))


def updated(view: CatalogView, version: int, changes: Sequence[LiveItem]) -> CatalogView:
    """A new snapshot with these changes; the same one when there are none. The item tower runs for new items, and for
    those of which what it reads has changed."""
    if not changes:
        return view
    release, changed = view.release, {item.item_id: item for item in changes}
    of_newcomers = {item_id: item for item_id, item in changed.items() if item_id not in release.vocabulary}
    newcomers = view.newcomers.with_changes(of_newcomers, view.live_items, release)
    n_rows = release.n_items + len(newcomers)
    rows = _rows(changed, newcomers, release)
    availability = view.availability.with_changes(zip(rows, changed.values(), strict=True), n_rows)
    shows_the_same = newcomers.mark is view.newcomers.mark and availability.hidden is view.hidden
    return replace(
        view,
        version=version,
        item_hashes=_appended(view.item_hashes, [hash64(each) for each in newcomers.ids[len(view.newcomers) :]]),
        log_popularity=_appended(view.log_popularity, [0.0] * (n_rows - len(view))),
        live_items=view.live_items.with_entries(changed),
        newcomers=newcomers,
        availability=availability,
        overlay=view.overlay.with_changes(
            [
                ChangedRow(row, item.item_id, item.fields, unjudged_content(item, row, release))
                for row, item in zip(rows, changed.values(), strict=True)
            ],
            n_rows,
        ),
        searches=view.searches if shows_the_same else Searches(release, newcomers, availability.hidden),
    )


def make_ready(view: CatalogView, earlier: CatalogView | None = None) -> None:
    """Do now what requests would have to wait for: the index, and the masks that were asked for lately of the release
    and of the snapshot before."""
    _ = view.index
    lately = [*view.release.columns.masks.latest(MASKS_MADE_READY)]
    if earlier is not None:
        lately += lately_asked(earlier, MASKS_MADE_READY)
    for text in dict.fromkeys(lately):
        with suppress(InvalidRequest):  # written out in full it may be longer than what is taken
            allowed_by(parse(text), view)


def _rows(changed: Mapping[str, LiveItem], newcomers: Newcomers, release: LoadedRelease) -> list[int]:
    rows = []
    for item_id in changed:
        row = release.vocabulary.row(item_id)
        rows.append(release.n_items + newcomers.place_of[item_id] if row is None else row)
    return rows


def _appended(values: NDArray[A], more: Sequence[float]) -> NDArray[A]:
    """The same array where there is nothing more."""
    return np.concatenate([values, np.array(more, dtype=values.dtype)]) if more else values
