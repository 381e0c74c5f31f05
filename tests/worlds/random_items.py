"""Items drawn at random, in a release and upserted, and what is said of them now in plain Python."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from recsys.catalog import ITEM_FIELDS, CatalogItem
from recsys.ports import LiveItem
from recsys.release import LoadedRelease
from tests.worlds.failing_parts import DIM
from tests.worlds.in_memory import Floats, space

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
TIMES = (None, None, None, NOW - timedelta(days=9), NOW - timedelta(milliseconds=1), NOW, NOW + timedelta(days=9))
TAGS = ("x", "y", "NSFW")
Items = Mapping[str, CatalogItem]


def item_id_of(number: int) -> str:
    """Ids as people have them: with slashes, blanks, other scripts, and one that looks like a number."""
    return ("/a b/{}", "影片-{}", "{}", "ÄÖ?&#%{}", "e\u0301{}", "\u00e9{}")[number % 6].format(number)


def item(rng: np.random.Generator, number: int) -> CatalogItem:
    starts, ends = (TIMES[int(rng.integers(len(TIMES)))] for _ in range(2))
    maybe: dict[str, Any] = {
        "stock": int(rng.integers(0, 4)), "in_stock": bool(rng.random() < 0.7), "adult": bool(rng.random() < 0.3),
        "tags": [str(each) for each in rng.choice(TAGS, int(rng.integers(1, 3)), replace=False, p=(0.45, 0.45, 0.1))],
    }  # fmt: skip
    return CatalogItem(
        item_id_of(number),
        title=None if rng.random() < 0.2 else f"Title {number}",
        categories=tuple(str(each) for each in rng.choice(["a", "b", "c"], int(rng.integers(0, 3)), replace=False)),
        price=None if rng.random() < 0.3 else float(rng.integers(0, 4)),
        hidden=bool(rng.random() < 0.15),
        available_from=starts,
        available_until=ends,
        attributes={name: value for name, value in maybe.items() if rng.random() < 0.5},
    )


def live_item(rng: np.random.Generator, number: int, *, deleted_share: float = 0.2) -> LiveItem:
    fields: dict[str, Any] = item(rng, number).to_json()
    if rng.random() < 0.1:
        fields["available_until"] = "one of these days"
    vector = unit(rng, 1)[0]
    space_id = space("text", DIM).space_id if rng.random() < 0.7 else "another space"
    vectors = {"text": vector} if rng.random() < 0.8 else {}
    space_ids = {"text": space_id} if vectors else {}
    if rng.random() < 0.15:
        vectors["image"], space_ids["image"] = vector, "seen by nobody"
    is_deleted = bool(rng.random() < deleted_share)
    return LiveItem(item_id_of(number), fields, vectors, space_ids, deleted=is_deleted)


def items_of(release: LoadedRelease) -> list[CatalogItem]:
    rows = release.items.select(ITEM_FIELDS).to_pylist()
    return [
        CatalogItem(**{**row, "categories": tuple(row["categories"] or ()), "attributes": _object(row["attributes"])})
        for row in rows
    ]


def _object(text: str | None) -> dict[str, Any]:
    return {} if text is None else dict(json.loads(text))


def told_of(released: Sequence[CatalogItem], live: Sequence[LiveItem]) -> Items:
    """What is said of all items after these upserts, deleted ones among them."""
    return {item.item_id: item for item in [*released, *map(_now, live)]}


def not_deleted(released: Sequence[CatalogItem], live: Sequence[LiveItem]) -> Items:
    deleted = {item_id for item_id, item in {item.item_id: item for item in live}.items() if item.deleted}
    return {item_id: item for item_id, item in told_of(released, live).items() if item_id not in deleted}


def _now(item: LiveItem) -> CatalogItem:
    """The item as upserted."""
    fields = dict(item.fields)
    unreadable = fields["available_until"] == "one of these days"
    for name in ("available_from", "available_until"):
        fields[name] = datetime.fromisoformat(fields[name]) if fields[name] and not unreadable else None
    now = CatalogItem(**fields)
    return replace(now, hidden=now.hidden or unreadable)


def is_shown(item: CatalogItem) -> bool:
    has_begun = item.available_from is None or item.available_from <= NOW
    has_ended = item.available_until is not None and item.available_until <= NOW
    return has_begun and not has_ended and not item.hidden


def unit(rng: np.random.Generator, n: int) -> Floats:
    """float32 [n, DIM] of length 1."""
    vectors = rng.standard_normal((n, DIM)).astype(np.float32)
    lengths: Floats = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths
