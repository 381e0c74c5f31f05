import numpy as np
import pytest
import torch

from recsys.dataset import Sequences
from recsys.models.batches import DataPosition, Profiles, TrainingBatches, padded
from recsys.models.config import ModelConfig
from tests.recsys.models.chain import (
    MODEL,
    N_ITEMS,
    TRAINING,
    chain_content,
    chain_profiles,
    chain_sequences,
)

START = DataPosition()


def batches(*, sequences=None, model=MODEL, training=TRAINING, profiles=None, **ranks):
    return TrainingBatches(sequences or chain_sequences(), chain_content(), profiles, model, training, **ranks)


def full(**changes):
    return TRAINING.model_copy(update={"loss": "full_softmax", "event_type_dropout": 0.0, **changes})


def epoch_of(source, epoch=0):
    return [source.batch(DataPosition(epoch=epoch, index=index)) for index in range(source.n_batches(epoch))]


def targets_of(batch):
    return batch.items.rows[batch.targets].numpy()


def test_an_epoch_predicts_every_interaction_exactly_once():
    sequences = chain_sequences()
    predicted = np.concatenate([targets_of(batch) for batch in epoch_of(batches())])
    assert np.array_equal(np.bincount(predicted), sequences.item_counts(N_ITEMS))


def test_each_query_has_seen_exactly_what_came_before_its_target():
    # In the chain the item before a target is always target - 1.
    batch = batches(training=full()).batch(START)
    width = batch.queries.history.shape[1] + 1
    for query, target in zip(batch.query_at.tolist(), targets_of(batch), strict=True):
        row, n_seen = divmod(query, width)
        if n_seen:
            assert batch.items.rows[batch.queries.history[row, n_seen - 1]] == (target - 1) % N_ITEMS


def test_no_batch_holds_more_than_its_tokens_with_padding():
    for batch in epoch_of(batches()):
        n, width = batch.queries.history.shape
        assert n * (width + 1) <= TRAINING.batch_tokens


def test_the_longest_history_that_is_served_is_trained_on_too():
    lengths = np.concatenate([batch.queries.lengths for epoch in range(8) for batch in epoch_of(batches(), epoch)])
    assert lengths.max() == MODEL.max_history


def test_windows_of_a_long_history_are_cut_anew_in_each_epoch():
    source = batches()
    lengths = [sorted(batch.queries.lengths.tolist() for batch in epoch_of(source, epoch)) for epoch in (0, 1)]
    assert lengths[0] != lengths[1]


def test_a_batch_depends_on_its_position_alone():
    source, other = batches(), batches()
    epoch_of(source)
    at = DataPosition(epoch=1, index=1)
    mine, theirs = source.batch(at), other.batch(at)
    for name in ("query_at", "targets", "weights", "candidates"):
        assert torch.equal(getattr(mine, name), getattr(theirs, name))
    assert torch.equal(mine.items.id_mask, theirs.items.id_mask)


def test_two_ranks_share_what_one_rank_sees():
    alone = batches(training=full()).batch(START)
    ranks = [batches(training=full(), rank=rank, n_ranks=2).batch(START) for rank in (0, 1)]
    assert sorted(targets_of(alone)) == sorted(np.concatenate([targets_of(batch) for batch in ranks]))
    # The mean of the ranks' sums is the mean over all queries.
    assert sum(batch.weights.sum().item() for batch in ranks) / 2 == pytest.approx(1, rel=1e-5)
    assert alone.weights.sum().item() == pytest.approx(1, rel=1e-5)


def test_a_rank_without_windows_gets_a_batch_of_no_weight():
    lone = chain_sequences()
    lone = Sequences(("a",), np.array([0, 5]), lone.item_rows[:5], lone.event_types[:5], lone.occurred_at_ms[:5])
    batch = batches(sequences=lone, rank=1, n_ranks=2).batch(START)
    assert len(batch.targets) > 0
    assert batch.weights.abs().sum() == 0


def test_negatives_come_in_proportion_to_the_power_of_their_counts_and_log_q_says_so():
    # Item 0 has 8 interactions, item 1 has 2: at power 0.5 the chances are sqrt(8) : sqrt(2) = 2 : 1.
    rows = np.array([0] * 8 + [1] * 2)
    ones = np.ones(10, np.int64)
    sequences = Sequences(("a", "b"), np.array([0, 5, 10]), rows, ones, ones)
    training = TRAINING.model_copy(update={"loss": "sampled_softmax", "n_negatives": 3000, "negative_power": 0.5})
    batch = batches(sequences=sequences, training=training).batch(START)
    drawn = batch.items.rows[batch.candidates].numpy()
    assert set(drawn) == {0, 1}
    assert np.mean(drawn == 0) == pytest.approx(2 / 3, abs=0.03)
    assert np.allclose(np.exp(batch.log_expected_count.numpy()[drawn == 0]), 3000 * 2 / 3)


def test_the_full_softmax_ranges_over_items_that_were_trained_on_alone():
    sequences = chain_sequences().take(chain_sequences().item_rows != 7)
    batch = batches(sequences=sequences, training=full()).batch(START)
    assert 7 not in batch.items.rows
    assert len(batch.items.rows) == N_ITEMS - 1


def test_id_dropout_hides_about_its_share_of_items():
    model = ModelConfig(**{**MODEL.model_dump(), "id_dropout": 0.5})
    masks = [batch.items.id_mask.numpy() for batch in epoch_of(batches(model=model, training=full()))]
    assert np.concatenate(masks).mean() == pytest.approx(0.5, abs=0.1)


def test_without_order_a_part_of_a_window_predicts_the_rest_from_the_start_token():
    model = MODEL.model_copy(update={"ordered": False})
    batch = batches(sequences=chain_sequences(ordered=False), model=model, training=full()).batch(START)
    width = batch.queries.history.shape[1] + 1
    assert not (batch.query_at % width).any()
    for row, length in enumerate(batch.queries.lengths.tolist()):
        given = set(batch.items.rows[batch.queries.history[row, :length]].tolist())
        wanted = set(targets_of(batch)[(batch.query_at // width == row).numpy()].tolist())
        assert wanted
        assert not given & wanted
    assert batch.weights.sum().item() == pytest.approx(1, rel=1e-5)


def test_profiles_are_matched_by_user_id_and_masked_for_the_others():
    profiles = Profiles.of(chain_profiles(), chain_sequences().user_ids)
    vectors, known = profiles.inputs(np.array([0, 1, 2]))
    assert known.tolist() == [True, False, True]
    assert np.array_equal(vectors[2], chain_profiles().text.vectors[1])
    assert not vectors[1].any()


def test_padding_is_on_the_right_and_an_empty_slice_has_length_nought():
    sequences = chain_sequences()
    rows, types, lengths = padded(sequences, np.array([0, 10, 20]), np.array([3, 10, 21]))
    assert rows.tolist() == [[0, 1, 2], [0, 0, 0], [2, 0, 0]]
    assert types.tolist() == [[1, 2, 1], [0, 0, 0], [1, 0, 0]]
    assert lengths.tolist() == [3, 0, 1]
