from __future__ import annotations

import numpy as np
import pytest

from recsys.errors import ArtifactError
from recsys.features.rank_features import COLUMNS, rank_feature_matrix, require_outputs, weighted_value
from recsys.ports import RankFeatures


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


FEATURES = RankFeatures(floats(1, 2), floats(3, 4), floats(5, 6), floats(0, 1))


def test_columns_come_in_the_order_of_their_names() -> None:
    matrix = rank_feature_matrix(FEATURES, ("is_new", "similarity", "log_popularity", "transition"))
    assert matrix.tolist() == [[0, 1, 5, 3], [1, 2, 6, 4]]
    assert (matrix.dtype, matrix.flags.c_contiguous) == (np.float32, True)
    assert rank_feature_matrix(FEATURES, ()).shape == (2, 0)


def test_in_training_nothing_is_new() -> None:
    training = RankFeatures(floats(1, 2), floats(3, 4), floats(5, 6))
    assert rank_feature_matrix(training, tuple(COLUMNS)).tolist() == [[1, 3, 5, 0, 0], [2, 4, 6, 0, 0]]


def test_a_column_that_there_is_not_is_refused() -> None:
    with pytest.raises(ArtifactError, match="reads age, and the columns are similarity, transition"):
        rank_feature_matrix(FEATURES, ("similarity", "age"))


def test_the_value_is_the_weighted_sum_of_the_probabilities() -> None:
    probabilities = {"p_click": floats(0.5, 0.25), "p_buy": floats(0.125, 0.5), "p_share": floats(1, 1)}
    value = weighted_value(probabilities, {"p_click": 1.0, "p_buy": 5.0})
    assert value.tolist() == [0.5 + 5 * 0.125, 0.25 + 5 * 0.5]
    assert value.dtype == np.float32
    assert weighted_value(probabilities, {}).tolist() == [1.625, 1.75]
    assert probabilities["p_click"].tolist() == [0.5, 0.25]


def test_a_weight_for_what_the_ranker_does_not_give_is_refused_with_what_it_gives() -> None:
    with pytest.raises(ArtifactError, match="weighs p_like, and the ranker gives p_click, p_buy"):
        require_outputs({"p_click": 1, "p_like": 2}, ("p_click", "p_buy"))
    with pytest.raises(ArtifactError, match="p_like"):
        weighted_value({"p_click": floats(1)}, {"p_like": 1})
