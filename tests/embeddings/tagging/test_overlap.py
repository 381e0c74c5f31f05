"""Which of several boxes of one object is kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision

from embeddings.tagging.overlap import overlap, suppressed


def random_boxes(n: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    corner, size = random.uniform(0, 80, (n, 2)), random.uniform(1, 60, (n, 2))
    return np.concatenate([corner, corner + size], axis=1)


def test_overlap_is_intersection_over_union() -> None:
    box = np.array([0.0, 0.0, 4.0, 2.0])
    others = np.array([[0.0, 0.0, 4.0, 2.0], [2.0, 1.0, 6.0, 3.0], [4.0, 0.0, 8.0, 2.0], [1.0, 1.0, 1.0, 1.0]])
    assert overlap(box, others) == pytest.approx([1.0, 2 * 1 / (8 + 8 - 2), 0.0, 0.0])


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("max_overlap", [0.3, 0.45, 0.7])
def test_the_same_boxes_stay_as_with_torchvision(seed: int, max_overlap: float) -> None:
    boxes, random = random_boxes(200, seed), np.random.default_rng(seed)
    scores, labels = random.permutation(200) / 200, random.integers(0, 4, 200)
    kept = suppressed(boxes, scores, labels, max_overlap=max_overlap, most=1000)
    of_one = suppressed(boxes, scores, np.zeros(200, np.int64), max_overlap=max_overlap, most=1000)
    tensors = torch.from_numpy(boxes), torch.from_numpy(scores)
    theirs = torchvision.ops.batched_nms(*tensors, torch.from_numpy(labels), max_overlap)
    assert kept.tolist() == theirs.tolist()
    assert of_one.tolist() == torchvision.ops.nms(*tensors, max_overlap).tolist()
    assert len(of_one) < len(kept) <= 200


def test_the_most_confident_are_kept_where_there_are_too_many() -> None:
    boxes, scores = random_boxes(50, 1), np.random.default_rng(1).permutation(50) / 50
    every = suppressed(boxes, scores, np.zeros(50, np.int64), max_overlap=0.5, most=50)
    few = suppressed(boxes, scores, np.zeros(50, np.int64), max_overlap=0.5, most=3)
    assert few.tolist() == every[:3].tolist()


def test_no_boxes_are_no_problem() -> None:
    nothing = suppressed(np.empty((0, 4)), np.empty(0), np.empty(0, np.int64), max_overlap=0.5, most=5)
    assert nothing.tolist() == []
