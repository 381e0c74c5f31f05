import numpy as np
import pytest
import torch

from recsys.dataset import Modality
from recsys.models.batches import DataPosition, TrainingBatches
from recsys.models.item_tower import ItemTower
from recsys.models.query_tower import QueryTower
from recsys.models.two_tower import ModalitySpec, TwoTower, TwoTowerSpec
from tests.recsys.models.chain import MODEL, N_ITEMS, TRAINING, chain_content, chain_sequences, unit_vectors

DIM = MODEL.dim


def query_tower(*, ordered=True, user_text_dim=0, n_blocks=2):
    torch.manual_seed(0)
    model = MODEL.model_copy(update={"ordered": ordered, "n_blocks": n_blocks})
    tower = QueryTower(model, 3, user_text_dim).eval()
    torch.nn.init.normal_(tower.event_types, std=0.5)
    return tower


def history(n, t, seed=0):
    vectors = torch.from_numpy(unit_vectors(n * t, DIM, seed)).view(n, t, DIM)
    return vectors, torch.ones(n, t, dtype=torch.int64)


def item_tower():
    torch.manual_seed(0)
    return ItemTower(DIM, {"image": 6, "text": 5}, 2).eval()


def contents(n):
    torch.manual_seed(1)
    return [(torch.randn(n, 6), torch.ones(n, dtype=torch.bool)), (torch.randn(n, 5), torch.ones(n, dtype=torch.bool))]


def test_item_vectors_have_length_one_whatever_is_missing():
    nothing = [(vectors, torch.zeros(3, dtype=torch.bool)) for vectors, _ in contents(3)]
    vectors = item_tower()(torch.randn(3, DIM), torch.tensor([True, False, False]), nothing, torch.zeros(3, 2))
    assert vectors.norm(dim=1).tolist() == pytest.approx([1, 1, 1], rel=1e-5)


def test_what_is_masked_has_no_say():
    tower, masked = item_tower(), torch.zeros(2, dtype=torch.bool)
    ids, other_ids = torch.randn(2, DIM), torch.randn(2, DIM)
    [image, text] = contents(2)
    one = tower(ids, masked, [(image[0], masked), text], torch.zeros(2, 2))
    other = tower(other_ids, masked, [(image[0] * 7, masked), text], torch.zeros(2, 2))
    assert torch.equal(one, other)


def test_the_query_of_a_whole_history_is_its_last_state():
    for ordered in (True, False):
        tower = query_tower(ordered=ordered)
        vectors, types = history(4, 6)
        lengths = torch.tensor([6, 3, 1, 0])
        states = tower.states(vectors, types, lengths)
        at = lengths if ordered else torch.zeros_like(lengths)
        torch.testing.assert_close(tower(vectors, types, lengths), states[torch.arange(4), at])


def test_padding_changes_nothing():
    for ordered in (True, False):
        tower = query_tower(ordered=ordered)
        vectors, types = history(1, 7)
        lengths = torch.tensor([4])
        torch.testing.assert_close(tower(vectors, types, lengths), tower(vectors[:, :4], types[:, :4], lengths))


def test_a_state_does_not_see_what_comes_later():
    tower = query_tower()
    vectors, types = history(1, 6)
    changed = vectors.clone()
    changed[0, 3:] = -changed[0, 3:]
    lengths = torch.tensor([6])
    before, after = tower.states(vectors, types, lengths), tower.states(changed, types, lengths)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert (before[:, 4:] - after[:, 4:]).abs().max() > 1e-3


def test_with_order_the_order_counts_and_without_it_does_not():
    vectors, types = history(1, 6)
    turned, lengths = vectors.flip(1), torch.tensor([6])
    ordered, unordered = query_tower(), query_tower(ordered=False)
    assert (ordered(vectors, types, lengths) - ordered(turned, types, lengths)).abs().max() > 1e-3
    torch.testing.assert_close(unordered(vectors, types, lengths), unordered(turned, types, lengths))


def test_the_type_of_an_event_counts():
    tower = query_tower()
    vectors, types = history(1, 3)
    assert (tower(vectors, types, torch.tensor([3])) - tower(vectors, types + 1, torch.tensor([3]))).abs().max() > 1e-4


def test_a_profile_speaks_for_a_user_without_events_and_an_absent_one_is_silent():
    tower = query_tower(user_text_dim=5)
    vectors, types = history(3, 1)
    text = torch.tensor(unit_vectors(3, 5, 3))
    nobody = torch.zeros(3, dtype=torch.int64)
    queries = tower(vectors, types, nobody, text, torch.tensor([True, True, True]))
    assert (queries[0] - queries[1]).abs().max() > 1e-3
    silent = tower(vectors, types, nobody, text, torch.tensor([False, False, False]))
    torch.testing.assert_close(silent[0], silent[1])


def test_before_training_a_query_of_one_item_is_nearest_to_that_item():
    tower = query_tower()
    vectors = torch.from_numpy(unit_vectors(N_ITEMS, DIM, 5))
    queries = tower(vectors[:, None], torch.ones(N_ITEMS, 1, dtype=torch.int64), torch.ones(N_ITEMS, dtype=torch.int64))
    assert torch.equal((queries @ vectors.T).argmax(dim=1), torch.arange(N_ITEMS))
    assert queries.norm(dim=1).tolist() == pytest.approx([MODEL.temperature] * N_ITEMS, rel=1e-4)


def test_the_training_loss_of_both_towers_is_the_brute_force_softmax():
    spec = TwoTowerSpec(
        model=MODEL.model_copy(update={"dropout": 0.0, "id_dropout": 0.0}),
        n_items=N_ITEMS,
        vocabulary_checksum="",
        modalities=(ModalitySpec(name="image", space_id="i", dim=6), ModalitySpec(name="text", space_id="t", dim=5)),
        category_names=("even", "odd"),
        event_type_names=("unknown", "view", "like"),
    )
    torch.manual_seed(0)
    towers = TwoTower(spec)
    training = TRAINING.model_copy(update={"loss": "full_softmax", "event_type_dropout": 0.0})
    batch = TrainingBatches(chain_sequences(), chain_content(), None, spec.model, training).batch(DataPosition())
    items = towers.item_vectors(batch.items)
    expected, n_queries = 0.0, len(batch.query_at)
    width = batch.queries.history.shape[1] + 1
    for query, target in zip(batch.query_at.tolist(), batch.targets.tolist(), strict=True):
        row, n_seen = divmod(query, width)
        seen = items[batch.queries.history[row : row + 1, : max(1, n_seen)]]
        types = batch.queries.event_types[row : row + 1, : max(1, n_seen)]
        logits = (towers.query(seen, types, torch.tensor([n_seen])) @ items.T)[0]
        expected += (torch.logsumexp(logits, 0) - logits[target]).item() / n_queries
    assert towers(batch).item() == pytest.approx(expected, rel=1e-4)


def test_a_modality_s_gaps_are_handed_over_as_masks():
    content = chain_content()
    assert isinstance(content.modalities[0], Modality)
    batch = TrainingBatches(
        chain_sequences(), content, None, MODEL, TRAINING.model_copy(update={"loss": "full_softmax"})
    ).batch(DataPosition())
    vectors, mask = batch.items.modalities[0]
    rows = batch.items.rows.numpy()
    assert np.array_equal(mask.numpy(), rows % 5 != 0)
    assert np.array_equal(vectors.numpy(), content.modalities[0].vectors[rows])
