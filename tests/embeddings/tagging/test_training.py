"""Heads are fitted: the same function in torch and numpy, as good as scikit-learn, the same for the same seed."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from embeddings.tagging.folds import fitted_head
from embeddings.tagging.heads import Head
from embeddings.tagging.network import HeadNetwork, Scaling
from embeddings.tagging.training import TrainingSet, class_weights, fit, loss_of, validation_rows
from recsys.errors import InputError
from recsys.tagging_config import TagTrainingConfig
from tests.embeddings.tagging.worlds import classes, everywhere, exclusive_set, multi_label, one_hot, space, unit

Floats = NDArray[np.float32]


def head_of(data: TrainingSet, config: TagTrainingConfig | None = None, seed: int = 0) -> Head:
    spaces = {name: space(name, x.shape[1]) for name, (x, _) in data.vectors.items()}
    tags = tuple(f"t{place}" for place in range(data.y.shape[1]))
    return fitted_head(data, spaces, tags, config or TagTrainingConfig(), seed=seed)


def two_modalities(n: int, seed: int) -> dict[str, tuple[Floats, NDArray[np.bool_]]]:
    """Vectors that lie far from the middle, each modality absent from a third of the items, and both from none."""
    rng = np.random.default_rng(seed)
    lot = rng.integers(0, 3, n)
    return {
        "image": (unit(rng.normal(size=(n, 12)) + 3), lot != 0),
        "text": (unit(rng.normal(size=(n, 7)) - 2), lot != 1),
    }


@pytest.mark.parametrize("fusion", ["concat", "gated"])
@pytest.mark.parametrize("hidden", [0, 5])
def test_numpy_evaluates_what_torch_was_fitted_as(fusion: Literal["concat", "gated"], hidden: int) -> None:
    vectors = two_modalities(200, seed=1)
    scalings = {name: Scaling.of(*pair) for name, pair in vectors.items()}
    network = HeadNetwork(scalings, 4, fusion=fusion, hidden=hidden, seed=3)
    random = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random))
        in_torch = network(network.inputs(vectors)).numpy()
    data = TrainingSet(vectors, np.zeros((200, 4), np.float32), np.ones((200, 4), np.bool_), exclusive=False)
    config = TagTrainingConfig(fusion=fusion, hidden=hidden, max_epochs=1)
    in_numpy = Head(head_of(with_some_yes(data), config).spec, network.folded()).logits(vectors)
    np.testing.assert_allclose(in_numpy, in_torch, rtol=0, atol=1e-5 * np.abs(in_torch).max())


def with_some_yes(data: TrainingSet) -> TrainingSet:
    y = data.y.copy()
    y[::2] = 1
    return TrainingSet(data.vectors, y, data.known, data.exclusive)


def test_exclusive_tags_are_told_as_well_as_scikit_learn_tells_them() -> None:
    from sklearn.linear_model import LogisticRegression

    x, of = classes(2400, 4, 32, spread=1.8, seed=1)
    learned, held_out = slice(0, 400), slice(400, None)
    fitted = [LogisticRegression(C=c, max_iter=2000).fit(x[learned], of[learned]) for c in (0.3, 3.0, 30.0)]
    best = max(model.score(x[held_out], of[held_out]) for model in fitted)
    head = head_of(exclusive_set({"image": everywhere(x[learned])}, one_hot(of[learned], 4)))
    ours = (head.logits({"image": everywhere(x[held_out])}).argmax(axis=1) == of[held_out]).mean()
    noise = np.sqrt(best * (1 - best) / 2000)
    assert 0.8 < best < 0.99
    assert ours >= best - 2 * noise


def test_several_tags_are_told_as_well_as_scikit_learn_tells_them() -> None:
    from sklearn.linear_model import LogisticRegression

    x, y, p = multi_label(2500, 32, 4, seed=1)
    learned, held_out = slice(0, 500), slice(500, None)
    data = TrainingSet({"text": everywhere(x[learned])}, y[learned], np.ones((500, 4), np.bool_), exclusive=False)
    logits = head_of(data, TagTrainingConfig(calibration="none")).logits({"text": everywhere(x[held_out])})
    fitted = [[LogisticRegression(C=c, max_iter=2000).fit(x[learned], tag) for tag in y[learned].T] for c in (3, 30)]
    theirs = [np.stack([each.decision_function(x[held_out]) for each in models], axis=1) for models in fitted]
    lost, as_good = log_loss(logits, p[held_out]), min(log_loss(each, p[held_out]) for each in theirs)
    assert lost <= as_good + 0.015
    assert as_good < log_loss(np.tile(np.log(y.mean(axis=0) / (1 - y.mean(axis=0))), (2000, 1)), p[held_out]) - 0.05


def log_loss(logits: NDArray[Any], p: NDArray[np.float64]) -> float:
    """The expected one, where labels are drawn by `p`."""
    return float(np.mean(np.logaddexp(0, logits.astype(np.float64)) - p * logits))


def test_the_scale_of_the_vectors_does_not_matter() -> None:
    x, of = classes(200, 3, 16, spread=1.0, seed=2)
    y, config = one_hot(of, 3), TagTrainingConfig(max_epochs=10)
    plain = head_of(exclusive_set({"image": everywhere(x)}, y), config)
    moved = head_of(exclusive_set({"image": everywhere((x * 50 + 7).astype(np.float32))}, y), config)
    agree = plain.logits({"image": everywhere(x)}) - moved.logits(
        {"image": everywhere((x * 50 + 7).astype(np.float32))}
    )
    assert np.abs(agree).max() < 0.05


def test_the_same_seed_gives_the_same_weights_and_another_gives_others() -> None:
    x, of = classes(300, 3, 16, spread=2.0, seed=3)
    data = exclusive_set({"image": everywhere(x)}, one_hot(of, 3))
    config = TagTrainingConfig(hidden=4, max_epochs=5)
    first, again, other = (fit(data, config, seed=seed).weights for seed in (0, 0, 1))
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    assert not np.allclose(first["out"], other["out"])


def test_what_nobody_said_is_not_learned() -> None:
    x, y, _ = multi_label(600, 16, 3, seed=4)
    known = np.random.default_rng(5).random(y.shape) < 0.5
    lies = np.where(known, y, 1 - y)
    config = TagTrainingConfig(max_epochs=20)
    true, lied = (
        fit(TrainingSet({"text": everywhere(x)}, each, known, exclusive=False), config, seed=0).weights
        for each in (y, lies)
    )
    np.testing.assert_array_equal(true["project.text"], lied["project.text"])


def test_a_head_of_two_does_with_either_one() -> None:
    """Both say the class; where one is absent the other must do."""
    image, of = classes(500, 3, 16, spread=1.0, seed=6)
    text = unit(image[:, ::-1].astype(np.float64) + 0.1)
    y = one_hot(of, 3)
    learned = {name: everywhere(x[:300]) for name, x in (("image", image), ("text", text))}
    nothing = np.zeros(200, np.bool_)
    for fusion in ("concat", "gated"):
        config = TagTrainingConfig.model_validate({"fusion": fusion, "max_epochs": 30})
        head = head_of(exclusive_set(learned, y[:300]), config)
        for absent in ("image", "text"):
            vectors: dict[str, Any] = {"image": everywhere(image[300:]), "text": everywhere(text[300:])}
            vectors[absent] = (np.zeros_like(image[300:]), nothing)
            assert (head.logits(vectors).argmax(axis=1) == of[300:]).mean() > 0.9


def test_a_hidden_layer_learns_what_no_line_parts() -> None:
    rng = np.random.default_rng(7)
    corner = rng.choice([-1.0, 1.0], size=(600, 2))
    x = (corner + rng.normal(scale=0.2, size=(600, 2))).astype(np.float32)
    y = one_hot((corner.prod(axis=1) > 0).astype(np.int64), 2)
    data = exclusive_set({"image": everywhere(x[:400])}, y[:400])

    def accuracy(hidden: int) -> float:
        head = head_of(data, TagTrainingConfig(hidden=hidden, max_epochs=40))
        told = head.logits({"image": everywhere(x[400:])}).argmax(axis=1)
        return float((told == y[400:].argmax(axis=1)).mean())

    assert accuracy(16) > 0.95
    assert accuracy(0) < 0.75


def test_class_weights_make_rare_tags_count_as_much() -> None:
    y = np.array([[1, 0], [0, 0], [0, 0], [0, 1], [0, 1]], np.float32)
    data = TrainingSet({"image": everywhere(np.ones((5, 2), np.float32))}, y, np.ones((5, 2), np.bool_), False)
    np.testing.assert_allclose(class_weights(data, wanted=True), [4 / 1, 3 / 2])
    exclusive = TrainingSet(data.vectors, one_hot(np.array([0, 1, 1, 1, 1]), 2), data.known, True)
    np.testing.assert_allclose(class_weights(exclusive, wanted=True), [5 / (2 * 1), 5 / (2 * 4)])
    np.testing.assert_array_equal(class_weights(data, wanted=False), [1, 1])


def test_the_loss_of_an_exclusive_item_counts_the_tags_that_it_may_be() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]]))
    y = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    known = torch.tensor([[True, True, True], [True, False, False]])
    lost = loss_of(logits, y, known, torch.ones(2), torch.ones(3), exclusive=True)
    assert float(lost) == pytest.approx((-np.log(0.3) - np.log(0.3 + 0.2)) / 2, rel=1e-6)


def test_rare_tags_are_in_the_validation_part_too() -> None:
    y = one_hot(np.repeat([0, 1], [180, 20]), 2)
    data = exclusive_set({"image": everywhere(np.ones((200, 2), np.float32))}, y)
    chosen = validation_rows(data, np.random.default_rng(0))
    assert len(chosen) == 30
    assert y[chosen, 1].sum() == pytest.approx(0.15 * 20, abs=1)


def test_nothing_to_learn_from_is_said() -> None:
    x = np.ones((4, 2), np.float32)
    data = TrainingSet({"image": everywhere(x)}, np.zeros((4, 1), np.float32), np.zeros((4, 1), np.bool_), False)
    with pytest.raises(InputError, match="nothing to learn from"):
        fit(data, TagTrainingConfig(), seed=0)
