import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recsys.dataset import ItemContent, Modality, Sequences, leave_last_out
from recsys.errors import ConfigError, MissingArtifact
from recsys.metrics.ranking import ndcg_of_ranks, rank_of_target
from recsys.models.checkpoints import STATE_FILE, TrainingState, latest_state
from recsys.models.run import train_into, trained_in
from recsys.models.training import TrainingData, train
from tests.recsys.models.chain import (
    MODEL,
    N_ITEMS,
    TRAINING,
    chain_content,
    chain_data,
    chain_profiles,
    chain_sequences,
)

ROOT = Path(__file__).parents[3]


def changed(**settings):
    return TRAINING.model_copy(update=settings)


def weights_of(model):
    return {name: value.clone() for name, value in model.towers.state_dict().items()}


def same_weights(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def ndcg(model, part="test"):
    """NDCG@10 over the whole catalogue without what the user has; by chance it is 4.54 / 15 = 0.30."""
    split = leave_last_out(chain_sequences(ordered=model.spec.model.ordered), part=part)
    vectors = model.item_vectors(chain_content())
    profiles = chain_profiles() if model.spec.user_text else None
    queries = model.query_vectors(vectors, split.history, split.target_users, profiles)
    seen = (split.history.user_rows, split.history.item_rows)
    return ndcg_of_ranks(rank_of_target(queries @ vectors.T, split.target_items, seen), 10).mean()


class Stopped(Exception):
    pass


def stop_at(step):
    def on_progress(progress):
        if progress.step == step:
            raise Stopped

    return on_progress


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return train(chain_data(), MODEL, TRAINING, checkpoint_dir=tmp_path_factory.mktemp("undisturbed"))


def test_the_chain_is_learned(undisturbed):
    model, summary = undisturbed
    assert ndcg(model) > 0.9
    assert summary.best_ndcg_at_10 > 0.9
    assert summary.tokens >= TRAINING.max_tokens


@pytest.mark.parametrize(
    "settings",
    [{"loss": "sampled_softmax"}, {"table_optimizer": "rowwise_adagrad", "fused_learning_rate": 0.3}],
    ids=["sampled softmax", "fused optimizer"],
)
def test_each_loss_and_table_optimizer_learns_the_chain(tmp_path, settings):
    model, _ = train(chain_data(profiles=False), MODEL, changed(**settings), checkpoint_dir=tmp_path)
    assert ndcg(model) > 0.8


def test_without_order_the_members_of_a_set_are_learned(tmp_path):
    # The users' items are an arc of 10 out of 24, and the missing ones lie next to it.
    model, _ = train(chain_data(ordered=False), MODEL, changed(learning_rate=2e-2), checkpoint_dir=tmp_path)
    assert not model.spec.model.ordered
    assert ndcg(model) > 0.5


@pytest.mark.parametrize("table_optimizer", ["adam", "rowwise_adagrad"])
def test_a_run_that_stops_anywhere_and_goes_on_ends_with_equal_bits(tmp_path, table_optimizer):
    training = changed(table_optimizer=table_optimizer, max_tokens=5_000)
    whole, _ = train(chain_data(), MODEL, training, checkpoint_dir=tmp_path / "whole")
    for step in (10, 17):  # checkpoints lie at every 7th step and at validations
        with pytest.raises(Stopped):
            train(chain_data(), MODEL, training, checkpoint_dir=tmp_path / "cut", on_progress=stop_at(step))
    resumed, summary = train(chain_data(), MODEL, training, checkpoint_dir=tmp_path / "cut")
    assert same_weights(weights_of(whole), weights_of(resumed))
    assert [each.step for each in summary.validations] == sorted({each.step for each in summary.validations})


def run_rank(folder, *, kill_at=0, n_ranks=1, table_optimizer="adam", max_tokens=2_000):
    arguments = ["-m", "tests.recsys.models.rank", str(folder), str(kill_at), table_optimizer, str(max_tokens)]
    launcher = [sys.executable]
    if n_ranks > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        launcher += ["-m", "torch.distributed.run", f"--nproc_per_node={n_ranks}", f"--master_port={port}"]
        launcher += ["--master_addr=127.0.0.1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        [*launcher, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_kill_9_and_the_same_call_again_gives_the_undisturbed_weights(tmp_path):
    killed = run_rank(tmp_path / "killed", kill_at=9)
    assert killed.returncode == -signal.SIGKILL
    with pytest.raises(MissingArtifact, match="is not done"):
        trained_in(tmp_path / "killed")
    training = changed(table_optimizer="adam", max_tokens=2_000)
    for folder in ("killed", "whole"):
        train_into(tmp_path / folder, chain_data(), MODEL, training)
    (resumed, summary), (whole, whole_summary) = trained_in(tmp_path / "killed"), trained_in(tmp_path / "whole")
    assert same_weights(weights_of(resumed), weights_of(whole))
    assert summary == whole_summary
    weights = [tmp_path / folder / "model" / "model.safetensors" for folder in ("killed", "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """The folder of a run at two ranks, its table split by rows."""
    folder = tmp_path_factory.mktemp("two")
    done = run_rank(folder, n_ranks=2, table_optimizer="rowwise_adagrad", max_tokens=6_000)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


TWO_RANKS = {"table_optimizer": "rowwise_adagrad", "max_tokens": 6_000}


def test_a_checkpoint_of_two_ranks_loads_at_one(two_ranks):
    two, summary = trained_in(two_ranks)
    assert summary.n_ranks == 2
    shards = (two_ranks / "checkpoints" / f"step-{summary.steps:08d}").glob("*.safetensors")
    assert len(list(shards)) == 2  # each rank wrote its half of the table
    one, again = train(chain_data(), MODEL, changed(**TWO_RANKS), checkpoint_dir=two_ranks / "checkpoints")
    assert (again.n_ranks, again.steps) == (1, summary.steps)
    assert same_weights(weights_of(one), weights_of(two))


def test_two_ranks_learn_what_one_learns(two_ranks, tmp_path):
    two, _ = trained_in(two_ranks)
    one, _ = train(chain_data(), MODEL, changed(**TWO_RANKS), checkpoint_dir=tmp_path)
    assert ndcg(two) > 0.8
    # Dropout masks differ between the ranks, so the two are alike, not equal.
    vectors = [model.item_vectors(chain_content()) for model in (one, two)]
    assert (vectors[0] * vectors[1]).sum(axis=1).mean() > 0.9


def test_only_the_last_two_checkpoints_and_the_best_are_kept(tmp_path, undisturbed):
    _, summary = train(chain_data(), MODEL, TRAINING, checkpoint_dir=tmp_path)
    kept = sorted(int(path.name.removeprefix("step-")) for path in tmp_path.iterdir())
    assert summary.best_step in kept
    assert summary.steps in kept
    assert len(kept) <= 3


def test_no_checkpoint_holds_a_pickle(tmp_path):
    train(chain_data(), MODEL, changed(max_tokens=600), checkpoint_dir=tmp_path)
    suffixes = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert suffixes == {".safetensors", ".json"}


def test_an_unfinished_checkpoint_is_not_taken_for_one(tmp_path):
    train(chain_data(), MODEL, changed(max_tokens=600), checkpoint_dir=tmp_path)
    last = max(path.name for path in tmp_path.iterdir())
    made_from = latest_state_of(tmp_path).made_from
    (tmp_path / "step-00000999.unfinished").mkdir()
    assert latest_state(tmp_path, made_from).step == int(last.removeprefix("step-"))


def latest_state_of(folder):
    last = max(path for path in folder.iterdir() if path.name.startswith("step-"))
    return TrainingState.model_validate_json((last / STATE_FILE).read_bytes())


def test_checkpoints_of_other_settings_are_refused(tmp_path):
    train(chain_data(), MODEL, changed(max_tokens=600), checkpoint_dir=tmp_path)
    with pytest.raises(ConfigError, match="other data or settings"):
        train(chain_data(), MODEL, changed(max_tokens=600, seed=9), checkpoint_dir=tmp_path)


def test_training_stops_when_validation_no_longer_gains(tmp_path):
    training = changed(patience=2, n_evaluations=40, max_tokens=60_000)
    _, summary = train(chain_data(profiles=False), MODEL, training, checkpoint_dir=tmp_path)
    assert summary.tokens < 60_000
    best = [each.step for each in summary.validations].index(summary.best_step)
    assert best == len(summary.validations) - 3


def test_without_validation_the_whole_budget_is_trained_and_the_last_weights_are_kept(tmp_path):
    _, summary = train(chain_data(validation=False), MODEL, changed(max_tokens=2_000), checkpoint_dir=tmp_path)
    assert summary.tokens >= 2_000
    assert (summary.best_step, summary.best_ndcg_at_10) == (summary.steps, None)


def test_scalars_are_there_for_tensorboard(tmp_path):
    train(chain_data(), MODEL, changed(max_tokens=4_000), checkpoint_dir=tmp_path / "c", log_dir=tmp_path / "logs")
    log = EventAccumulator(str(tmp_path / "logs"))
    log.Reload()
    assert set(log.Tags()["scalars"]) == {"loss", "tokens", "validation/ndcg@10"}
    losses = [scalar.value for scalar in log.Scalars("loss")]
    assert losses[-1] < losses[0]


def test_an_item_nobody_trained_on_is_found_by_its_content(tmp_path):
    """The text of item i is its place on the circle. Nobody took item 5, but its text says: between 4 and 6."""
    data = chain_data(profiles=False)
    angles = 2 * np.pi * np.arange(N_ITEMS) / N_ITEMS
    places = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    text = Modality("text", "places", places, np.ones(N_ITEMS, np.bool_))
    content = ItemContent(N_ITEMS, (text,), (), np.zeros((N_ITEMS, 0), np.bool_))
    without_5 = data.sequences.take(data.sequences.item_rows != 5)
    model = MODEL.model_copy(update={"id_dropout": 0.3})
    cold = TrainingData(without_5, None, content, None, "")
    trained, _ = train(cold, model, changed(max_tokens=24_000), checkpoint_dir=tmp_path)
    assert not trained.trained[5]
    vectors = trained.item_vectors(content)
    at_4 = Sequences(("x",), np.array([0, 4]), np.array([1, 2, 3, 4]), np.array([1, 2, 1, 2]), np.zeros(4, np.int64))
    [query] = trained.query_vectors(vectors, at_4, np.array([0]))
    best = [row for row in np.argsort(-(vectors @ query)) if row not in (1, 2, 3, 4)]
    assert 5 in best[:3]


def test_nothing_to_learn_from_is_refused(tmp_path):
    sequences = chain_sequences()
    empty = TrainingData(sequences.take(np.zeros(sequences.n_events, np.bool_)), None, chain_content(), None, "")
    with pytest.raises(ValueError, match="at least one interaction"):
        train(empty, MODEL, TRAINING, checkpoint_dir=tmp_path)
