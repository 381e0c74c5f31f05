"""kill -9 anywhere in a job, then the same command again: the same bytes and the same release as an undisturbed run.

    pytest tests/integration/test_kill.py --kill-points 20 --kill-seed 1

Half of the points are moments, uniform over the time of the undisturbed run; the other half are changes to the file
system, uniform over those of the undisturbed run, so that the short steps that move pointers are hit as often as the
long ones that compute.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.bootstrap import releases_of, store_of
from recsys.manifest import sha256_file
from recsys.workspace import Workspace
from tests.integration.killing import JOBS, Ended, Jobs, Order, forked_jobs
from tests.worlds.checkerboard import item_id, next_items, user_id
from tests.worlds.workspaces import N_ITEMS, N_USERS, NOW, add_item, post, write_workspace

pytestmark = pytest.mark.slow
# Not what a job makes: logs for TensorBoard, the times at which releases were put, the store (compared by its answers).
NOT_COMPARED = ("runs/", "releases/history.jsonl", "store.sqlite3", "recsys.toml", "data/images/")
A_CACHE = "/references.parquet"  # of files' times: a copy of the folder has others
USERS = [*map(user_id, range(N_USERS)), "morning-0", "evening-0", "evening-11"]


@dataclass(frozen=True)
class Undisturbed:
    """One job's run without a kill: the folder before it, what it left, and how long it took."""

    before: Path
    left: dict[str, Any]
    ended: Ended


@pytest.fixture(scope="module")
def forks() -> Iterator[Jobs]:
    with forked_jobs() as jobs:
        yield jobs


@pytest.fixture(scope="module")
def undisturbed(forks: Jobs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Undisturbed]:
    """All jobs one after the other, each from the folder that the last one left."""
    base = tmp_path_factory.mktemp("undisturbed")
    workspace, _ = write_workspace(base / "work")
    runs = {}
    for job in JOBS:
        prepare(job, workspace)
        before = base / f"before-{job}"
        shutil.copytree(workspace.root, before)
        ended = forks.run(Order(job, str(workspace.root)))
        runs[job] = Undisturbed(before, state_of(workspace), ended)
    return runs


def prepare(job: str, workspace: Workspace) -> None:
    """What happens in the world between two jobs: events come in, and before the nightly run also a new item."""
    if job == "export":
        post(workspace, visits("morning", 3), NOW - timedelta(hours=9))
    if job == "refresh":
        post(workspace, visits("evening", 12), NOW - timedelta(hours=3))
        add_item(workspace, "item-9000", title="ember flame", categories=["Fire"])


def visits(when: str, n_users: int) -> list[tuple[str, str]]:
    starts = [(f"{when}-{user}", item_id(user)) for user in range(n_users)]
    return [(user, item) for user, start in starts for item in [start, *next_items([start], n_items=N_ITEMS, k=14)]]


def state_of(workspace: Workspace) -> dict[str, Any]:
    """Everything that jobs make: the bytes of files, the releases and their pointer, and what the store answers."""
    root = workspace.root
    files = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}
    releases, store = releases_of(workspace), store_of(workspace)
    states = {user: store.user_state(user) for user in USERS}
    n_events = sum(1 for _ in store.read())
    store.close()
    return {
        **{
            name: sha256_file(path)
            for name, path in files.items()
            if not name.startswith(NOT_COMPARED) and not name.endswith(A_CACHE)
        },
        "releases": releases.list(),
        "current": releases.current(),
        "previous": releases.previous(),
        "store": {user: (state.history, state.seen.tolist()) for user, state in states.items()},
        "events": n_events,
    }


@pytest.mark.parametrize("job", JOBS)
def test_killed_anywhere_a_job_ends_as_if_it_had_not_been(
    job: str, forks: Jobs, undisturbed: dict[str, Undisturbed], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    n_points, seed = request.config.getoption("--kill-points"), request.config.getoption("--kill-seed")
    rng = np.random.default_rng([seed, JOBS.index(job)])
    run = undisturbed[job]
    n_killed = 0
    for point in range(n_points):
        root = tmp_path / f"point-{point}"
        shutil.copytree(run.before, root)
        order = at_random(job, root, run.ended, rng, by_clock=point % 2 == 1)
        n_killed += forks.run(order).killed
        again = forks.run(Order(job, str(root)))
        different = differences(state_of(Workspace.open(root)), run.left)
        assert not different, f"after {order} these differ from an undisturbed run: {different}"
        if job in ("release", "refresh"):
            assert again.result[0]["release"] == run.ended.result[0]["release"]
        shutil.rmtree(root)
    print(f"{job}: {n_killed} of {n_points} runs were killed before they ended; seed {seed}")
    assert n_killed >= n_points // 2, "so many runs ended before their kill that this tested little"


def at_random(job: str, root: Path, ended: Ended, rng: np.random.Generator, *, by_clock: bool) -> Order:
    if by_clock:
        return Order(job, str(root), kill_after_s=float(rng.uniform(0, ended.seconds)))
    assert ended.steps is not None
    return Order(job, str(root), kill_at_step=int(rng.integers(1, ended.steps + 1)))


def differences(left: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    return sorted(name for name in left.keys() | wanted.keys() if left.get(name) != wanted.get(name))


def test_what_was_done_before_a_kill_is_not_done_again(
    forks: Jobs, undisturbed: dict[str, Undisturbed], tmp_path: Path
) -> None:
    train, embed = undisturbed["train"], undisturbed["embed"]
    assert train.ended.steps is not None
    assert embed.ended.steps is not None
    root = tmp_path / "train"
    shutil.copytree(train.before, root)
    assert forks.run(Order("train", str(root), kill_at_step=train.ended.steps * 3 // 4)).killed
    checkpoints = sorted(path.name for path in root.glob("artifacts/training/*/checkpoints/step-*"))
    assert len(checkpoints) >= 2
    again = forks.run(Order("train", str(root)))
    assert again.steps is not None
    # Steps are mostly checkpoints being written: those before the kill are not written again.
    assert again.steps < train.ended.steps * 0.6

    root = tmp_path / "embed"
    shutil.copytree(embed.before, root)
    assert forks.run(Order("embed", str(root), kill_at_step=embed.ended.steps // 2)).killed
    reports = forks.run(Order("embed", str(root))).result[0]
    encoded = sum(reports[name]["encoded"] for name in ("image", "text", "users"))
    assert 0 < encoded < sum(embed.ended.result[0][name]["encoded"] for name in ("image", "text", "users"))
    # Whole shards of 16 were kept, and the last of the 60.
    assert {reports[name]["known_already"] for name in ("image", "text")} <= {0, 16, 32, 48, 60}


def test_a_night_that_is_killed_again_and_again_ends_as_if_it_had_not_been(
    forks: Jobs, undisturbed: dict[str, Undisturbed], tmp_path: Path
) -> None:
    run = undisturbed["refresh"]
    root = tmp_path / "work"
    shutil.copytree(run.before, root)
    assert run.ended.steps is not None
    killed = [forks.run(Order("refresh", str(root), kill_at_step=step)).killed for step in (90, 180, 270, 90)]
    assert all(killed)
    forks.run(Order("refresh", str(root)))
    assert not differences(state_of(Workspace.open(root)), run.left)


def test_the_undisturbed_runs_did_what_they_are_for(undisturbed: dict[str, Undisturbed]) -> None:
    after = {job: run.left for job, run in undisturbed.items()}
    assert after["train"]["current"] is None
    assert after["release"]["current"] == undisturbed["release"].ended.result[0]["release"]
    assert after["export"]["data/events/events-000001.parquet"]
    refreshed, exit_code = undisturbed["refresh"].ended.result
    assert exit_code == 0
    assert refreshed["events"] == 12 * 15
    assert refreshed["retrained"].startswith("interactions have grown by")
    assert after["refresh"]["current"] == refreshed["release"] != after["release"]["current"]
    assert after["refresh"]["previous"] == after["release"]["current"]
    assert len(after["refresh"]["store"]["user-0000"][0]) > 0
