import subprocess
import sys

import pytest
from pydantic import ValidationError

from recsys.models.budget import MAX_PASSES, MAX_TOKENS, token_budget
from recsys.models.config import ModelConfig, TrainingConfig


def test_small_data_is_passed_over_a_fixed_number_of_times():
    assert token_budget(9_066, 98_662, 64) == MAX_PASSES * 98_662


def test_large_data_is_bounded_by_work_and_wider_towers_get_less():
    assert token_budget(50_000, 5_000_000, 64) == MAX_TOKENS
    assert token_budget(50_000, 5_000_000, 128) < MAX_TOKENS // 2


def test_huge_data_is_passed_over_once():
    assert token_budget(1_000_000, 500_000_000, 64) == 500_000_000


@pytest.mark.parametrize("n_items", [0, 1, 1_000_000])
def test_no_size_gives_an_impossible_budget(n_items):
    assert token_budget(n_items, 0, 64) == 1


def test_automatic_choices_follow_the_size_of_the_catalogue():
    training = TrainingConfig()
    assert (training.loss_for(1_000), training.loss_for(100_000)) == ("full_softmax", "sampled_softmax")
    assert (training.table_optimizer_for(1_000), training.table_optimizer_for(10**6)) == ("adam", "rowwise_adagrad")
    assert TrainingConfig(loss="full_softmax").loss_for(10**6) == "full_softmax"


def test_heads_must_divide_the_width():
    with pytest.raises(ValidationError, match="multiple of n_heads"):
        ModelConfig(dim=64, n_heads=3)


def test_the_configuration_loads_without_torch():
    code = "import sys; import recsys.models.config; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
