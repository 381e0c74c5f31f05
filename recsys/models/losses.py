"""Softmax over the catalogue, and its estimate from a sample; both return a weighted sum of losses.

Letters: Q queries, M candidates or negatives, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

MAX_LOGITS = 1_000_000
"""Logits held at once: 4 MiB of float32, about a core's cache."""


class _FullSoftmax(torch.autograd.Function):
    """Loss and gradients in one pass over blocks of queries, so that the logits never exist as a whole."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, candidates: Tensor, targets: Tensor, weights: Tensor, block: int) -> Tensor:
        d_queries, d_candidates = torch.empty_like(queries), torch.zeros_like(candidates)
        loss = queries.new_zeros(())
        for start in range(0, len(queries), block):
            part = slice(start, start + block)
            logits = queries[part] @ candidates.T  # q x M
            at = targets[part, None]
            highest = logits.amax(dim=1, keepdim=True)
            target_logits = logits.gather(1, at) - highest
            share = logits.sub_(highest).exp_()
            norm = share.sum(dim=1, keepdim=True)
            loss += (weights[part, None] * (norm.log() - target_logits)).sum()
            share *= weights[part, None] / norm
            share.scatter_add_(1, at, -weights[part, None])
            d_queries[part] = share @ candidates
            d_candidates.addmm_(share.T, queries[part])
        ctx.save_for_backward(d_queries, d_candidates)
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        d_queries, d_candidates = ctx.saved_tensors
        return d_queries * grads[0], d_candidates * grads[0], None, None, None


class _SampledSoftmax(torch.autograd.Function):
    """The same for one positive a query and negatives shared by all."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        positives: Tensor,
        positive_rows: Tensor,
        negatives: Tensor,
        negative_rows: Tensor,
        log_expected_count: Tensor,
        weights: Tensor,
        block: int,
    ) -> Tensor:
        d_queries, d_positives = torch.empty_like(queries), torch.empty_like(positives)
        d_negatives = torch.zeros_like(negatives)
        loss = queries.new_zeros(())
        for start in range(0, len(queries), block):
            part = slice(start, start + block)
            weight = weights[part, None]
            positive = (queries[part] * positives[part]).sum(dim=1, keepdim=True)
            logits = torch.addmm(-log_expected_count, queries[part], negatives.T)  # q x M
            logits.masked_fill_(positive_rows[part, None] == negative_rows, -torch.inf)
            highest = torch.maximum(logits.amax(dim=1, keepdim=True), positive)
            share = logits.sub_(highest).exp_()
            positive_share = (positive - highest).exp()
            norm = share.sum(dim=1, keepdim=True) + positive_share
            loss += (weight * (norm.log() + highest - positive)).sum()
            share *= weight / norm
            pull = weight * (positive_share / norm - 1)
            d_queries[part] = share @ negatives + pull * positives[part]
            d_positives[part] = pull * queries[part]
            d_negatives.addmm_(share.T, queries[part])
        ctx.save_for_backward(d_queries, d_positives, d_negatives)
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        d_queries, d_positives, d_negatives = (each * grads[0] for each in ctx.saved_tensors)
        return d_queries, d_positives, None, d_negatives, None, None, None, None


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

    Returns:
        float32 [], differentiable once in `queries`, `positives` and `negatives`; memory as for the full softmax.
    """
    block = max(1, MAX_LOGITS // max(1, len(negatives)))
    loss: Tensor = _SampledSoftmax.apply(
        queries, positives, positive_rows, negatives, negative_rows, log_expected_count, weights, block
    )
    return loss
