"""Worlds drawn at random, with what may be shown in them told by plain Python instead of by the code under test."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys.catalog import CatalogItem
from recsys.dataset import Modality
from recsys.events import hash64
from recsys.filtering import FilterConfig
from recsys.history import HistoryCache
from recsys.live import CatalogView, updated, view_of
from recsys.ports import LiveItem, QueryEncoder, Ranker
from recsys.recommender import RecommenderConfig, Surroundings
from recsys.release import IdVectors, LoadedRelease
from recsys.reranking import ExplorationConfig, SurfaceRules
from recsys.retrieval import RetrievalConfig
from recsys.times import to_ms
from recsys.types import HistoryItem, Query
from tests.worlds.failing_parts import (
    DIM,
    BrokenTower,
    FailingIndex,
    FailingRanker,
    FailingTower,
    NotingBudget,
    NotingGuard,
    OneRead,
    StoreState,
    TwoOutputs,
)
from tests.worlds.flaky_store import FlakyStore
from tests.worlds.in_memory import MeanOfHistory, SumOfParts, in_memory_release, neighbours_of, space
from tests.worlds.random_items import (
    NOW,
    Items,
    is_shown,
    item,
    item_id_of,
    items_of,
    live_item,
    not_deleted,
    told_of,
    unit,
)
from tests.worlds.random_rules import expression, filter_config, rerank_config, says
from tests.worlds.random_tags import may_have, tagged

SERVED_S = 3600.0
Tower = Literal["works", "fails", "not finite", "none"]
Part = Literal["works", "fails", "guarded off", "none"]
Later = Literal["same", "changed", "begun anew", "another release"]


@dataclass(frozen=True)
class RandomWorld:
    """A request and all that it meets.

    Attributes:
        live: everything upserted or deleted since the release, in its last form.
        store: where exposures go; what a request reads of it is `read`.
        latest: the catalogue as it is when the slate leaves.
        items: everything upserted or released, as it is now, by id; deleted items are not in it.
        shown: ids that anybody may see now, whatever the configuration says.
        allowed: ids that this request may be answered with.
        findable: those that the same user may find by searching: what was seen or served is among them.
        findable_without_filter: the same where the request's filter is lifted.
        still: ids that `latest` does not forbid to those who were allowed them before.
        unknown: ids in the request that are in no catalogue, in order, each once; an item of the release that was
            deleted since is still known.
        may_lift: the request's filter is lifted where nothing is found that matches it: it is not strict, and no
            earlier page showed what matches.
        is_lifted: nothing that may be recommended matches it, so that it is lifted.
        is_judged: the release can tell of the blocked tags.
        n_looks: how often a request may look at its time before that is up.
    """

    release: LoadedRelease
    catalog: CatalogView
    live: tuple[LiveItem, ...]
    store: FlakyStore
    read: OneRead
    query: Query
    config: RecommenderConfig
    tower: Tower
    index: Part
    ranker: Part
    trending: NDArray[np.int64]
    histories: HistoryCache
    latest: CatalogView | None
    items: Items
    shown: frozenset[str]
    allowed: frozenset[str]
    findable: frozenset[str]
    findable_without_filter: frozenset[str]
    still: frozenset[str]
    unknown: tuple[str, ...]
    may_lift: bool
    is_lifted: bool
    is_judged: bool
    store_state: StoreState
    n_looks: int | None
    index_guard: NotingGuard = field(default_factory=lambda: NotingGuard(True))
    ranker_guard: NotingGuard = field(default_factory=lambda: NotingGuard(True))

    def around(self) -> Surroundings:
        return Surroundings(
            self.histories, self.trending, self.index_guard, self.ranker_guard, latest=lambda: self.latest
        )

    def budget(self) -> NotingBudget:
        return NotingBudget(self.n_looks)

    def plain(self) -> RandomWorld:
        """The same without a surface's rules, exploration, or a later snapshot."""
        rerank = self.config.rerank.model_copy(update={"rules": SurfaceRules(), "exploration": ExplorationConfig()})
        return replace(self, config=self.config.model_copy(update={"rerank": rerank}), latest=None)


@st.composite
def random_worlds(draw: st.DrawFn) -> RandomWorld:
    """Sizes and failures are drawn one by one, so that they shrink; what fills them comes from one seed."""
    return random_world(
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        n_items=draw(st.integers(0, 20)),
        n_live=draw(st.integers(0, 8)),
        limit=draw(st.integers(1, 30)),
        tower=draw(st.sampled_from(("works", "works", "works", "fails", "not finite", "none"))),
        index=draw(st.sampled_from(("works", "works", "works", "fails", "guarded off"))),
        ranker=draw(st.sampled_from(("none", "none", "works", "fails", "guarded off"))),
        store_state=draw(st.sampled_from(("up", "up", "up", "down", "last known"))),
        later=draw(st.sampled_from(("same", "same", "changed", "begun anew", "another release"))),
        n_looks=draw(st.one_of(st.none(), st.none(), st.integers(0, 5))),
        has_rules=draw(st.booleans()),
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
    index: Part = "works",
    ranker: Part = "none",
    store_state: StoreState = "up",
    later: Later = "same",
    n_looks: int | None = None,
    has_rules: bool = False,
    exclude_seen: bool = True,
    explain: bool = False,
) -> RandomWorld:
    release = _release(rng, n_items, tower, index, ranker)
    live = tuple(live_item(rng, int(number)) for number in rng.choice(n_items + n_live + 1, n_live, replace=False))
    catalog = _in_steps(rng, release, live)
    everything = [item_id_of(number) for number in range(n_items + n_live + 3)]

    def some(most: int) -> list[str]:
        return [everything[at] for at in rng.integers(0, len(everything), int(rng.integers(0, most + 1)))]

    stored, session, excluded, blocked, served, paged = some(8), some(4), some(4), some(3), some(3), some(3)
    store = FlakyStore()
    store.import_histories([("ann", [HistoryItem(each, "view", at, at) for at, each in enumerate(stored, 1)])])
    store.block("ann", blocked)
    store.note_served("ann", _hashes(served), to_ms(NOW) - 1000, SERVED_S)
    config = RecommenderConfig(
        retrieval=_quotas(rng),
        filter=filter_config(
            rng,
            exclude_seen=exclude_seen,
            exclude_served_s=float(rng.choice([0, 0.5, SERVED_S])),
            fail_open=(("blocked", "seen"), ("seen",), ())[int(rng.choice([0, 0, 0, 1, 2]))],
        ),
        rerank=rerank_config(rng, everything, has_rules=has_rules),
    )
    query = Query(
        "request",
        NOW,
        user_id="ann",
        history=tuple(HistoryItem(each) for each in session),
        exclude_item_ids=tuple(excluded),
        limit=limit,
        explain=explain,
        seed=int(rng.integers(2**63)),
        filter=expression(rng) if rng.random() < 0.4 else "",
        strict_filtering=bool(rng.random() < 0.5),
        paged=np.unique(_hashes(paged).astype(np.uint32)),
    )
    is_known = store_state != "down"
    released = items_of(release)
    items = not_deleted(released, live)
    allows = config.filter
    shown = frozenset(item_id for item_id, item in items.items() if is_shown(item))
    hidden_from_ann = {*excluded, *paged, *(blocked if is_known else ())}
    blocked_now = _blocked(release, live, allows)
    looked_for = {each for each in shown - hidden_from_ann - blocked_now if _is_sold(items[each], allows)}
    if not is_known and "blocked" not in allows.fail_open:
        looked_for = set()
    recommendable = looked_for - _had(allows, session, stored if is_known else (), served if is_known else ())
    if not is_known and exclude_seen and "seen" not in allows.fail_open:
        recommendable = set()
    matching = {each for each in recommendable if says(query.filter, items[each])}
    told = told_of(released, live)
    went_on = any(_matches(told[each], query, allows) for each in paged if each in told)
    may_lift = bool(query.filter) and not query.strict_filtering and not went_on
    is_lifted = may_lift and not matching
    latest, then, blocked_then = _later(rng, later, release, catalog, live, allows)
    return RandomWorld(
        release=release,
        catalog=catalog,
        live=live,
        store=store,
        read=OneRead(store, store_state, "ann"),
        query=query,
        config=config,
        tower=tower,
        index=index,
        ranker=ranker,
        trending=rng.permutation(len(catalog))[: int(rng.integers(0, 9))].astype(np.int64),
        histories=HistoryCache(1 << 20),
        latest=latest,
        items=items,
        shown=shown,
        allowed=frozenset(recommendable if is_lifted else matching),
        findable=frozenset(each for each in looked_for if says(query.filter, items[each])),
        findable_without_filter=frozenset(looked_for),
        may_lift=may_lift,
        still=frozenset(
            item_id
            for item_id, item in (items if then is None else then).items()
            if is_shown(item)
            and item_id not in (blocked_now if then is None else blocked_then)
            and _is_sold(item, allows)
            and (item_id not in items or not says(query.filter, items[item_id]) or says(query.filter, item))
        ),
        unknown=tuple(
            each
            for each in dict.fromkeys([*session, *excluded])
            if each not in items and each not in release.vocabulary
        ),
        is_lifted=is_lifted,
        is_judged=bool(release.schema.tag_heads) or not allows.blocked_tags,
        store_state=store_state,
        n_looks=n_looks,
        index_guard=NotingGuard(index != "guarded off"),
        ranker_guard=NotingGuard(ranker != "guarded off"),
    )


def _hashes(item_ids: list[str]) -> NDArray[np.uint64]:
    return np.array([hash64(each) for each in item_ids], dtype=np.uint64)


def _release(rng: np.random.Generator, n_items: int, tower: Tower, index: Part, ranker: Part) -> LoadedRelease:
    ids, content = unit(rng, n_items), unit(rng, n_items)
    has_id, present = rng.random(n_items) < 0.8, rng.random(n_items) < 0.8
    towers: dict[Tower, QueryEncoder | None] = {
        "works": MeanOfHistory(DIM), "fails": FailingTower(), "not finite": BrokenTower(), "none": None,
    }  # fmt: skip
    rankers: dict[Part, Ranker | None] = {"works": TwoOutputs(), "fails": FailingRanker(), "none": None}
    following = [
        [(int(row), float(1 / (place + 1))) for place, row in enumerate(rng.permutation(n_items)[:3]) if row != item]
        for item in range(n_items)
    ]
    release = in_memory_release(
        [item(rng, number) for number in range(n_items)],
        ids * has_id[:, None] + content * present[:, None],
        counts=rng.integers(0, 9, n_items),
        neighbours=neighbours_of(following),
        modalities=(Modality("text", space("text", DIM).space_id, content * present[:, None], present),),
        max_history=int(rng.integers(1, 6)),
        query_encoder=towers[tower],
        item_encoder=None if tower == "none" else SumOfParts(DIM),
        id_vectors=None if tower == "none" else IdVectors(ids, has_id),
    )
    release = replace(release, ranker=rankers.get(ranker, TwoOutputs()))
    release = tagged(rng, release) if rng.random() < 0.8 else release
    return replace(release, index=FailingIndex(release.item_vectors)) if index == "fails" else release


def _in_steps(rng: np.random.Generator, release: LoadedRelease, live: tuple[LiveItem, ...]) -> CatalogView:
    """The catalogue with all of them, some of which were other than they are now: sold elsewhere, or deleted."""
    half = int(rng.integers(0, len(live) + 1))
    catalog = view_of(release, live[:half], version=1)
    earlier = [replace(each, deleted=not each.deleted, vectors={}, space_ids={}) for each in live if rng.random() < 0.3]
    catalog = updated(catalog, 2, [*live[half:], *earlier])
    return updated(catalog, 3, [item for item in live if catalog.live_items[item.item_id] is not item])


def _later(
    rng: np.random.Generator,
    later: Later,
    release: LoadedRelease,
    catalog: CatalogView,
    live: tuple[LiveItem, ...],
    config: FilterConfig,
) -> tuple[CatalogView | None, Items | None, set[str]]:
    """The catalogue when the slate leaves, and what is then said of all items, and which ids have a blocked tag; None
    where nothing is different."""
    if later == "same":
        return (catalog if rng.random() < 0.5 else None), None, set()
    numbers = rng.permutation(release.n_items + len(live) + 1)[: int(rng.integers(1, 9))]
    changes = tuple(live_item(rng, int(number), deleted_share=0.4) for number in numbers)
    if later == "changed":
        everything = (*live, *changes)
        items = not_deleted(items_of(release), everything)
        return updated(catalog, 9, changes), items, _blocked(release, everything, config)
    if later == "another release":
        release = _release(rng, max(release.n_items - 1, 0), "works", "works", "none")
        release = replace(release, manifest=release.manifest.model_copy(update={"release_id": "r2"}))
    # Only these were upserted since: rows of newcomers are given anew.
    items = not_deleted(items_of(release), changes)
    return view_of(release, changes, version=9), items, _blocked(release, changes, config)


def _matches(item: CatalogItem, query: Query, config: FilterConfig) -> bool:
    """The request's filter and the configuration's."""
    return says(query.filter, item) and all(says(each, item) for each in config.only)


def _is_sold(item: CatalogItem, config: FilterConfig) -> bool:
    """Whether the configuration's own expressions let it pass."""
    never = (*config.never, *((config.out_of_stock,) if config.out_of_stock else ()))
    return not any(says(each, item) for each in never) and all(says(each, item) for each in config.only)


def _blocked(release: LoadedRelease, live: tuple[LiveItem, ...], config: FilterConfig) -> set[str]:
    """The ids of items that have a blocked tag, or of which nobody can tell."""
    return {item_id for item_id, tags in may_have(release, live).items() if tags & set(config.blocked_tags)}


def _had(config: FilterConfig, *ids: Any) -> set[str]:
    """What the user has had already: the session, what is stored, and what was served, if that is asked for."""
    session, stored, served = ids
    seen = {*session, *stored} if config.exclude_seen else set()
    return seen | (set(served) if config.exclude_served_s >= 1 else set())


def _quotas(rng: np.random.Generator) -> RetrievalConfig:
    """Small enough that sources run dry, and large enough that they do not."""
    names = ("ann", "similar", "category", "trending", "recent", "explore", "popular", "max_seen_overshoot")
    return RetrievalConfig(**dict(zip(names, rng.choice([0, 1, 3, 50], len(names)).tolist(), strict=True)))
