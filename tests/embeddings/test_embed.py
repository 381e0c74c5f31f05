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
from embeddings.contents import Item
from embeddings.embed import EmbedOptions, EmbedProgress, EmbedReport, embed_items
from embeddings.encoder import Vectors
from embeddings.fake_encoder import FakeEncoder
from embeddings.preprocess.fake import N_HASHED
from embeddings.preprocess.features import Content, Features
from embeddings.refused import Refused
from embeddings.shards import ShardStore
from embeddings.stored import gather, read_items
from recsys.errors import EnvironmentProblem, SpaceMismatch
from tests.embeddings.conftest import picture, saved
from tests.worlds.in_memory_reader import InMemoryReader

LIMITS = BatchLimits(max_items=4)


class PixelEncoder(FakeEncoder):
    """A fake encoder that sees nothing but pixels, as real ones do."""

    def __init__(self) -> None:
        super().__init__("image", seed=3)

    def preprocess(self, content: Content) -> Features:
        features: Features = super().preprocess(content)[:-N_HASHED].copy()
        return features

    def forward(self, features: Sequence[Features]) -> Vectors:
        return super().forward([np.concatenate([each, np.zeros(N_HASHED, np.float32)]) for each in features])


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


def embed(
    items: list[Item], encoder: FakeEncoder, folder: Path, *, reader: InMemoryReader | None = None, **options: object
) -> EmbedReport:
    return embed_items(items, encoder, folder, reader=reader, options=EmbedOptions(**options))  # type: ignore[arg-type]


def pictures(n: int, *, side: int = 8) -> tuple[list[Item], InMemoryReader]:
    """Items that name their pictures, and what reads them."""
    contents = {f"{at}.png": saved(picture(side, side, seed=at)) for at in range(n)}
    return [(f"item-{at}", f"{at}.png") for at in range(n)], InMemoryReader(contents)


def texts(n: int, prefix: str = "film number") -> list[Item]:
    return [(f"item-{at}", f"{prefix} {at}") for at in range(n)]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def test_a_rerun_of_an_unchanged_catalogue_encodes_nothing(tmp_path: Path) -> None:
    first = embed(texts(10), CountingEncoder(), tmp_path, shard_size=4)
    before, encoder = files(tmp_path), CountingEncoder()
    second = embed(texts(10), encoder, tmp_path, shard_size=4)
    assert (first.n_encoded, second.n_encoded, second.n_reused) == (10, 0, 10)
    assert encoder.n_forward == 0
    assert files(tmp_path) == before


def test_only_what_changed_is_encoded(tmp_path: Path) -> None:
    embed(texts(10), CountingEncoder(), tmp_path)
    changed = [*texts(9), ("item-9", "another text"), ("item-10", "a new item")]
    report = embed(changed, CountingEncoder(), tmp_path)
    assert (report.n_encoded, report.n_reused) == (2, 9)


def test_the_same_content_under_many_ids_is_encoded_once(tmp_path: Path) -> None:
    photo, encoder = saved(picture()), CountingEncoder("image")
    items = [(f"shirt-{size}", f"{size}.png") for size in ("s", "m", "l", "xl")]
    report = embed(
        items, encoder, tmp_path, reader=InMemoryReader({f"{size}.png": photo for size in ("s", "m", "l", "xl")})
    )
    assert (report.n_items, report.n_encoded, report.n_duplicates, encoder.n_forward) == (4, 1, 3, 1)
    assert report.n_saved == 3
    assert report.saved_device_s == pytest.approx(3 * report.device_s)
    vectors, present = gather(tmp_path, encoder.space, list(report.content_hashes.values()))
    assert present.all()
    assert (vectors == vectors[0]).all()


@pytest.mark.parametrize("shard_size", [100, 1])
def test_the_same_pixels_in_other_bytes_are_encoded_once(tmp_path: Path, shard_size: int) -> None:
    image = picture(40, 40)
    contents = {f"{level}.png": saved(image, compress_level=level) for level in (0, 3, 9)}
    contents |= {"other.png": saved(picture(40, 40, seed=5)), "lossless.webp": saved(image, "WEBP", lossless=True)}
    encoder = PixelEncoder()
    items: list[Item] = [(name.split(".")[0], name) for name in contents]
    report = embed(items, encoder, tmp_path, reader=InMemoryReader(contents), shard_size=shard_size)
    assert (report.n_encoded, report.n_same, report.n_duplicates) == (2, 3, 0)
    vectors, present = gather(tmp_path, encoder.space, [report.content_hashes[item_id] for item_id, _ in items])
    assert present.all()
    assert (vectors[[0, 1, 2, 4]] == vectors[0]).all()
    assert not (vectors[3] == vectors[0]).all()
    again = embed(items, encoder, tmp_path, reader=InMemoryReader(contents), shard_size=shard_size)
    assert (again.n_encoded, again.n_reused) == (0, 5)


def test_white_space_alone_does_not_make_a_text_another_content(tmp_path: Path) -> None:
    report = embed([("a", "two  dogs\n"), ("b", " two dogs")], CountingEncoder(), tmp_path)
    assert (report.n_encoded, report.n_duplicates) == (1, 1)


def test_one_bad_picture_harms_nobody(tmp_path: Path) -> None:
    good, reader = pictures(5)
    cut = saved(picture(200, 200))[:2000]
    reader.contents |= {"cut.png": cut, "twin.png": cut, "url": Refused("timeout", "no answer within 5 s")}
    bad: list[Item] = [("cut", "cut.png"), ("twin", "twin.png"), ("gone", "no-such.jpg"), ("url", "url")]
    items = [good[0], *bad[:2], good[1], *bad[2:], *good[2:]]
    report = embed(items, CountingEncoder("image"), tmp_path / "mixed", reader=reader, shard_size=2)
    rejected = {each.item_id: (each.reason, each.reference) for each in report.rejected}
    assert rejected == {
        "cut": ("damaged", "cut.png"),
        "twin": ("damaged", "twin.png"),
        "gone": ("not_found", "no-such.jpg"),
        "url": ("timeout", "url"),
    }
    alone = embed(good, CountingEncoder("image"), tmp_path / "alone", reader=reader, shard_size=2)
    assert report.content_hashes == alone.content_hashes
    hashes, space = list(alone.content_hashes.values()), FakeEncoder("image").space
    for mixed, by_themselves in zip(
        gather(tmp_path / "mixed", space, hashes), gather(tmp_path / "alone", space, hashes), strict=True
    ):
        assert (mixed == by_themselves).all()


def test_what_was_refused_is_not_tried_again_until_it_is_asked_for(tmp_path: Path) -> None:
    items, reader = pictures(3)
    reader.contents["1.png"] = reader.contents["1.png"][:40]
    first = embed(items, CountingEncoder("image"), tmp_path, reader=reader)
    before = files(tmp_path)
    again = embed(items, CountingEncoder("image"), tmp_path, reader=reader)
    assert [each.reason for each in again.rejected] == [each.reason for each in first.rejected] == ["damaged"]
    assert files(tmp_path) == before
    retried = embed(items, CountingEncoder("image"), tmp_path, reader=reader, retry_refused=True)
    assert len(retried.rejected) == 1
    assert len(ShardStore.open(tmp_path, FakeEncoder("image").space).shards) == 2


def test_a_content_that_works_at_the_second_try_is_no_longer_refused(tmp_path: Path) -> None:
    assert embed(texts(4), NanEncoder(), tmp_path).n_failed == 1
    assert embed(texts(4), CountingEncoder(), tmp_path, retry_refused=True).n_failed == 0
    report = embed(texts(4), NanEncoder(), tmp_path)
    assert (report.n_failed, report.n_reused, len(report.content_hashes)) == (0, 4, 4)


def test_an_unchanged_picture_is_not_even_read_again(tmp_path: Path) -> None:
    items, reader = pictures(5)
    reader.stamps = dict.fromkeys(reader.contents, "as it was")
    options = {"references": tmp_path / "references", "shard_size": 2}
    embed(items, CountingEncoder("image"), tmp_path / "store", reader=reader, **options)
    reader.n_reads = 0
    report = embed(items, CountingEncoder("image"), tmp_path / "store", reader=reader, **options)
    assert (reader.n_reads, report.n_reused, len(report.content_hashes)) == (0, 5, 5)
    reader.stamps["3.png"], reader.contents["3.png"] = "changed", saved(picture(8, 8, seed=99))
    report = embed(items, CountingEncoder("image"), tmp_path / "store", reader=reader, **options)
    assert (reader.n_reads, report.n_encoded) == (1, 1)


def test_another_encoder_reads_a_content_that_only_its_hash_is_known_of(tmp_path: Path) -> None:
    items, reader = pictures(3)
    reader.stamps = dict.fromkeys(reader.contents, "as it was")
    embed(items, CountingEncoder("image"), tmp_path / "one", reader=reader, references=tmp_path / "references")
    report = embed(items, PixelEncoder(), tmp_path / "two", reader=reader, references=tmp_path / "references")
    assert report.n_encoded == 3


def test_what_was_read_before_a_kill_is_not_read_again(tmp_path: Path) -> None:
    items, reader = pictures(6)
    reader.stamps = dict.fromkeys(reader.contents, "as it was")
    options = {"references": tmp_path / "references", "shard_size": 2, "limits": LIMITS, "readers": 1}
    with pytest.raises(KeyboardInterrupt):
        embed(items, CountingEncoder("image", stop_after=2), tmp_path / "store", reader=reader, **options)
    with (tmp_path / "references" / "references.log").open("a") as log:
        log.write('["torn')
    reader.n_reads = 0
    embed(items, CountingEncoder("image"), tmp_path / "store", reader=reader, **options)
    assert reader.n_reads <= 2  # of the shard that was lost
    assert [path.name for path in (tmp_path / "references").iterdir()] == ["references.parquet"]


def test_an_item_without_content_is_absent_and_not_rejected(tmp_path: Path) -> None:
    report = embed([("a", None), ("c", "words")], CountingEncoder(), tmp_path)
    assert (report.n_items, report.n_absent, report.n_failed, report.n_encoded) == (2, 1, 0, 1)
    report = embed([("a", None)], CountingEncoder("image"), tmp_path / "image", reader=InMemoryReader({}))
    assert (report.n_items, report.n_absent, report.n_failed, report.n_encoded) == (1, 1, 0, 0)


def test_no_batch_crosses_a_shard(tmp_path: Path) -> None:
    items, reader = pictures(13)
    encoder = CountingEncoder("image")
    embed(items, encoder, tmp_path, reader=reader, shard_size=6, limits=LIMITS)
    assert encoder.batch_sizes == [4, 2, 4, 2, 1]  # 6 + 6 + 1 items in batches of at most 4


@pytest.mark.parametrize("modality", ["text", "image"])
def test_stopped_at_any_batch_and_run_again_the_store_has_the_same_bytes(tmp_path: Path, modality: str) -> None:
    items, reader = (texts(22), None) if modality == "text" else pictures(22)
    if reader is not None:
        reader.contents["5.png"] = saved(picture(90, 90))[:900]
    else:
        items[5] = ("bad", " ")
    options = {"reader": reader, "shard_size": 6, "limits": LIMITS}
    undisturbed = CountingEncoder(modality)
    embed(items, undisturbed, tmp_path / "undisturbed", **options)
    for stop in range(len(undisturbed.batch_sizes)):
        folder = tmp_path / f"stopped-{stop}"
        stopped, again = CountingEncoder(modality, stop_after=stop), CountingEncoder(modality)
        with pytest.raises(KeyboardInterrupt):
            embed(items, stopped, folder, **options)
        embed(items, again, folder, **options)
        assert files(folder) == files(tmp_path / "undisturbed")
        assert stopped.n_forward + again.n_forward - undisturbed.n_forward <= 6  # lost: at most one shard


CHILD = """
import os, signal, sys
from pathlib import Path
from embeddings.embed import EmbedOptions, embed_items
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
embed_items(items, FakeEncoder("text"), Path(sys.argv[1]), options=EmbedOptions(shard_size=6))
"""


@pytest.mark.parametrize("n_fsyncs", [0, 1, 2, 3, 6, 17])
def test_killed_between_any_two_writes_and_run_again_the_store_has_the_same_bytes(
    tmp_path: Path, n_fsyncs: int
) -> None:
    # The manifest and the folder, then for each shard its file, the folder, its marker, the folder: 2 + 4 x 4 syncs.
    embed(texts(22), FakeEncoder("text"), tmp_path / "undisturbed", shard_size=6)
    killed = tmp_path / "killed"
    command = [sys.executable, "-c", CHILD, str(killed), str(n_fsyncs)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    committed = len(ShardStore.open(killed, FakeEncoder("text").space).shards)
    encoder = CountingEncoder()
    embed(texts(22), encoder, killed, shard_size=6)
    assert encoder.n_forward == max(22 - 6 * committed, 0)
    assert committed >= (n_fsyncs - 2) // 4
    assert files(killed) == files(tmp_path / "undisturbed")


class NanEncoder(CountingEncoder):
    def forward(self, features: Sequence[Features]) -> Vectors:
        vectors = super().forward(features).copy()
        poisoned = [at for at, item in enumerate(features) if (item == self.preprocess("film number 3")).all()]
        vectors[poisoned] = np.nan
        return vectors


def test_a_content_without_a_finite_vector_is_rejected_now_and_on_every_rerun(tmp_path: Path) -> None:
    for n_encoded in (8, 0):
        report = embed(texts(8), NanEncoder(), tmp_path, shard_size=4)
        assert report.n_encoded == n_encoded
        assert [(rejected.item_id, rejected.reason) for rejected in report.rejected] == [("item-3", "not_finite")]
        assert "item-3" not in report.content_hashes


def test_a_store_of_another_space_is_refused(tmp_path: Path) -> None:
    embed(texts(3), FakeEncoder("text"), tmp_path)
    with pytest.raises(SpaceMismatch, match="dim: 64 is not 32"):
        embed(texts(3), FakeEncoder("text", dim=32), tmp_path)


def test_two_jobs_never_write_to_one_store(tmp_path: Path) -> None:
    inside, leave = threading.Event(), threading.Event()

    class Slow(InMemoryReader):
        def read(self, reference: str) -> bytes:
            inside.set()
            assert leave.wait(20)
            return super().read(reference)

    slow = Slow({"a.png": saved(picture(8, 8))})
    job = threading.Thread(
        target=embed, args=([("a", "a.png")], FakeEncoder("image"), tmp_path), kwargs={"reader": slow}
    )
    job.start()
    assert inside.wait(20)
    try:
        with pytest.raises(EnvironmentProblem, match="another embedding job"):
            embed(*pictures(1)[:1], FakeEncoder("image"), tmp_path, reader=slow)
    finally:
        leave.set()
        job.join()


def test_progress_ends_with_everything_seen_and_encoded(tmp_path: Path) -> None:
    calls: list[EmbedProgress] = []
    embed_items(texts(10), FakeEncoder("text"), tmp_path, options=EmbedOptions(shard_size=4), on_progress=calls.append)
    assert (calls[-1].n_seen, calls[-1].n_encoded) == (10, 10)
    assert [call.n_encoded for call in calls] == sorted(call.n_encoded for call in calls)
    assert all(0 <= call.busy <= 1 for call in calls)


def test_contents_are_read_as_a_stream(tmp_path: Path) -> None:
    encoder, ahead = CountingEncoder("image"), []

    class Watched(InMemoryReader):
        def read(self, reference: str) -> bytes:
            content = super().read(reference)
            ahead.append(self.n_reads - encoder.n_forward)
            return content

    items, reader = pictures(200)
    embed(items, encoder, tmp_path, reader=Watched(reader.contents), shard_size=50, limits=LIMITS, readers=2)
    assert max(ahead) <= 2 * 2 + 2 * 4 + 4 + 2  # being read, being prepared, one batch, and what is on its way


def test_the_store_remembers_which_item_has_which_content(tmp_path: Path) -> None:
    report = embed(texts(5), FakeEncoder("text"), tmp_path)
    assert read_items(tmp_path) == report.content_hashes
    assert list(report.content_hashes) == [item_id for item_id, _ in texts(5)]
