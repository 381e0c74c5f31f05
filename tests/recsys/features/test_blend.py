import math

import numpy as np
import pytest

from recsys.features.blend import Blend, BlendBatch, BlendGrid, fit_blend
from recsys.ports import RankFeatures

NOTHING = (np.empty(0, np.int64), np.empty(0, np.int64))


def features(similarity, transition, log_popularity):
    return RankFeatures(*(np.array(each, np.float32) for each in (similarity, transition, log_popularity)))


def test_the_value_is_the_formula():
    blend = Blend(similarity_weight=2, transition_weight=3, popularity_weight=0.5, transition_unit=0.1)
    [value] = blend.value(features([1.5], [0.7], [4.0]))
    assert value == pytest.approx(2 * 1.5 + 3 * math.log(1 + 0.7 / 0.1) + 0.5 * 4.0, rel=1e-6)


def test_the_parts_add_up_to_the_value():
    given = features([1.5, -2.0], [0.7, 0.0], [4.0, 0.0])
    parts = Blend().parts(given)
    assert np.allclose(sum(parts.values()), Blend().value(given))


def test_a_candidate_s_value_does_not_depend_on_the_other_candidates():
    many = features([1.0, 5.0, -3.0], [0.0, 0.3, 9.0], [1.0, 2.0, 3.0])
    assert Blend().value(many)[1] == Blend().value(features([5.0], [0.3], [2.0]))[0]


def test_catalogue_scores_of_many_users_take_one_row_of_popularity():
    values = Blend().value(features([[1, 2], [3, 4]], [[0, 0], [0, 0]], [0, 1]))
    assert values.shape == (2, 2)
    assert values.dtype == np.float32


def test_the_signal_that_finds_the_targets_gets_the_weight():
    # Similarity prefers item 0 by 1.0; only transitions know the targets. log(1 + 0.01 / 0.01) = 0.69.
    similarity = np.tile([1.0, 0.0, 0.0], (4, 1))
    transition = np.tile([0.0, 0.01, 0.0], (4, 1))
    batch = BlendBatch(features(similarity, transition, [0, 0, 0]), np.full(4, 1), NOTHING)
    fitted = fit_blend([batch])
    assert fitted.blend.transition_weight == 1.5  # 0.69 x 1.5 > 1.0, and 0.69 x 1.0 is not
    assert fitted.ndcg_at_10 == 1.0
    assert fitted.tried[(0.0, 0.02)] == pytest.approx(1 / math.log2(1 + 3))  # tied with item 2, so third


def test_of_equally_good_weights_the_smallest_win():
    batch = BlendBatch(features([[2.0, 1.0]], [[0, 0]], [0, 0]), np.array([0]), NOTHING)
    blend = fit_blend([batch]).blend
    assert (blend.transition_weight, blend.popularity_weight) == (0.0, BlendGrid().popularity_weights[0])


def test_what_a_user_has_does_not_stand_in_the_target_s_way():
    given = features([[3.0, 1.0]], [[0, 0]], [0, 0])
    target, has = np.array([1]), (np.array([0, 0]), np.array([0, 1]))  # the target itself is never excluded
    assert fit_blend([BlendBatch(given, target, NOTHING)]).ndcg_at_10 == pytest.approx(1 / math.log2(3))
    assert fit_blend([BlendBatch(given, target, has)]).ndcg_at_10 == 1.0


def test_batches_are_averaged_over_targets():
    good = BlendBatch(features([[1.0, 0.0]], [[0, 0]], [0, 0]), np.array([0]), NOTHING)
    poor = BlendBatch(features([[0.0, 1.0]] * 2, [[0, 0]] * 2, [0, 0]), np.array([0, 0]), NOTHING)
    assert fit_blend([good, poor]).ndcg_at_10 == pytest.approx((1 + 2 / math.log2(3)) / 3)


def test_nothing_to_judge_by_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        fit_blend([])
