"""Softmax over the catalogue, and its estimate from a sample; both return the mean loss per query.

Letters: Q queries, M candidates or negatives, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

MAX_LOGITS = 4_000_000
"""Logits held at once by the full softmax: 16 MiB of float32."""


class _FullSoftmax(torch.autograd.Function):
    """Loss and gradients in one pass over blocks of queries, so that the logits never exist as a whole."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, candidates: Tensor, targets: Tensor, weights: Tensor, block: int) -> Tensor:
        d_queries, d_candidates = torch.empty_like(queries), torch.zeros_like(candidates)
        loss = queries.new_zeros(())
        for start in range(0, len(queries), block):
            part = slice(start, start + block)
            logits = queries[part] @ candidates.T  # q x M
            log_norm = torch.logsumexp(logits, dim=1, keepdim=True)
            at = targets[part, None]
            loss += (weights[part, None] * (log_norm - logits.gather(1, at))).sum()
            share = logits.sub_(log_norm).exp_()
            share.scatter_add_(1, at, share.new_full(at.shape, -1.0))
            share *= weights[part, None]
            d_queries[part] = share @ candidates
            d_candidates.addmm_(share.T, queries[part])
        ctx.save_for_backward(d_queries, d_candidates)
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        d_queries, d_candidates = ctx.saved_tensors
        return d_queries * grads[0], d_candidates * grads[0], None, None, None


def full_softmax_loss(queries: Tensor, candidates: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of `-log softmax(queries @ candidates.T)[target]`, with memory bounded by `MAX_LOGITS`.

    Args:
        queries: float32 [Q, D].
        candidates: float32 [M, D].
        targets: int64 [Q], places in `candidates`.
        weights: float32 [Q], 1 / Q each for the mean.

    Returns:
        float32 [], differentiable once in `queries` and `candidates`.
    """
    block = max(1, MAX_LOGITS // max(1, len(candidates)))
    loss: Tensor = _FullSoftmax.apply(queries, candidates, targets, weights, block)
    return loss


def sampled_softmax_loss(
    queries: Tensor,
    positives: Tensor,
    positive_rows: Tensor,
    negatives: Tensor,
    negative_rows: Tensor,
    log_expected_count: Tensor,
    weights: Tensor,
) -> Tensor:
    """Weighted sum of the softmax loss with the other items estimated from one sample shared by all queries.

    `exp(logit - log_expected_count)` summed over negatives drawn with replacement is an unbiased estimate of the sum
    of `exp(logit)` over the catalogue without the positive (negatives that are the query's positive do not count).
    The logQ correction of Bengio and Senécal, "Adaptive importance sampling", 2008, in the form of Yi et al.,
    "Sampling-bias-corrected neural modeling", RecSys 2019; the positive is always there, so it is not corrected.

    Args:
        queries: float32 [Q, D].
        positives: float32 [Q, D], with their item rows int64 [Q].
        negatives: float32 [M, D], with their item rows int64 [M].
        log_expected_count: float32 [M], `log(M * q)` of each negative, q its probability in one draw.
        weights: float32 [Q], 1 / Q each for the mean.
    """
    positive_logits = (queries * positives).sum(dim=1, keepdim=True)
    logits = queries @ negatives.T - log_expected_count
    logits = logits.masked_fill(positive_rows[:, None] == negative_rows, -torch.inf)
    log_norm = torch.logsumexp(torch.cat([positive_logits, logits], dim=1), dim=1)
    return (weights * (log_norm - positive_logits[:, 0])).sum()
