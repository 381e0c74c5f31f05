"""Worlds drawn at random, with what may be shown in them told by plain Python instead of by the code under test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys.catalog import CatalogItem
from recsys.dataset import Modality
from recsys.errors import ArtifactError
from recsys.filtering import FilterConfig
from recsys.live import CatalogView, updated, view_of
from recsys.ports import LiveItem, QueryEncoder
from recsys.recommender import RecommenderConfig
from recsys.release import IdVectors, LoadedRelease
from recsys.reranking import RerankConfig
from recsys.retrieval import RetrievalConfig
from recsys.types import HistoryItem, Query
from tests.worlds.flaky_store import FlakyStore
from tests.worlds.in_memory import Floats, MeanOfHistory, SumOfParts, in_memory_release, neighbours_of, space

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
DIM = 4
TIMES = (None, None, None, NOW - timedelta(days=9), NOW - timedelta(milliseconds=1), NOW, NOW + timedelta(days=9))
Tower = Literal["works", "fails", "not finite", "none"]


class FailingTower:
    """A query tower that cannot run."""

    dim = DIM

    def encode(self, history: Floats, event_types: NDArray[np.int64], user_text: Floats | None = None) -> Floats:
        raise ArtifactError("a tower failed on its input")

    def encode_many(
        self,
        histories: Floats,
        event_types: NDArray[np.int64],
        lengths: NDArray[np.int64],
        user_text: Floats | None = None,
        reads_text: NDArray[np.bool_] | None = None,
    ) -> Floats:
        return np.array([self.encode(histories[0], event_types[0])] * len(histories), np.float32)


class BrokenTower(FailingTower):
    """A query tower that answers with no numbers."""

    def encode(self, history: Floats, event_types: NDArray[np.int64], user_text: Floats | None = None) -> Floats:
        return np.full(DIM, np.nan, np.float32)


@dataclass(frozen=True)
class RandomWorld:
    """A request and all that it meets.

    Attributes:
        items: everything upserted or released, as it is now, by id; deleted items are not in it.
        shown: ids that anybody may see now.
        allowed: ids that this request may be answered with.
        unknown: ids in the request that are in no catalogue, in order, each once; an item of the release that was
            deleted since is still known.
    """

    release: LoadedRelease
    catalog: CatalogView
    live: tuple[LiveItem, ...]
    store: FlakyStore
    query: Query
    config: RecommenderConfig
    tower: Tower
    items: Mapping[str, CatalogItem]
    shown: frozenset[str]
    allowed: frozenset[str]
    unknown: tuple[str, ...]


@st.composite
def random_worlds(draw: st.DrawFn) -> RandomWorld:
    """Sizes and failures are drawn one by one, so that they shrink; what fills them comes from one seed."""
    tower: Tower = draw(st.sampled_from(("works", "works", "works", "fails", "not finite", "none")))
    return random_world(
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        n_items=draw(st.integers(0, 20)),
        n_live=draw(st.integers(0, 8)),
        limit=draw(st.integers(1, 30)),
        tower=tower,
        store_is_up=draw(st.sampled_from((True, True, True, False))),
        exclude_seen=draw(st.sampled_from((True, True, False))),
        explain=draw(st.booleans()),
    )


def random_world(
    rng: np.random.Generator,
    *,
    n_items: int,
    n_live: int,
    limit: int,
    tower: Tower = "works",
    store_is_up: bool = True,
    exclude_seen: bool = True,
    explain: bool = False,
) -> RandomWorld:
    release = _release(rng, n_items, tower)
    live = tuple(_live_item(rng, int(number)) for number in rng.choice(n_items + n_live + 1, n_live, replace=False))
    half = int(rng.integers(0, n_live + 1))
    catalog = updated(view_of(release, live[:half], version=1), 2, live[half:])
    released = _items_of(release)
    items = {item.item_id: item for item in released}
    items |= {item.item_id: _now(item) for item in live}
    items = {item_id: item for item_id, item in items.items() if item.attributes.get("deleted") is not True}
    known_ids = {item.item_id for item in released} | items.keys()
    everything = [item_id_of(number) for number in range(n_items + n_live + 3)]

    def some(most: int) -> list[str]:
        return [everything[at] for at in rng.integers(0, len(everything), int(rng.integers(0, most + 1)))]

    stored, session, excluded, blocked = some(8), some(4), some(4), some(3)
    store = FlakyStore()
    store.import_histories([("ann", [HistoryItem(each, "view", at, at) for at, each in enumerate(stored, 1)])])
    store.block("ann", blocked)
    store.up = store_is_up
    hidden_from_ann = {*excluded, *(blocked if store_is_up else ())}
    if exclude_seen:
        hidden_from_ann |= {*session, *(stored if store_is_up else ())}
    shown = frozenset(item_id for item_id, item in items.items() if _is_shown(item))
    return RandomWorld(
        release=release,
        catalog=catalog,
        live=live,
        store=store,
        query=Query(
            "request",
            NOW,
            user_id="ann",
            history=tuple(HistoryItem(each) for each in session),
            exclude_item_ids=tuple(excluded),
            limit=limit,
            explain=explain,
        ),
        config=_config(rng, exclude_seen),
        tower=tower,
        items=items,
        shown=shown,
        allowed=shown - hidden_from_ann,
        unknown=tuple(each for each in dict.fromkeys([*session, *excluded]) if each not in known_ids),
    )


def item_id_of(number: int) -> str:
    """Ids as people have them: with slashes, blanks, other scripts, and one that looks like a number."""
    return ("/a b/{}", "影片-{}", "{}", "ÄÖ?&#%{}", "e\u0301{}", "\u00e9{}")[number % 6].format(number)


def _release(rng: np.random.Generator, n_items: int, tower: Tower) -> LoadedRelease:
    ids, content = unit(rng, n_items), unit(rng, n_items)
    has_id, present = rng.random(n_items) < 0.8, rng.random(n_items) < 0.8
    towers: dict[Tower, QueryEncoder | None] = {
        "works": MeanOfHistory(DIM), "fails": FailingTower(), "not finite": BrokenTower(), "none": None,
    }  # fmt: skip
    following = [
        [(int(row), float(1 / (place + 1))) for place, row in enumerate(rng.permutation(n_items)[:3]) if row != item]
        for item in range(n_items)
    ]
    return in_memory_release(
        [_item(rng, number) for number in range(n_items)],
        ids * has_id[:, None] + content * present[:, None],
        counts=rng.integers(0, 9, n_items),
        neighbours=neighbours_of(following),
        modalities=(Modality("text", space("text", DIM).space_id, content * present[:, None], present),),
        max_history=int(rng.integers(1, 6)),
        query_encoder=towers[tower],
        item_encoder=None if tower == "none" else SumOfParts(DIM),
        id_vectors=None if tower == "none" else IdVectors(ids, has_id),
    )


def _item(rng: np.random.Generator, number: int) -> CatalogItem:
    starts, ends = (TIMES[int(rng.integers(len(TIMES)))] for _ in range(2))
    title = None if rng.random() < 0.2 else f"Title {number}"
    return CatalogItem(
        item_id_of(number), title, hidden=bool(rng.random() < 0.15), available_from=starts, available_until=ends
    )


def _live_item(rng: np.random.Generator, number: int) -> LiveItem:
    fields: dict[str, Any] = _item(rng, number).to_json()
    if rng.random() < 0.1:
        fields["available_until"] = "one of these days"
    vector = unit(rng, 1)[0]
    space_id = space("text", DIM).space_id if rng.random() < 0.7 else "another space"
    vectors = {"text": vector} if rng.random() < 0.8 else {}
    return LiveItem(
        item_id_of(number), fields, vectors, {"text": space_id} if vectors else {}, deleted=bool(rng.random() < 0.2)
    )


def _items_of(release: LoadedRelease) -> list[CatalogItem]:
    rows = release.items.drop_columns(["line", "attributes"]).to_pylist()
    return [CatalogItem(**{**row, "categories": tuple(row["categories"] or ())}) for row in rows]


def _now(item: LiveItem) -> CatalogItem:
    """The item as upserted; `attributes` tell what is no field of an item."""
    fields = dict(item.fields)
    unreadable = fields["available_until"] == "one of these days"
    for name in ("available_from", "available_until"):
        fields[name] = datetime.fromisoformat(fields[name]) if fields[name] and not unreadable else None
    now = CatalogItem(**{**fields, "attributes": {"deleted": item.deleted}})
    return replace(now, hidden=now.hidden or unreadable)


def _is_shown(item: CatalogItem) -> bool:
    has_begun = item.available_from is None or item.available_from <= NOW
    has_ended = item.available_until is not None and item.available_until <= NOW
    return has_begun and not has_ended and not item.hidden


def _config(rng: np.random.Generator, exclude_seen: bool) -> RecommenderConfig:
    """Quotas small enough that sources run dry, and large enough that they do not."""
    ann, similar, recent, popular, overshoot = rng.choice([0, 1, 3, 50], 5).tolist()
    return RecommenderConfig(
        retrieval=RetrievalConfig(
            ann=ann, similar=similar, recent=recent, popular=popular, max_seen_overshoot=overshoot
        ),
        filter=FilterConfig(exclude_seen=exclude_seen),
        rerank=RerankConfig(diversity=float(rng.choice([0, 0.1, 0.9])), window=int(rng.choice([1, 5, 200]))),
    )


def unit(rng: np.random.Generator, n: int) -> Floats:
    """float32 [n, DIM] of length 1."""
    vectors = rng.standard_normal((n, DIM)).astype(np.float32)
    lengths: Floats = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths
