import numpy as np
import pytest
import torch

from recsys.models import losses
from recsys.models.losses import full_softmax_loss, sampled_softmax_loss


def world(n_queries=5, n_candidates=7, dim=3):
    torch.manual_seed(0)
    queries = torch.randn(n_queries, dim, requires_grad=True)
    candidates = torch.randn(n_candidates, dim, requires_grad=True)
    targets = torch.arange(n_queries) % n_candidates
    return queries, candidates, targets, torch.full((n_queries,), 1 / n_queries)


def test_the_full_softmax_is_minus_log_of_the_target_s_share():
    queries = torch.tensor([[1.0, 0.0]])
    candidates = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 5.0]])
    # logits 2, 0, 1
    expected = -np.log(np.exp(2) / (np.exp(2) + np.exp(0) + np.exp(1)))
    loss = full_softmax_loss(queries, candidates, torch.tensor([0]), torch.ones(1))
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("max_logits", [1, 14, 10_000])
def test_blocks_of_any_size_give_torch_s_loss_and_gradients(monkeypatch, max_logits):
    monkeypatch.setattr(losses, "MAX_LOGITS", max_logits)
    queries, candidates, targets, weights = world()
    full_softmax_loss(queries, candidates, targets, weights).backward()
    other_queries, other_candidates, *_ = world()
    torch.nn.functional.cross_entropy(other_queries @ other_candidates.T, targets).backward()
    torch.testing.assert_close(queries.grad, other_queries.grad)
    torch.testing.assert_close(candidates.grad, other_candidates.grad)


@pytest.mark.parametrize("max_logits", [1, 10, 10_000])
def test_the_sampled_softmax_has_the_gradients_of_its_formula(monkeypatch, max_logits):
    monkeypatch.setattr(losses, "MAX_LOGITS", max_logits)
    torch.manual_seed(0)
    rows, negative_rows = torch.tensor([0, 1, 2, 3, 1]), torch.tensor([1, 5, 3, 9])
    log_expected, weights = torch.randn(4), torch.rand(5)
    vectors = [torch.randn(n, 3, requires_grad=True) for n in (5, 5, 4)]
    sampled_softmax_loss(vectors[0], vectors[1], rows, vectors[2], negative_rows, log_expected, weights).backward()
    found = [each.grad for each in vectors]
    queries, positives, negatives = copies = [each.detach().clone().requires_grad_() for each in vectors]
    logits = queries @ negatives.T - log_expected
    logits = torch.where(rows[:, None] == negative_rows, -torch.inf, logits)
    positive = (queries * positives).sum(dim=1, keepdim=True)
    (weights * (torch.logsumexp(torch.cat([positive, logits], 1), 1) - positive[:, 0])).sum().backward()
    for mine, brute_force in zip(found, copies, strict=True):
        torch.testing.assert_close(mine, brute_force.grad)


def test_weights_scale_each_query_s_part():
    queries, candidates, targets, _ = world(n_queries=2)
    first, second = (full_softmax_loss(queries, candidates, targets, w) for w in torch.eye(2))
    both = full_softmax_loss(queries, candidates, targets, torch.tensor([0.25, 0.75]))
    assert both.item() == pytest.approx(0.25 * first.item() + 0.75 * second.item(), rel=1e-6)


def test_the_sampled_softmax_is_its_formula_written_out():
    queries = torch.tensor([[1.0, 0.0]])
    negatives = torch.tensor([[0.5, 0.0], [3.0, 0.0], [0.0, 1.0]])
    log_expected = torch.tensor([0.1, 0.2, 0.3])
    # The positive is row 8 with logit 2; the second negative is row 8 too and does not count.
    loss = sampled_softmax_loss(
        queries,
        torch.tensor([[2.0, 0.0]]),
        torch.tensor([8]),
        negatives,
        torch.tensor([4, 8, 5]),
        log_expected,
        torch.ones(1),
    )
    others = np.exp(0.5 - 0.1) + np.exp(0.0 - 0.3)
    assert loss.item() == pytest.approx(-np.log(np.exp(2) / (np.exp(2) + others)), rel=1e-6)


def test_log_q_makes_the_sum_over_a_skewed_sample_an_unbiased_estimate_of_the_sum_over_the_catalogue():
    rng = np.random.default_rng(0)
    logits = np.array([0.3, -1.0, 1.2, 0.1])
    chance = np.array([0.6, 0.2, 0.1, 0.1])
    positive = 2
    n_negatives, n_trials = 20, 4000
    drawn = rng.choice(4, size=(n_trials, n_negatives), p=chance)
    # With the query 1.0 in one dimension, an item's vector is its logit; exp(loss + positive) is the whole sum.
    losses_of_trials = [
        sampled_softmax_loss(
            torch.ones(1, 1, dtype=torch.float64),
            torch.tensor([[logits[positive]]]),
            torch.tensor([positive]),
            torch.tensor(logits[rows])[:, None],
            torch.tensor(rows),
            torch.tensor(np.log(n_negatives * chance[rows])),
            torch.ones(1, dtype=torch.float64),
        ).item()
        for rows in drawn
    ]
    estimate = np.exp(np.array(losses_of_trials) + logits[positive]).mean()
    assert estimate == pytest.approx(np.exp(logits).sum(), rel=0.02)
