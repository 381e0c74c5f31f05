"""The request, stage by stage over the families; what holds for every request is in `test_every_request`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys.catalog import CatalogItem
from recsys.errors import StoreUnavailable
from recsys.features.blend import Blend
from recsys.filtering import FilterConfig
from recsys.index.exact import ExactIndex
from recsys.live import CatalogView, updated, view_of
from recsys.ports import LiveItem, UserState
from recsys.recommender import RecommenderConfig, recommend
from recsys.release import LoadedRelease
from recsys.reranking import RerankConfig
from recsys.retrieval import RetrievalConfig
from recsys.types import HistoryItem, Query, Slate
from tests.worlds.failing_parts import BrokenTower, FailingTower
from tests.worlds.families import DIM, SPACES, axis_of, release
from tests.worlds.flaky_store import FlakyStore
from tests.worlds.in_memory import Floats, MeanOfHistory, in_memory_release, neighbours_of

NOW = datetime(2026, 5, 1, tzinfo=UTC)
STAGES = ["hydrate", "encode", "retrieve", "filter", "rank", "choose", "expose"]
BY_VALUE = RecommenderConfig(rerank=RerankConfig(diversity=0))


def ask(
    catalog: CatalogView | None = None,
    *history: str,
    store: FlakyStore | None = None,
    config: RecommenderConfig | None = None,
    **query: Any,
) -> Slate:
    """The slate after these clicks, in the families unless another catalogue is given."""
    asked = Query("request", NOW, history=tuple(HistoryItem(item_id) for item_id in history), **query)
    view = view_of(release()) if catalog is None else catalog
    return recommend(asked, view, store or FlakyStore(), config or RecommenderConfig())


def ids(slate: Slate) -> list[str]:
    return [item.item_id for item in slate.items]


def gamma(item_id: str = "new", **fields: Any) -> LiveItem:
    """A new item whose text is of the gamma family."""
    return LiveItem(item_id, fields, {"text": axis_of("gamma")}, {"text": SPACES["text"].space_id})


# The trace


def test_each_stage_tells_what_went_in_and_what_came_out() -> None:
    trace = {stage.name: stage for stage in ask(None, "c1", "c2", limit=5).trace}
    assert list(trace) == STAGES
    assert (trace["hydrate"].n_out, trace["encode"].n_in, trace["encode"].n_out) == (2, 2, 1)
    assert (trace["retrieve"].n_in, trace["retrieve"].n_out, trace["filter"].n_in) == (30, 30, 30)
    assert trace["filter"].n_out == 28  # without the two that were clicked
    assert trace["rank"].n_out == trace["choose"].n_in == 28
    assert trace["choose"].n_out == trace["expose"].n_out == 5
    assert all(stage.duration_ms >= 0 for stage in trace.values())


# hydrate


def test_stored_and_session_history_count_together() -> None:
    store = FlakyStore()
    store.import_histories([("ann", [HistoryItem("a1", "view", 1, 1)])])
    trace = {stage.name: stage for stage in ask(None, "c1", store=store, user_id="ann").trace}
    assert trace["encode"].n_in == 2


def test_an_event_that_is_stored_and_sent_again_as_history_counts_once() -> None:
    store = FlakyStore()
    store.import_histories([("ann", [HistoryItem("c1", "view", 5, 1), HistoryItem("a1", "view", 6, 2)])])
    asked = Query("request", NOW, user_id="ann", history=(HistoryItem("c1", "view", 5),))
    trace = {stage.name: stage for stage in recommend(asked, view_of(release()), store, BY_VALUE).trace}
    assert trace["hydrate"].n_out == 2


def test_the_profile_of_a_user_reaches_the_query_tower() -> None:
    class ProfileIsPlace(MeanOfHistory):
        def encode(self, history: Floats, event_types: NDArray[np.int64], user_text: Floats | None = None) -> Floats:
            return np.zeros(DIM, np.float32) if user_text is None else user_text

    families = release()
    with_profile = in_memory_release(
        [CatalogItem(item_id) for item_id in families.vocabulary.item_ids],
        families.item_vectors,
        query_encoder=ProfileIsPlace(DIM),
        profiles={"ann": axis_of("gamma"), "bob": axis_of("beta")},
    )
    for user, letter in (("ann", "c"), ("bob", "b")):
        assert all(item_id.startswith(letter) for item_id in ids(ask(view_of(with_profile), user_id=user, limit=3)))


def test_unknown_ids_are_named_once_in_the_order_of_the_request() -> None:
    slate = ask(None, "nowhere", "c1", "nowhere", exclude_item_ids=("gone", "nowhere", "a1"))
    assert slate.missing_ids == ("nowhere", "gone")


def test_a_store_that_is_down_is_named_and_the_slate_is_not_empty() -> None:
    store = FlakyStore()
    store.up = False
    slate = ask(None, "c1", store=store, user_id="ann", limit=5)
    assert slate.degraded == ("hydrate", "filter", "expose")
    assert len(slate.items) == 5
    assert all(item_id.startswith("c") for item_id in ids(slate))  # the session is still known
    assert "c1" not in ids(slate)
    assert {stage.fallback for stage in slate.trace} >= {"without_stored_history", "exposure_not_logged"}


def test_a_rule_that_must_not_fail_open_shows_nothing_while_the_user_is_unknown() -> None:
    store = FlakyStore()
    store.block("ann", ["a0"])
    strict = RecommenderConfig(filter=FilterConfig(fail_open=("seen",)))
    assert "a0" not in ids(ask(store=store, user_id="ann", config=strict))
    store.up = False
    slate = ask(store=store, user_id="ann", config=strict)
    assert slate.items == ()
    assert "filter" in slate.degraded
    assert "nothing_is_shown" in {stage.fallback for stage in slate.trace}
    assert ask(store=store, config=strict).items  # nobody in particular has blocked nothing


# encode


@pytest.mark.parametrize("tower", [FailingTower(), BrokenTower()])
def test_a_query_tower_that_fails_is_named_and_behaviour_still_leads(tower: Any) -> None:
    items = [CatalogItem(f"i{number}") for number in range(6)]
    follows = neighbours_of([[], [], [(5, 1.0)], [], [], []])
    broken = in_memory_release(
        items, np.eye(6, 4, dtype=np.float32), neighbours=follows, counts=[9, 8, 1, 1, 1, 1], query_encoder=tower
    )
    slate = ask(view_of(broken), "i2", limit=2)
    assert slate.degraded == ("encode",)
    assert ids(slate) == ["i5", "i0"]  # what follows i2, then what is popular
    assert slate.items[0].reasons == ("often chosen with i2",)


class FailingIndex(ExactIndex):
    """As an index does whose library gives up."""

    def search(self, queries: Any, k: int, allowed: Any = None) -> Any:
        raise RuntimeError("Error in virtual void faiss::IndexFlat::search")


def test_an_index_that_fails_is_named_and_the_other_sources_answer() -> None:
    vectors = np.eye(6, 4, dtype=np.float32)
    whole = in_memory_release(
        [CatalogItem(f"i{number}") for number in range(6)], vectors, query_encoder=MeanOfHistory(4)
    )
    slate = ask(view_of(replace(whole, index=FailingIndex(vectors))), "i2", limit=3)
    assert slate.degraded == ("retrieve",)
    assert len(slate.items) == 3


def test_a_release_without_towers_answers_with_popular_items_and_says_so() -> None:
    bare = in_memory_release(
        [CatalogItem(f"i{number}") for number in range(4)], np.zeros((4, 1), np.float32), counts=[1, 5, 3, 0]
    )
    slate = ask(view_of(bare))
    assert ids(slate) == ["i1", "i2", "i0", "i3"]
    assert slate.degraded == ("encode",)
    assert {item.reasons for item in slate.items} == {("popular",)}


def test_the_query_tower_reads_the_latest_of_the_history_and_no_more_than_it_can() -> None:
    class Recording(MeanOfHistory):
        def encode(self, history: Floats, event_types: NDArray[np.int64], user_text: Floats | None = None) -> Floats:
            lengths.append(len(history))
            assert len(event_types) == len(history)
            latest: Floats = history[-1]
            return latest

    lengths: list[int] = []
    vectors = np.eye(6, dtype=np.float32)
    short = in_memory_release(
        [CatalogItem(f"i{number}") for number in range(6)], vectors, query_encoder=Recording(6), max_history=2
    )
    ask(view_of(short), "i0", "i1", "i2")
    ask(view_of(short), "i0")
    assert lengths == [2, 1]


# retrieve


def test_a_new_item_is_found_by_its_content_for_a_query_that_matches_it() -> None:
    catalog = updated(view_of(release()), 1, [gamma(title="New")])
    slate = ask(catalog, "c1", "c2", limit=10)
    (new,) = [item for item in slate.items if item.item_id == "new"]
    assert new.source == "recent"
    assert "new" in new.reasons
    assert "new" not in ids(ask(catalog, "a1", "a2", limit=10))


def test_newcomers_that_nobody_may_see_take_no_place_of_those_that_may_be_seen() -> None:
    hidden = [gamma(f"hidden {number}", hidden=True) for number in range(5)]
    one_newcomer = RecommenderConfig(retrieval=RetrievalConfig(recent=1, popular=0))
    slate = ask(updated(view_of(release()), 1, [*hidden, gamma()]), "c1", config=one_newcomer, limit=25)
    assert "new" in ids(slate)


def test_a_vector_of_another_embedding_space_is_not_used() -> None:
    stranger = LiveItem("new", {"title": "New"}, {"text": axis_of("gamma")}, {"text": "another space"})
    catalog = view_of(release(), [stranger])
    slate = ask(catalog, "c1", "c2", config=BY_VALUE, limit=31)
    values = {item.item_id: item.value for item in slate.items}
    assert values["new"] == 0  # no popularity, follows nothing, and no similarity
    assert ids(slate).index("new") > ids(slate).index("c9")


def test_who_has_seen_much_is_still_offered_the_nearest_of_the_rest() -> None:
    few = RecommenderConfig(retrieval=RetrievalConfig(ann=2, similar=0, popular=0, recent=0))
    slate = ask(None, *[f"c{number}" for number in range(8)], config=few, limit=2)
    assert sorted(ids(slate)) == ["c8", "c9"]


# filter


def one_item(**fields: Any) -> LoadedRelease:
    return in_memory_release([CatalogItem("it", **fields)], np.ones((1, 4), np.float32), query_encoder=MeanOfHistory(4))


def test_availability_is_from_the_first_moment_on_and_before_the_last() -> None:
    begins_now, ends_now = one_item(available_from=NOW), one_item(available_until=NOW)
    assert ids(ask(view_of(begins_now))) == ["it"]
    assert ids(ask(view_of(ends_now))) == []
    # each of these milliseconds is one that a float would round down
    for millisecond in range(0, 1000, 7):
        moment = datetime(2004, 2, 29, 12, 0, 0, millisecond * 1000, tzinfo=UTC)
        exactly = Query("request", moment)
        begins = recommend(exactly, view_of(one_item(available_from=moment)), FlakyStore(), BY_VALUE)
        assert len(begins.items) == 1, millisecond


def test_all_items_filtered_gives_an_empty_slate_that_is_not_degraded() -> None:
    slate = ask(None, exclude_item_ids=release().vocabulary.item_ids)
    assert (slate.items, slate.degraded) == ((), ())


def test_an_empty_catalogue_gives_an_empty_slate() -> None:
    slate = ask(view_of(release(families=())), "a1", user_id="ann")
    assert (slate.items, slate.missing_ids, slate.degraded) == ((), ("a1",), ())


def test_newcomers_alone_fill_a_slate_when_the_release_is_empty() -> None:
    catalog = view_of(release(families=()), [gamma(f"new {number}") for number in range(80)])
    assert len(ask(catalog, limit=70).items) == 70  # more than the quota of newcomers


def test_more_than_the_catalogue_is_all_of_it_once() -> None:
    assert sorted(ids(ask(limit=500))) == sorted(release().vocabulary.item_ids)


def test_a_slate_is_topped_up_with_the_most_popular_of_the_rest() -> None:
    nothing_found = RecommenderConfig(
        retrieval=RetrievalConfig(ann=0, similar=0, recent=0, popular=0, max_seen_overshoot=0),
        rerank=RerankConfig(diversity=0),
    )
    slate = ask(None, exclude_item_ids=("a1",), config=nothing_found, limit=3)
    assert ids(slate) == ["a0", "a2", "a3"]
    assert {item.source for item in slate.items} == {"popular"}


def test_seen_items_may_return_where_the_configuration_says_so() -> None:
    again = RecommenderConfig(filter=FilterConfig(exclude_seen=False))
    assert "c1" in ids(ask(None, "c1", config=again, limit=5))


# rank and choose


def test_the_value_is_the_formula_of_the_release() -> None:
    blend = Blend(similarity_weight=2, transition_weight=3, popularity_weight=0.5, transition_unit=0.1)
    items = [CatalogItem(f"i{number}") for number in range(3)]
    vectors = np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32)
    world = in_memory_release(
        items,
        vectors,
        counts=[0, 7, 0],
        neighbours=neighbours_of([[(1, 0.4)], [], []]),
        blend=blend,
        query_encoder=MeanOfHistory(2),
    )
    slate = ask(view_of(world), "i0", explain=True)
    assert ids(slate) == ["i1", "i2"]
    expected = 2 * 0.6 + 3 * math.log(1 + 0.4 / 0.1) + 0.5 * math.log(1 + 7)
    assert slate.items[0].value == pytest.approx(expected, abs=1e-5)
    assert slate.items[0].parts["transition"] == pytest.approx(3 * math.log(5), abs=1e-5)  # no id vectors: coarser
    assert slate.degraded == ("explain",)
    assert slate.items[1].value == 0


def test_diversity_lets_another_family_in_sooner() -> None:
    def families_of(slate: Slate) -> str:
        return "".join(item_id[0] for item_id in ids(slate))

    diverse = RecommenderConfig(rerank=RerankConfig(diversity=0.9))
    assert families_of(ask(None, "c1", config=BY_VALUE, limit=5)) == "ccccc"
    assert set(families_of(ask(None, "c1", config=diverse, limit=5))) == {"a", "b", "c"}


# expose


def test_nothing_is_logged_where_the_configuration_says_so() -> None:
    store = FlakyStore()
    quiet = RecommenderConfig(log_exposures=False)
    ask(store=store, config=quiet, session_id="s")
    assert list(store.exposures()) == []
    ask(store=store, session_id="s")
    assert [exposure.session_id for _, exposure in store.exposures()] == ["s"]


def test_parts_come_only_when_asked_for() -> None:
    assert all(not item.parts for item in ask(None, "c1").items)


def test_stages_leave_their_input_as_it_was() -> None:
    catalog, store = view_of(release(), [gamma()]), FlakyStore()
    store.import_histories([("ann", [HistoryItem("c1", "view", 1, 1)])])
    arrays: Sequence[NDArray[Any]] = (
        catalog.release.item_vectors, catalog.release.popular_rows, catalog.hidden, catalog.newcomers.vectors,
        catalog.item_hashes, store.user_state("ann").seen,
    )  # fmt: skip
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.flags.writeable = False
    ask(catalog, "c2", store=store, user_id="ann", explain=True, limit=31)
    assert all(np.array_equal(now, then) for now, then in zip(arrays, before, strict=True))


@pytest.mark.parametrize("n_matching", [3, 40])
def test_a_slate_under_a_filter_is_topped_up_with_all_that_match_newcomers_last(n_matching: int) -> None:
    kinds = ["wanted" if number < n_matching else "other" for number in range(200)]
    many = in_memory_release(
        [CatalogItem(f"i{number}", categories=(kind,)) for number, kind in enumerate(kinds)],
        np.zeros((200, 2), np.float32),
        counts=[number % 7 for number in range(200)],
    )
    live = [LiveItem(f"new {number}", {"categories": ["wanted"]}, {}, {}) for number in range(3)]
    nothing_found = RecommenderConfig(
        retrieval=RetrievalConfig(ann=0, similar=0, category=0, trending=0, recent=0, popular=0),
        rerank=RerankConfig(diversity=0),
    )
    slate = ask(view_of(many, live), config=nothing_found, limit=500, filter='categories has "wanted"')
    released = [f"i{number}" for number in sorted(range(n_matching), key=lambda number: (-(number % 7), number))]
    topped_up = [item_id for item_id in ids(slate) if not item_id.startswith("new")]
    assert topped_up == released
    assert {item_id for item_id in ids(slate) if item_id.startswith("new")} == {"new 0", "new 1", "new 2"}


class NoState(UserState):
    """As a store answers whose value was written by another program: the version can be read, the rest cannot."""

    def unpack(self) -> UserState:
        raise StoreUnavailable("a user's state in the store cannot be read")


def test_a_state_that_cannot_be_read_counts_as_unknown() -> None:
    class Unreadable(FlakyStore):
        def user_state(self, user_id: str, with_served: bool = False) -> UserState:
            return NoState(version=7)

    slate = ask(None, "c1", store=Unreadable(), user_id="ann", limit=5)
    assert slate.degraded == ("hydrate", "filter")
    assert len(slate.items) == 5
