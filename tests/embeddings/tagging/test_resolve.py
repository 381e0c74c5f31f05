from __future__ import annotations

import json
from datetime import timedelta
from itertools import product
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embeddings.tagging.resolve import HeadRun, resolve
from recsys.tags import TAGS_SCHEMA, ItemTags
from tests.embeddings.tagging.tag_rows import ANIMALS, NOON, person, run, said, tags_table

ITEMS = ("a", "b", "c")
TAGS = (*ANIMALS.ids, "unlisted")


def of_one(models: list[dict[str, Any]], people: list[dict[str, Any]] = [], **judged: str) -> ItemTags:  # noqa: B006
    return resolve(["a"], [run(models, judged or {"a": "judged"}, TAGS)], tags_table(people), ANIMALS)


def test_a_person_s_no_wins_over_the_surest_model() -> None:
    found = of_one([said("a", "beach", "yes", 0.99, at=NOON + timedelta(days=9))], [person("a", "beach", "no")])
    assert found.tags == ((),)
    assert found.details.select(["tag", "verdict", "by"]).to_pylist() == [
        {"tag": "beach", "verdict": "no", "by": "human"}
    ]


def test_the_later_word_of_people_counts_and_of_two_at_one_time_the_later_row() -> None:
    words = [person("a", "beach", "no", after_s=5), person("a", "beach", "yes", after_s=1)]
    assert of_one([], words).tags == ((),)
    assert of_one([], [person("a", "beach", "no"), person("a", "beach", "yes")]).tags == (("beach",),)


def test_yes_of_any_head_counts_and_the_largest_confidence_is_told() -> None:
    runs = [
        run([said("a", "beach", "yes", 0.7, head="image")], {"a": "judged"}, ("beach",)),
        run([said("a", "beach", "yes", 0.8, head="audio")], {"a": "judged"}, ("beach",)),
        run([said("a", "beach", "unsure", 0.4, head="text")], {"a": "judged"}, ("beach",)),
    ]
    found = resolve(["a"], runs, None, ANIMALS)
    assert (found.tags, found.unsure) == ((("beach",),), ((),))
    assert found.details["head"].to_pylist() == ["audio"]


def test_nobody_can_tell_what_no_head_could_look_at() -> None:
    blind = run([], {"a": "refused", "b": "refused", "c": "absent"}, ("beach", "dog"))
    seeing = run([], {"a": "judged", "b": "absent", "c": "judged"}, ("beach",))
    found = resolve(["a", "b", "c"], [blind, seeing], None, ANIMALS)
    assert [set(each) for each in found.unsure] == [{"dog", "animal"}, {"beach", "dog", "animal"}, set()]
    assert len(found.details) == 0


@pytest.mark.parametrize(
    ("reads", "is_settled"),
    [({"image"}, True), ({"image", "text"}, True), ({"audio"}, False), ({"text"}, False)],
)
def test_only_a_head_that_judged_by_such_content_speaks_for_one_that_could_not(
    reads: set[str], is_settled: bool
) -> None:
    """Who heard the sound, or read the title, knows nothing of a picture that cannot be read."""
    blind = run([], {"a": "refused"}, ("beach",), frozenset({"image"}))
    seeing = run([], {"a": "judged"}, ("beach",), frozenset(reads))
    assert resolve(["a"], [blind, seeing], None, ANIMALS).unsure == (() if is_settled else ("beach",),)


def test_a_person_s_words_settle_what_no_head_could_look_at() -> None:
    people = [person("a", "beach", "no"), person("a", "dog", "yes")]
    found = of_one([], people, a="refused")
    assert set(found.tags[0]) == {"dog", "animal"}
    assert set(found.unsure[0]) == {"puppy", "unlisted"}


def test_the_surest_of_a_group_stays_and_what_contradicts_a_surer_one_goes() -> None:
    assert of_one([said("a", "dog", "yes", 0.7), said("a", "cat", "yes", 0.8)]).tags == (("animal", "cat"),)
    assert of_one([said("a", "dog", "yes", 0.7), said("a", "vehicle", "yes", 0.8)]).tags == (("vehicle",),)


def test_of_what_loses_in_its_group_a_doubt_remains_where_another_head_is_unsure() -> None:
    runs = [
        run([said("a", "dog", "yes", 0.7), said("a", "cat", "yes", 0.8)], {"a": "judged"}, TAGS),
        run([said("a", "dog", "unsure", 0.3, head="audio")], {"a": "judged"}, TAGS),
    ]
    found = resolve(["a"], runs, None, ANIMALS)
    assert (found.tags, found.unsure) == ((("animal", "cat"),), (("dog",),))


def test_a_person_s_yes_takes_the_others_of_the_group_away() -> None:
    models = [said("a", "dog", "yes", 0.9), said("a", "puppy", "yes", 0.9), said("a", "vehicle", "unsure", 0.4)]
    found = of_one(models, [person("a", "cat", "yes")])
    assert (found.tags, found.unsure) == ((("animal", "cat"),), ((),))


def test_a_tag_implies_those_above_it_as_surely_as_its_surest_child() -> None:
    found = of_one([said("a", "puppy", "yes", 0.6), said("a", "animal", "yes", 0.5)])
    assert found.tags == (("animal", "dog", "puppy"),)
    told = {row["tag"]: row for row in found.details.to_pylist()}
    assert {round(row["confidence"], 6) for row in told.values()} == {0.6}
    assert json.loads(told["dog"]["evidence"]) == {"implied_by": "puppy"}
    assert told["puppy"]["evidence"] is None


def test_a_doubt_about_a_tag_is_one_about_those_above_it() -> None:
    assert of_one([said("a", "puppy", "unsure", 0.3), said("a", "dog", "yes", 0.9)]).unsure == (("puppy",),)
    assert set(of_one([said("a", "puppy", "unsure", 0.3)]).unsure[0]) == {"puppy", "dog", "animal"}


def test_a_person_s_no_to_a_tag_takes_models_word_on_those_below_it_away() -> None:
    models = [said("a", "puppy", "yes", 0.9), said("a", "dog", "unsure", 0.4), said("a", "beach", "yes", 0.8)]
    found = of_one(models, [person("a", "animal", "no")])
    assert (found.tags, found.unsure) == ((("beach",),), ((),))


def test_people_who_contradict_the_taxonomy_are_both_believed() -> None:
    found = of_one([], [person("a", "animal", "no"), person("a", "puppy", "yes")])
    assert found.tags == (("dog", "puppy"),)


def test_tags_that_the_taxonomy_lacks_are_plain_and_rows_of_other_items_are_left_out() -> None:
    found = of_one([said("a", "unlisted", "yes", 0.9), said("gone", "dog", "yes", 0.9)])
    assert found.tags == (("unlisted",),)


def test_nothing_said_of_nothing_is_nothing() -> None:
    found = resolve([], [], None, ANIMALS)
    assert (found.tags, found.unsure, len(found.details)) == ((), (), 0)
    assert found.details.schema == TAGS_SCHEMA


confidence = st.sampled_from([0.25, 0.5, 0.75, 0.75000006, 1.0])
model_row = st.builds(
    lambda item, tag, verdict, sure, version, day: said(
        item, tag, verdict, sure, version=version, at=NOON + timedelta(days=day)
    ),
    st.sampled_from(ITEMS),
    st.sampled_from(TAGS),
    st.sampled_from(["yes", "unsure"]),
    confidence,
    st.sampled_from(["v1", "v2"]),
    st.integers(0, 1),
)
head_run = st.builds(
    run,
    st.lists(model_row, max_size=8),
    st.fixed_dictionaries({item: st.sampled_from(["judged", "absent", "refused"]) for item in ITEMS}),
    st.lists(st.sampled_from(TAGS), unique=True).map(tuple),
)
runs_of_heads = st.lists(head_run, max_size=3)
words = st.lists(
    st.builds(person, st.sampled_from(ITEMS), st.sampled_from(TAGS), st.sampled_from(["yes", "no"]), st.integers(0, 2)),
    max_size=6,
)


def last_words(people: list[dict[str, Any]]) -> dict[tuple[str, str], str]:
    return {(row["item_id"], row["tag"]): row["verdict"] for row in sorted(people, key=lambda row: row["at"])}


@settings(max_examples=150, deadline=None)
@given(runs_of_heads, words)
def test_no_models_rows_ever_overwrite_a_person_s_word(runs: list[HeadRun], people: list[dict[str, Any]]) -> None:
    found = resolve(ITEMS, runs, tags_table(people), ANIMALS)
    for (item, tag), verdict in last_words(people).items():
        row = ITEMS.index(item)
        assert (tag in found.tags[row]) == (verdict == "yes")
        assert tag not in found.unsure[row]


@settings(max_examples=150, deadline=None)
@given(runs_of_heads, words)
def test_of_a_group_an_item_has_one_tag_unless_people_say_so(runs: list[HeadRun], people: list[dict[str, Any]]) -> None:
    found = resolve(ITEMS, runs, tags_table(people), ANIMALS)
    said_by_people = resolve(ITEMS, [], tags_table(people), ANIMALS)
    for row, members in product(range(len(ITEMS)), ANIMALS.groups.values()):
        here = set(found.tags[row]) & set(members)
        of_people = set(said_by_people.tags[row]) & set(members)
        assert len(here) <= 1 or here == of_people
        assert of_people <= here


@settings(max_examples=150, deadline=None)
@given(runs_of_heads, words)
def test_those_above_a_tag_are_there_unless_a_person_said_no(runs: list[HeadRun], people: list[dict[str, Any]]) -> None:
    found = resolve(ITEMS, runs, tags_table(people), ANIMALS)
    said_no = {key for key, verdict in last_words(people).items() if verdict == "no"}
    for item, tags in zip(ITEMS, found.tags, strict=True):
        for tag in set(tags) & set(ANIMALS.ids):
            assert {above for above in ANIMALS.ancestors(tag) if (item, above) not in said_no} <= set(tags)


@settings(max_examples=150, deadline=None)
@given(runs_of_heads, words, st.randoms(use_true_random=False))
def test_the_order_of_heads_and_of_their_rows_does_not_matter(
    runs: list[HeadRun], people: list[dict[str, Any]], random: Any
) -> None:
    shuffled = [
        HeadRun(_shuffled(each.tags, random), _shuffled(each.judged, random), each.covers, each.reads) for each in runs
    ]
    random.shuffle(shuffled)
    one, other = (resolve(ITEMS, each, tags_table(people), ANIMALS) for each in (runs, shuffled))
    assert (one.tags, one.unsure) == (other.tags, other.unsure)
    assert one.details.equals(other.details)


@settings(max_examples=150, deadline=None)
@given(runs_of_heads, words)
def test_what_an_item_has_is_never_unsure_and_each_tag_is_told_once(
    runs: list[HeadRun], people: list[dict[str, Any]]
) -> None:
    found = resolve(ITEMS, runs, tags_table(people), ANIMALS)
    rows = found.details.select(["item_id", "tag", "verdict"]).to_pylist()
    told = {(row["item_id"], row["tag"]): row["verdict"] for row in rows}
    assert len(told) == len(rows)
    assert list(told) == sorted(told)
    for item, tags, unsure in zip(ITEMS, found.tags, found.unsure, strict=True):
        assert not set(tags) & set(unsure)
        assert len(set(tags)) == len(tags)
        assert len(set(unsure)) == len(unsure)
        assert {tag for of, tag in told if of == item and told[of, tag] == "yes"} == set(tags)
        assert {tag for of, tag in told if of == item and told[of, tag] == "unsure"} <= set(unsure)


def _shuffled(table: pa.Table, random: Any) -> pa.Table:
    order = list(range(len(table)))
    random.shuffle(order)
    return table.take(pa.array(order, pa.int64()))


@pytest.mark.parametrize("verdict", ["yes", "unsure"])
def test_an_item_without_rows_of_a_head_is_neither(verdict: str) -> None:
    found = resolve(["a", "new"], [run([said("a", "beach", verdict, 0.9)], {"a": "judged"}, TAGS)], None, ANIMALS)
    assert (found.tags[1], found.unsure[1]) == ((), ())
