from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from embeddings.tagging.heads import Threshold
from embeddings.tagging.review import REVIEW_SCHEMA, select
from tests.embeddings.tagging.tag_rows import NOON
from tests.worlds.labelling import LabellingWorld

HALF = Threshold(yes=0.5, unsure=0.25)
Rows = NDArray[np.int64]


def chosen(confidences: Any, n: int, *, thresholds: dict[str, Threshold] | None = None, **other: Any) -> pa.Table:
    columns = np.asarray(confidences, np.float32)
    ids = [f"i{row}" for row in range(len(columns))]
    tags = thresholds or {f"t{at}": HALF for at in range(columns.shape[1])}
    given = {"value": np.zeros(len(ids)), "vectors": None, "seed": 0, "now": NOON, "random_share": 0.0, **other}
    return select(ids, columns, tags, n=n, **given)


def pairs(table: pa.Table) -> list[tuple[str, str]]:
    return list(zip(table["item_id"].to_pylist(), table["tag"].to_pylist(), strict=True))


def test_what_lies_nearest_to_its_tag_s_threshold_comes_first() -> None:
    found = chosen([[0.05], [0.99], [0.45], [0.52]], 2)
    assert [item for item, _ in pairs(found)] == ["i3", "i2"]
    high = chosen([[0.5], [0.85], [0.99]], 1, thresholds={"t": Threshold(yes=0.9, unsure=0.5)})
    assert pairs(high) == [("i1", "t")]
    assert "0.05 below its threshold of 0.90" in high["why"][0].as_py()


def test_of_two_equally_doubtful_items_the_popular_one_comes_first() -> None:
    found = chosen([[0.4], [0.4], [0.4]], 1, value=np.array([3, 5000, 20]))
    assert pairs(found) == [("i1", "t0")]
    assert "seen 5,000 times" in found["why"][0].as_py()


def test_heads_that_disagree_make_a_sure_one_doubtful() -> None:
    others = [np.array([[0.94], [0.05], [np.nan]], np.float32)]
    found = chosen([[0.95], [0.95], [0.95]], 1, others=others)
    assert pairs(found) == [("i1", "t0")]
    assert "heads differ by 0.90" in found["why"][0].as_py()


def test_a_batch_is_not_many_copies_of_one_picture() -> None:
    vectors = np.repeat(np.eye(4, dtype=np.float32), 10, axis=0)
    confidences = np.array([[0.5]] * 10 + [[0.45]] * 10 + [[0.4]] * 10 + [[0.35]] * 10)
    found = chosen(confidences, 4, vectors=vectors)
    assert sorted(int(item[1:]) // 10 for item, _ in pairs(found)) == [0, 1, 2, 3]


def test_copies_are_chosen_where_there_is_nothing_else() -> None:
    found = chosen(np.full((5, 1), 0.5), 5, vectors=np.tile(np.float32([[1, 0]]), (5, 1)))
    assert len(set(pairs(found))) == 5


def test_each_tag_gets_the_same_share_and_what_one_lacks_goes_to_the_others() -> None:
    confidences = np.full((30, 3), 0.5)
    assert Counter(tag for _, tag in pairs(chosen(confidences, 12))) == {"t0": 4, "t1": 4, "t2": 4}
    known = np.zeros((30, 3), np.bool_)
    known[1:, 0] = True
    assert Counter(tag for _, tag in pairs(chosen(confidences, 12, known=known))) == {"t0": 1, "t1": 6, "t2": 5}


def test_nobody_is_asked_what_people_decided_or_what_no_head_looked_at() -> None:
    confidences = np.array([[0.5, 0.5], [np.nan, np.nan], [0.5, 0.5]])
    known = np.array([[True, False], [False, False], [False, False]])
    found = pairs(chosen(confidences, 100, known=known, random_share=0.5))
    assert sorted(found) == [("i0", "t1"), ("i2", "t0"), ("i2", "t1")]


def test_the_same_seed_gives_the_same_rows_and_no_pair_is_asked_twice() -> None:
    confidences = np.random.default_rng(0).random((50, 4))
    one, again, other = (chosen(confidences, 40, random_share=0.5, seed=seed) for seed in (1, 1, 2))
    assert one.schema == REVIEW_SCHEMA
    assert one.equals(again)
    assert not one.equals(other)
    assert len(set(pairs(one))) == 40


def test_weighed_by_propensity_the_labels_count_the_tags_of_the_whole_pool() -> None:
    rng = np.random.default_rng(0)
    confidences = rng.random((60, 2)).astype(np.float32)
    truth = rng.random((60, 2)) < confidences

    def estimate(seed: int) -> float:
        found = chosen(confidences, 40, seed=seed, random_share=0.5)
        said = [truth[int(item[1:]), int(tag[1:])] for item, tag in pairs(found)]
        return float(np.sum(np.array(said) / found["propensity"].to_numpy()))

    estimates = np.array([estimate(seed) for seed in range(400)])
    error = estimates.std() / np.sqrt(len(estimates))
    assert abs(estimates.mean() - truth.sum()) < 4 * error


def test_an_empty_pool_asks_nothing() -> None:
    assert len(chosen(np.full((3, 2), np.nan), 10, random_share=0.5)) == 0


def _labels_until(world: LabellingWorld, target_f1: float, choose: Callable[[NDArray[Any], Rows], Rows]) -> int:
    labelled = np.random.default_rng(0).permutation(world.n_pool)[:50]
    while len(labelled) < 1500:
        confidences = world.confidences(labelled)
        if world.f1(confidences) >= target_f1:
            break
        labelled = np.concatenate([labelled, choose(confidences, labelled)])
    return len(labelled)


@pytest.mark.parametrize("seed", range(3))
def test_active_learning_reaches_an_accuracy_with_far_fewer_labels_than_chance(seed: int) -> None:
    world, n = LabellingWorld.make(seed), 25

    def at_random(confidences: NDArray[Any], labelled: Rows) -> Rows:
        left = np.setdiff1d(np.arange(world.n_pool), labelled)
        return np.random.default_rng(len(labelled)).permutation(left)[:n]

    def by_doubt(confidences: NDArray[Any], labelled: Rows) -> Rows:
        known = np.zeros((world.n_pool, 1), np.bool_)
        known[labelled] = True
        pool = slice(0, world.n_pool)
        found = chosen(confidences[pool, None], n, vectors=world.vectors[pool], known=known, random_share=0.1)
        return np.array([int(item[1:]) for item, _ in pairs(found)])

    assert 1.6 * _labels_until(world, 0.85, by_doubt) <= _labels_until(world, 0.85, at_random)
