from __future__ import annotations

import json
from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.dataset import Sequences, Split
from recsys.evaluation import EvaluationConfig, compare, evaluate, evaluate_slates, make_split
from recsys.metrics.full_ranking import distinct_users, rank_targets
from recsys.metrics.ranking import MISS, NO_ITEM


def sequences_of(*histories: list[int], times: list[list[int]] | None = None) -> Sequences:
    items = np.array([item for history in histories for item in history], np.int64)
    return Sequences(
        user_ids=tuple(f"u{user}" for user in range(len(histories))),
        offsets=np.cumsum([0, *map(len, histories)]).astype(np.int64),
        item_rows=items,
        event_types=np.ones_like(items),
        occurred_at_ms=np.zeros_like(items) if times is None else np.concatenate(times).astype(np.int64),
    )


def split_of(histories: list[list[int]], targets: list[tuple[int, int]], train: list[list[int]] | None = None) -> Split:
    users, items = np.array(targets, np.int64).reshape(-1, 2).T
    return Split(sequences_of(*(train or histories)), sequences_of(*histories), users, items)


def fixed(lines):
    scores = np.array(lines, np.float32)
    return lambda users: scores[users]


QUICK = EvaluationConfig(n_bootstrap=50)


def value(evaluation, name):
    return evaluation.report.overall.measures[name].value


def test_each_target_is_ranked_among_all_items_but_the_history():
    # user 0 has items 3 and 4, user 1 has item 0; both score the items 4 > 3 > 2 > 1 > 0
    split = split_of([[3, 4], [0]], [(0, 1), (1, 1)])
    found = evaluate(fixed([[0, 1, 2, 3, 4]] * 2), split, 5, QUICK)
    assert found.ranks.tolist() == [2, 4]
    assert value(found, "ndcg@10") == pytest.approx((1 / log2(3) + 1 / log2(5)) / 2)
    assert value(found, "mrr@10") == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert value(found, "recall@10") == 1
    assert found.lists.tolist() == [[2, 1, 0, NO_ITEM, NO_ITEM], [4, 3, 2, 1, NO_ITEM]]


def test_a_target_that_the_user_already_has_is_still_ranked():
    split = split_of([[2, 4]], [(0, 2)])
    assert evaluate(fixed([[0, 1, 2, 3, 4]]), split, 5, QUICK).ranks.tolist() == [2]


def test_several_targets_of_one_user_are_each_ranked():
    split = split_of([[0], [4]], [(1, 3), (0, 4), (1, 0), (0, 1), (1, 2)])
    found = evaluate(fixed([[0, 1, 2, 3, 4]] * 2), split, 5, QUICK)
    assert found.ranks.tolist() == [1, 1, 4, 4, 2]
    assert len(found.lists) == 2
    assert (found.report.overall.n_targets, found.report.overall.n_users) == (5, 2)


@settings(deadline=None)
@given(st.data())
def test_batches_do_not_change_the_ranks(data):
    n_users, n_items = data.draw(st.integers(1, 8)), data.draw(st.integers(2, 9))
    rows = st.integers(0, n_items - 1)
    histories = [data.draw(st.lists(rows, min_size=1, max_size=5)) for _ in range(n_users)]
    targets = data.draw(st.lists(st.tuples(st.integers(0, n_users - 1), rows), min_size=1, max_size=12))
    lines = [data.draw(st.lists(st.integers(0, 3), min_size=n_items, max_size=n_items)) for _ in range(n_users)]
    split = split_of(histories, targets)
    expected = []
    for user, target in targets:
        others = [i for i in range(n_items) if i != target and i not in histories[user]]
        expected.append(1 + sum(lines[user][i] >= lines[user][target] for i in others))
    one_by_one = 4 * n_items
    for limit in (one_by_one, 3 * one_by_one, 2**20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("recsys.metrics.full_ranking.MAX_BATCH_BYTES", limit)
            assert rank_targets(fixed(lines), split, n_items)[0].tolist() == expected


def test_the_model_is_asked_once_for_each_user_in_bounded_batches(monkeypatch):
    monkeypatch.setattr("recsys.metrics.full_ranking.MAX_BATCH_BYTES", 4 * 5 * 2)
    asked: list[list[int]] = []

    def score_batch(users):
        asked.append(users.tolist())
        return np.zeros((len(users), 5), np.float32)

    evaluate(score_batch, split_of([[0]] * 5, [(4, 1), (0, 1), (2, 1), (4, 2), (3, 1)]), 5, QUICK)
    assert asked == [[0, 2], [3, 4]]


def test_cold_targets_are_those_that_training_never_saw():
    # item 3 is in the history (a validation item, say) but not in train: still cold
    split = split_of([[0, 3], [0], [1]], [(0, 1), (1, 3), (2, 2)], train=[[0], [0], [1]])
    report = evaluate(fixed([[0, 3, 2, 1]] * 3), split, 4, QUICK).report
    assert (report.warm.n_targets, report.cold.n_targets) == (1, 2)
    assert report.warm.measures["ndcg@10"].value == 1
    # user 1: items 1 and 2 before 3 (0 is seen) → rank 3; user 2: 2 first (1 is seen) → rank 1
    assert report.cold.measures["ndcg@10"].value == pytest.approx((1 / log2(4) + 1) / 2)


def test_a_kind_of_target_that_does_not_occur_has_no_measures():
    report = evaluate(fixed([[0, 1, 2]]), split_of([[0, 1, 2]], [(0, 1)]), 3, QUICK).report
    assert report.cold.as_json() == {"n_targets": 0, "n_users": 0}


def test_nothing_to_evaluate_is_a_report_without_measures():
    assert evaluate(fixed([[0, 1]]), split_of([[0]], []), 2, QUICK).report.overall.measures == {}


def test_lists_tell_coverage_popularity_and_novelty():
    # item 0 was chosen by both users, item 1 by one; both see the only items they lack
    split = split_of([[0, 0], [0, 1]], [(0, 2), (1, 2)])
    found = evaluate(fixed([[0, 1, 2]] * 2), split, 3, QUICK)
    assert found.lists.tolist() == [[2, 1, NO_ITEM], [2, NO_ITEM, NO_ITEM]]
    assert value(found, "coverage@10") == 2 / 3
    assert value(found, "popularity@10") == pytest.approx(((0 + 1 / 2) / 2 + 0) / 2)
    # item 2, never chosen, counts as half of item 1: 1/4
    assert value(found, "novelty@10") == pytest.approx(((log2(4) + log2(2)) / 2 + log2(4)) / 2)


def test_the_report_is_json_with_value_low_and_high():
    split = split_of([[0]] * 30, [(user, 1 + user % 3) for user in range(30)])
    report = json.loads(json.dumps(evaluate(fixed([[0, 3, 2, 1]] * 30), split, 4, QUICK).report.as_json()))
    ndcg = report["ndcg@10"]
    assert ndcg["low"] < ndcg["value"] < ndcg["high"]
    assert {"recall@10", "recall@20", "ndcg@20", "mrr@10", "mrr@20", "coverage@10", "warm", "cold"} <= report.keys()
    assert report["coverage@10"] == {"value": 3 / 4, "low": None, "high": None}
    assert report["cold"]["ndcg@10"] == ndcg


def test_scores_of_the_wrong_shape_are_refused():
    with pytest.raises(ValueError, match="score_batch gave shape"):
        evaluate(lambda users: np.zeros((len(users), 3), np.float32), split_of([[0]], [(0, 1)]), 4)


def test_nan_scores_rank_last_and_never_show():
    found = evaluate(fixed([[0, np.nan, 2]]), split_of([[2]], [(0, 1)]), 3, QUICK)
    assert found.ranks.tolist() == [2]
    assert found.lists.tolist() == [[0, NO_ITEM, NO_ITEM]]


def test_a_slate_without_the_target_is_a_miss_that_counts_zero():
    split = split_of([[0]] * 3, [(0, 7), (1, 7), (2, 7)])
    slates = [np.array([1, 7, 2]), np.array([1, 2]), np.array([], np.int64)]
    found = evaluate_slates(slates, split, 9, QUICK)
    assert found.ranks.tolist() == [2, MISS, MISS]
    assert value(found, "ndcg@10") == pytest.approx((1 / log2(3) + 0 + 0) / 3)


def test_slates_of_twenty_are_judged_at_ten_and_at_twenty():
    split = split_of([[0]], [(0, 12)])
    found = evaluate_slates([np.arange(1, 21)], split, 30, QUICK)
    assert (value(found, "ndcg@10"), value(found, "ndcg@20")) == pytest.approx((0, 1 / log2(13)))
    assert found.lists.tolist() == [list(range(1, 11))]


def test_slates_that_hold_a_model_s_own_order_are_judged_as_the_model_is():
    rng = np.random.default_rng(0)
    scores = rng.permuted(np.tile(np.arange(40, dtype=np.float32), (25, 1)), axis=1)
    split = split_of([[int(user)] for user in range(25)], [(user, 25 + user % 15) for user in range(25)])
    model = evaluate(fixed(scores), split, 40, QUICK)
    slates = evaluate_slates(list(model.lists), split, 40, QUICK)
    assert slates.values("ndcg@10").tolist() == model.values("ndcg@10").tolist()
    assert slates.report.overall.measures["coverage@10"] == model.report.overall.measures["coverage@10"]


def test_a_service_that_answers_with_nothing_scores_zero():
    empty = np.array([], np.int64)
    found = evaluate_slates([empty, empty], split_of([[0]] * 2, [(0, 1), (1, 1)]), 3, QUICK)
    assert (value(found, "ndcg@10"), value(found, "coverage@10")) == (0, 0)
    assert evaluate_slates([], split_of([[0]], []), 3, QUICK).report.overall.measures == {}


def test_one_slate_for_each_user_with_a_target():
    split = split_of([[0]] * 3, [(2, 1), (0, 1), (2, 2)])
    assert distinct_users(split).tolist() == [0, 2]
    assert evaluate_slates([np.array([1]), np.array([1, 2])], split, 3, QUICK).ranks.tolist() == [1, 1, 2]
    with pytest.raises(ValueError, match="one slate for each of the 2 users"):
        evaluate_slates([np.array([1])] * 3, split, 3)


def test_a_better_model_is_significantly_better_and_a_model_is_not_better_than_itself():
    split = split_of([[0]] * 50, [(user, 1 + user % 2) for user in range(50)])
    good = evaluate(fixed([[0, 5, 4, 3, 2]] * 50), split, 5)
    bad = evaluate(fixed([[0, 3, 2, 5, 4]] * 50), split, 5)
    difference = compare(good, bad)
    # ranks 1 and 2 against 3 and 4
    assert difference.value == pytest.approx(((1 - 1 / log2(4)) + (1 / log2(3) - 1 / log2(5))) / 2)
    assert difference.excludes_zero
    assert difference.low > 0
    assert not compare(good, good).excludes_zero


def test_evaluations_of_different_targets_cannot_be_compared():
    one = evaluate(fixed([[0, 1, 2]]), split_of([[0]], [(0, 1)]), 3, QUICK)
    other = evaluate(fixed([[0, 1, 2]]), split_of([[0]], [(0, 2)]), 3, QUICK)
    with pytest.raises(ValueError, match="on one split"):
        compare(one, other)
    with pytest.raises(ValueError, match="is not a measure"):
        compare(one, one, "precision@10")


def test_the_config_names_the_split():
    data = sequences_of([0, 1, 2, 3], [3, 2, 1, 0], times=[[1, 2, 3, 9], [4, 5, 6, 7]])
    assert make_split(data, EvaluationConfig()).target_items.tolist() == [3, 0]
    assert make_split(data, EvaluationConfig(), part="validation").target_items.tolist() == [2, 1]
    temporal = make_split(data, EvaluationConfig(split="temporal", temporal_quantile=0.8))
    assert (temporal.target_users.tolist(), temporal.target_items.tolist()) == ([0, 1], [3, 0])
