"""The embedding job: encodes only what is new, survives bad items, and survives being killed anywhere."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from embeddings.batching import BatchLimits
from embeddings.embed import Item, embed_items
from embeddings.encoder import Vectors
from embeddings.fake_encoder import FakeEncoder
from embeddings.preprocess.features import Features
from embeddings.shards import ShardStore
from embeddings.stored import gather, read_items
from recsys.errors import EnvironmentProblem, InputError, SpaceMismatch
from tests.embeddings.conftest import picture, saved

LIMITS = BatchLimits(max_items=4)


class CountingEncoder(FakeEncoder):
    """The fake encoder, counting what really reaches the device; may stop as if killed."""

    def __init__(self, modality: str = "text", *, stop_after: int | None = None) -> None:
        super().__init__(modality)
        self.n_forward = 0
        self.batch_sizes: list[int] = []
        self.stop_after = stop_after

    def forward(self, features: Sequence[Features]) -> Vectors:
        if self.stop_after is not None and len(self.batch_sizes) == self.stop_after:
            raise KeyboardInterrupt
        self.n_forward += len(features)
        self.batch_sizes.append(len(features))
        return super().forward(features)


def texts(n: int, prefix: str = "film number") -> list[Item]:
    return [(f"item-{at}", f"{prefix} {at}") for at in range(n)]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def test_a_rerun_of_an_unchanged_catalogue_encodes_nothing(tmp_path: Path) -> None:
    first = embed_items(texts(10), CountingEncoder(), tmp_path, shard_size=4)
    before, encoder = files(tmp_path), CountingEncoder()
    second = embed_items(texts(10), encoder, tmp_path, shard_size=4)
    assert (first.n_encoded, second.n_encoded, second.n_reused) == (10, 0, 10)
    assert encoder.n_forward == 0
    assert files(tmp_path) == before


def test_only_what_changed_is_encoded(tmp_path: Path) -> None:
    embed_items(texts(10), CountingEncoder(), tmp_path)
    changed = [*texts(9), ("item-9", "another text"), ("item-10", "a new item")]
    report = embed_items(changed, CountingEncoder(), tmp_path)
    assert (report.n_encoded, report.n_reused) == (2, 9)


def test_the_same_content_under_many_ids_is_encoded_once(tmp_path: Path) -> None:
    photo, encoder = saved(picture()), CountingEncoder("image")
    items = [(f"shirt-{size}", photo) for size in ("s", "m", "l", "xl")]
    report = embed_items(items, encoder, tmp_path)
    assert (report.n_items, report.n_encoded, report.n_duplicates, encoder.n_forward) == (4, 1, 3, 1)
    vectors, present = gather(tmp_path, encoder.space, list(report.content_hashes.values()))
    assert present.all()
    assert (vectors == vectors[0]).all()


def test_white_space_alone_does_not_make_a_text_another_content(tmp_path: Path) -> None:
    report = embed_items([("a", "two  dogs\n"), ("b", " two dogs")], CountingEncoder(), tmp_path)
    assert (report.n_encoded, report.n_duplicates) == (1, 1)


def test_one_bad_picture_harms_nobody(tmp_path: Path) -> None:
    good = [(f"good-{at}", saved(picture(seed=at))) for at in range(5)]
    truncated = ("truncated", saved(picture(200, 200))[:2000])

    def gone() -> bytes:
        return (tmp_path / "no-such.jpg").read_bytes()

    def refused() -> bytes:
        raise InputError("URLs are not fetched")

    items = [good[0], truncated, ("twin", truncated[1]), good[1], ("gone", gone), ("url", refused), *good[2:]]
    report = embed_items(items, CountingEncoder("image"), tmp_path / "mixed", shard_size=2)
    reasons = {rejected.item_id: rejected.reason for rejected in report.rejected}
    assert set(reasons) == {"truncated", "twin", "gone", "url"}
    assert "truncated" in reasons["twin"]
    assert "No such file" in reasons["gone"]
    assert report.n_failed == 4
    alone = embed_items(good, CountingEncoder("image"), tmp_path / "alone", shard_size=2)
    assert report.content_hashes == alone.content_hashes
    assert files(tmp_path / "mixed") == files(tmp_path / "alone")


def test_an_item_without_content_is_absent_and_not_rejected(tmp_path: Path) -> None:
    report = embed_items([("a", None), ("b", lambda: None), ("c", "words")], CountingEncoder(), tmp_path)
    assert (report.n_items, report.n_absent, report.n_failed, report.n_encoded) == (3, 2, 0, 1)


def test_no_batch_crosses_a_shard(tmp_path: Path) -> None:
    images = [(f"item-{at}", saved(picture(8, 8, seed=at))) for at in range(13)]
    encoder = CountingEncoder("image")
    embed_items(images, encoder, tmp_path, shard_size=6, limits=LIMITS)
    assert encoder.batch_sizes == [4, 2, 4, 2, 1]  # 6 + 6 + 1 items in batches of at most 4


@pytest.mark.parametrize("modality", ["text", "image"])
def test_stopped_at_any_batch_and_run_again_the_store_has_the_same_bytes(tmp_path: Path, modality: str) -> None:
    damaged = ("bad", saved(picture(90, 90))[:900] if modality == "image" else " ")
    items = texts(22) if modality == "text" else [(f"i-{at}", saved(picture(8, 8, seed=at))) for at in range(22)]
    items.insert(5, damaged)
    undisturbed = CountingEncoder(modality)
    embed_items(items, undisturbed, tmp_path / "undisturbed", shard_size=6, limits=LIMITS)
    for stop in range(len(undisturbed.batch_sizes)):
        folder = tmp_path / f"stopped-{stop}"
        stopped, again = CountingEncoder(modality, stop_after=stop), CountingEncoder(modality)
        with pytest.raises(KeyboardInterrupt):
            embed_items(items, stopped, folder, shard_size=6, limits=LIMITS)
        embed_items(items, again, folder, shard_size=6, limits=LIMITS)
        assert files(folder) == files(tmp_path / "undisturbed")
        assert stopped.n_forward + again.n_forward - undisturbed.n_forward <= 6  # lost: at most one shard


CHILD = """
import os, signal, sys
from pathlib import Path
from embeddings.embed import embed_items
from embeddings.fake_encoder import FakeEncoder

left, real = int(sys.argv[2]), os.fsync
def fsync(descriptor):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    real(descriptor)
os.fsync = fsync
items = [(f"item-{at}", f"film number {at}") for at in range(22)]
embed_items(items, FakeEncoder("text"), Path(sys.argv[1]), shard_size=6)
"""


@pytest.mark.parametrize("n_fsyncs", [0, 1, 2, 3, 6, 17])
def test_killed_between_any_two_writes_and_run_again_the_store_has_the_same_bytes(
    tmp_path: Path, n_fsyncs: int
) -> None:
    # Each shard is four syncs: its file, the folder, the manifest, the folder; 22 items in shards of 6 are 16.
    embed_items(texts(22), FakeEncoder("text"), tmp_path / "undisturbed", shard_size=6)
    killed = tmp_path / "killed"
    command = [sys.executable, "-c", CHILD, str(killed), str(n_fsyncs)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    committed = len(ShardStore.open(killed, FakeEncoder("text").space).manifest.shards)
    encoder = CountingEncoder()
    embed_items(texts(22), encoder, killed, shard_size=6)
    assert encoder.n_forward == max(22 - 6 * committed, 0)
    assert committed >= n_fsyncs // 4
    assert files(killed) == files(tmp_path / "undisturbed")


class NanEncoder(CountingEncoder):
    def forward(self, features: Sequence[Features]) -> Vectors:
        vectors = super().forward(features).copy()
        poisoned = [at for at, item in enumerate(features) if (item == self.preprocess("film number 3")).all()]
        vectors[poisoned] = np.nan
        return vectors


def test_a_content_without_a_finite_vector_is_rejected_now_and_on_every_rerun(tmp_path: Path) -> None:
    for n_encoded in (8, 0):
        report = embed_items(texts(8), NanEncoder(), tmp_path, shard_size=4)
        assert report.n_encoded == n_encoded
        assert [(rejected.item_id, rejected.reason) for rejected in report.rejected] == [
            ("item-3", "the encoder gives no finite vector for it")
        ]
        assert "item-3" not in report.content_hashes


def test_a_store_of_another_space_is_refused(tmp_path: Path) -> None:
    embed_items(texts(3), FakeEncoder("text"), tmp_path)
    with pytest.raises(SpaceMismatch, match="dim: 64 is not 32"):
        embed_items(texts(3), FakeEncoder("text", dim=32), tmp_path)


def test_two_jobs_never_write_to_one_store(tmp_path: Path) -> None:
    inside, leave = threading.Event(), threading.Event()

    def slow() -> str:
        inside.set()
        assert leave.wait(20)
        return "words"

    job = threading.Thread(target=embed_items, args=([("a", slow)], FakeEncoder("text"), tmp_path))
    job.start()
    assert inside.wait(20)
    try:
        with pytest.raises(EnvironmentProblem, match="another embedding job"):
            embed_items(texts(1), FakeEncoder("text"), tmp_path)
    finally:
        leave.set()
        job.join()


def test_progress_ends_with_everything_seen_and_encoded(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    embed_items(texts(10), FakeEncoder("text"), tmp_path, shard_size=4, on_progress=lambda *call: calls.append(call))
    assert calls[-1] == (10, 10)
    assert [encoded for _, encoded in calls] == sorted(encoded for _, encoded in calls)


def test_items_are_read_as_a_stream(tmp_path: Path) -> None:
    read: list[int] = []
    encoder = CountingEncoder("image")
    ahead: list[int] = []

    def load(at: int) -> bytes:
        read.append(at)
        ahead.append(len(read) - encoder.n_forward)
        return saved(picture(8, 8, seed=at))

    items = ((f"item-{at}", (lambda at=at: load(at))) for at in range(60))
    embed_items(items, encoder, tmp_path, shard_size=12, limits=LIMITS)
    assert max(ahead) <= 2 * 4 + 4  # the look-ahead and one batch


def test_the_store_remembers_which_item_has_which_content(tmp_path: Path) -> None:
    report = embed_items(texts(5), FakeEncoder("text"), tmp_path)
    assert read_items(tmp_path) == report.content_hashes
    assert list(report.content_hashes) == [item_id for item_id, _ in texts(5)]
