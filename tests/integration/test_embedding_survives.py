"""An embedding job that is killed, runs out of disk, or is fed hostile files: nothing lost, nothing wrong.

pytest tests/integration/test_embedding_survives.py --kill-points 50 --kill-seed 1
"""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from embeddings.fake_encoder import FakeEncoder
from embeddings.shards import ShardStore, store_folder
from jobs.artifacts import load_content, load_dataset
from jobs.embed import embed_job
from jobs.embed_streams import embeddings_folder, refused_path
from jobs.validate import validate_job
from recsys.errors import EnvironmentProblem
from recsys.manifest import sha256_file
from recsys.workspace import Workspace
from tests.embeddings.conftest import picture, saved
from tests.integration.killing import Jobs, Order, forked_jobs
from tests.worlds.hostile_files import hostile_files, is_valid
from tests.worlds.workspaces import NOW

pytestmark = pytest.mark.slow
N_ITEMS, SHARD_SIZE = 75, 8
N_SHARDS = 10  # ceil(75 / 8), of each modality
CONFIG = (
    '[encoders]\nimage = "fake"\ntext = "fake"\nshard_size = {shard_size}\ndecode_workers = {workers}\nthreads = 1\n'
)
# A cache, that speaks of files' times: a copy of the folder has others.
NOT_COMPARED = ("references.parquet",)


def write_catalogue(root: Path, pictures: dict[str, bytes], *, workers: int, shard_size: int = SHARD_SIZE) -> Workspace:
    """A workspace whose items are these pictures, each with a title, validated."""
    images = root / "data" / "images"
    images.mkdir(parents=True)
    (root / "recsys.toml").write_text(CONFIG.format(shard_size=shard_size, workers=workers))
    items = []
    for number, (item_id, content) in enumerate(pictures.items()):
        (images / f"{number}.bin").write_bytes(content)
        items.append({"item_id": item_id, "title": f"picture of {item_id}", "image": f"images/{number}.bin"})
    (root / "data" / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    event = {"user_id": "u", "item_id": items[0]["item_id"], "occurred_at": "2023-01-01T00:00:00Z"}
    (root / "data" / "interactions.jsonl").write_text(json.dumps(event) + "\n")
    workspace = Workspace.open(root)
    validate_job(workspace, now=NOW)
    return workspace


def good_pictures(n: int) -> dict[str, bytes]:
    return {f"item-{at}": saved(picture(8, 8, seed=at)) for at in range(n)}


def left_by(workspace: Workspace) -> dict[str, str]:
    files = sorted(path for path in (workspace.root / "artifacts").rglob("*") if path.is_file())
    return {
        path.relative_to(workspace.root).as_posix(): sha256_file(path)
        for path in files
        if path.name not in NOT_COMPARED and not path.name.endswith(".lock")
    }


def n_committed(workspace: Workspace) -> dict[str, int]:
    """Shards that were committed, by modality."""
    spaces = {name: FakeEncoder(name).space for name in ("image", "text")}  # type: ignore[arg-type]
    stores = {name: store_folder(embeddings_folder(workspace), space) for name, space in spaces.items()}
    return {name: len(ShardStore.open(stores[name], space).shards) for name, space in spaces.items()}


@pytest.fixture(scope="module")
def forks() -> Iterator[Jobs]:
    with forked_jobs() as jobs:
        yield jobs


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    pictures = good_pictures(N_ITEMS - 3)
    pictures |= {"cut": pictures["item-4"][:60], "empty": b"", "twin": pictures["item-5"]}
    return write_catalogue(tmp_path_factory.mktemp("world") / "work", pictures, workers=1)


def test_killed_at_random_points_the_result_is_that_of_an_undisturbed_run(
    forks: Jobs, world: Workspace, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    n_points = max(10, request.config.getoption("--kill-points"))
    rng = np.random.default_rng(request.config.getoption("--kill-seed"))
    calm = Workspace.open(Path(shutil.copytree(world.root, tmp_path / "calm")))
    undisturbed = forks.run(Order("embed", str(calm.root)))
    wanted = left_by(calm)
    assert undisturbed.steps is not None
    kills, lost = 0, Counter[int]()
    for point in range(n_points):
        root = Path(shutil.copytree(world.root, tmp_path / f"point-{point}"))
        order = Order("embed", str(root), kill_at_step=int(rng.integers(1, undisturbed.steps + 1)))
        if point % 2:
            order = Order("embed", str(root), kill_after_s=float(rng.uniform(0, undisturbed.seconds)))
        kills += forks.run(order).killed
        workspace = Workspace.open(root)
        before = n_committed(workspace)
        again = forks.run(Order("embed", str(root))).result[0]
        assert left_by(workspace) == wanted, f"after {order}"
        for name, n_shards in before.items():
            # What was not committed is done again, and nothing else: at most one shard was under way.
            known = again[name]["known_already"]
            assert known >= min(n_shards * SHARD_SIZE, N_ITEMS - 1)
            lost[n_shards] += 1
        shutil.rmtree(root)
    print(f"{kills} of {n_points} runs were killed before they ended")
    assert kills >= n_points // 2
    assert len(lost) > min(n_points, N_SHARDS) // 3, "so few different states were met that this tested little"


class FailingDisk:
    """Opens files for writing through Python until write number `fails_at`, and refuses from then on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path, code: int, fails_at: int) -> None:
        self.n_writes = 0
        self._open = Path.open

        def opened(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
            stream = self._open(path, mode, *args, **options)
            if mode[0] not in "wa" or root not in path.parents or path.name == ".lock":
                return stream
            return self._watched(stream, code, fails_at)

        monkeypatch.setattr(Path, "open", opened)

    def _watched(self, stream: io.IOBase, code: int, fails_at: int) -> Any:
        disk = self

        class Watched:
            def __enter__(self) -> Watched:
                return self

            def __exit__(self, *_: object) -> None:
                stream.close()

            def write(self, content: Any) -> int:
                disk.n_writes += 1
                if disk.n_writes >= fails_at:
                    stream.write(content[: len(content) // 2])  # a full disk takes what still fits
                    raise OSError(code, os.strerror(code))
                return stream.write(content)  # type: ignore[attr-defined, no-any-return]

            def __getattr__(self, name: str) -> Any:
                return getattr(stream, name)

        return Watched()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_refuses_at_any_write_ends_in_one_clear_error_and_harms_nothing(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = write_catalogue(tmp_path / "small", good_pictures(10), workers=-1, shard_size=4)
    calm = Workspace.open(Path(shutil.copytree(small.root, tmp_path / "calm")))
    with monkeypatch.context() as patched:
        disk = FailingDisk(patched, calm.root, code, fails_at=10**9)
        embed_job(calm)
    wanted = left_by(calm)
    assert disk.n_writes > 2 * (3 * 2 + 2)  # three shards and their markers, the manifest and the items, twice
    for fails_at in range(1, disk.n_writes + 1):
        workspace = Workspace.open(Path(shutil.copytree(small.root, tmp_path / f"write-{fails_at}")))
        with monkeypatch.context() as patched:
            FailingDisk(patched, workspace.root, code, fails_at)
            with pytest.raises((EnvironmentProblem, OSError), match=os.strerror(code)) as raised:
                embed_job(workspace)
        inside = "embeddings" in str(raised.value)
        assert isinstance(raised.value, EnvironmentProblem) or not inside
        embed_job(workspace)
        assert left_by(workspace) == wanted, f"after write {fails_at} failed"


def test_a_really_full_disk_ends_in_one_clear_error_and_the_next_run_goes_on(tmp_path: Path) -> None:
    """A file system with room for some shards, in a mount namespace of its own; then the same folder with more."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no mount namespace may be made here")
    work = write_catalogue(tmp_path / "work", good_pictures(400), workers=-1, shard_size=50)
    calm = Workspace.open(Path(shutil.copytree(work.root, tmp_path / "calm")))
    embed_job(calm)
    (tmp_path / "disk").mkdir()
    room = 120 * 1024
    size = sum(path.stat().st_blocks * 512 for path in work.root.rglob("*")) + room
    command = f"{sys.executable} -c 'from jobs.cli import main; main()'"
    script = (
        f"mount -t tmpfs -o size={size} tmpfs {tmp_path}/disk && cp -a {work.root}/. {tmp_path}/disk/ && "
        f"{{ {command} embed --workspace {tmp_path}/disk; echo exit $?; }} && "
        f"cp -a {tmp_path}/disk/. {tmp_path}/after/"
    )
    (tmp_path / "after").mkdir()
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "exit 2" in done.stdout
    assert done.stderr.count("No space left on device") == 1
    assert "Traceback" not in done.stderr
    after = Workspace.open(tmp_path / "after")
    assert 0 < n_committed(after)["image"] < 8
    embed_job(after)
    assert left_by(after) == left_by(calm)


def test_two_thousand_hostile_files_cost_their_own_vectors_and_nobody_elses(tmp_path: Path) -> None:
    hostile = list(hostile_files(2000, seed=1))
    good = good_pictures(100)
    pictures: dict[str, bytes] = {}
    for number, (_, content) in enumerate(hostile):
        pictures[f"hostile-{number}"] = content
        if number % 20 == 0:
            pictures[f"item-{number // 20}"] = good[f"item-{number // 20}"]
    workspace = write_catalogue(tmp_path / "work", pictures, workers=2, shard_size=256)
    result, exit_code = embed_job(workspace)
    assert exit_code == 1
    dataset = load_dataset(workspace)
    images = load_content(workspace, dataset).modality("image")
    direct = FakeEncoder("image").encode([good[f"item-{at}"] for at in range(100)])
    row_of = {item_id: row for row, item_id in enumerate(dataset.items["item_id"].to_pylist())}
    assert len(row_of) == 2100
    rows = [row_of[f"item-{at}"] for at in range(100)]
    assert images.present[rows].all()
    np.testing.assert_allclose(images.vectors[rows], direct, atol=2**-10)
    refused = pq.read_table(refused_path(workspace, "image")).to_pylist()
    assert {each["item_id"] for each in refused} == {i for i, row in row_of.items() if not images.present[row]}
    assert all(each["reason"] and each["message"] for each in refused)
    must_decode = {f"hostile-{number}" for number, (name, _) in enumerate(hostile) if is_valid(name)}
    assert not must_decode & {each["item_id"] for each in refused}
    assert result["image"]["refused"] == len(refused) > 500
    again, _ = embed_job(workspace)
    assert (again["image"]["encoded"], again["image"]["refused"]) == (0, len(refused))
