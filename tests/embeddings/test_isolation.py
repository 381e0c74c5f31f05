"""The pool where nothing goes wrong: order, look-ahead, shared memory, and what is left when it is closed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embeddings.isolation import DecodeLimits, DecodePool
from embeddings.preprocess.build import build_preprocessor
from embeddings.preprocess.features import Features
from embeddings.preprocess.image import ImagePreprocessConfig
from embeddings.preprocess.waveform_frames import WaveformFramesConfig
from embeddings.refused import Refused
from recsys.errors import CorruptArtifact, InputError, MissingArtifact
from tests.embeddings.conftest import picture, saved
from tests.embeddings.sounds import saved as saved_sound
from tests.embeddings.sounds import sweep

HALF = (0.5, 0.5, 0.5)
PREPROCESSING = ImagePreprocessConfig(size=64, resize_to=64, mean=HALF, std=HALF).model_dump_json()
PICTURES = [saved(picture(40 + seed, 50, seed=seed), "JPEG") for seed in range(6)]
CONTENTS = [*PICTURES, b"", b"no picture", PICTURES[0][:900], saved(picture(30, 30), "GIF")]


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with DecodePool(PREPROCESSING, workers=2) as opened:
        yield opened


def direct(content: bytes, preprocessing: str = PREPROCESSING) -> Features | str:
    try:
        return build_preprocessor(preprocessing, None)(content)
    except InputError as error:
        return str(error)


def assert_same(got: Features | Refused, expected: Features | str) -> None:
    if isinstance(expected, str):
        assert isinstance(got, Refused)
        assert str(got) == expected
    else:
        assert not isinstance(got, Refused)
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(got, expected)


def children() -> set[int]:
    """Child processes of this one, zombies included."""
    tasks = Path("/proc/self/task").iterdir()
    return {int(pid) for task in tasks for pid in (task / "children").read_text().split()}


@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers_gives_what_the_preprocessor_gives_in_the_order_given(workers: int) -> None:
    contents = CONTENTS * 4
    with DecodePool(PREPROCESSING, workers=workers) as pool:
        got = list(pool.map(enumerate(contents)))
        assert len(pool.worker_pids) == workers
    assert [key for key, _ in got] == list(range(len(contents)))
    for (_, answer), content in zip(got, contents, strict=True):
        assert_same(answer, direct(content))


@settings(max_examples=20, deadline=None)
@given(picks=st.lists(st.integers(0, len(CONTENTS) - 1), max_size=80), n_taken=st.integers(0, 80))
def test_nothing_is_lost_or_twice_wherever_the_consumer_stops(pool: DecodePool, picks: list[int], n_taken: int) -> None:
    results = pool.map((at, CONTENTS[pick]) for at, pick in enumerate(picks))
    taken = [pair for _, pair in zip(range(n_taken), results, strict=False)]
    results.close()
    assert [key for key, _ in taken] == list(range(min(n_taken, len(picks))))
    for (_, answer), pick in zip(taken, picks, strict=False):
        assert_same(answer, direct(CONTENTS[pick]))


def test_no_worker_is_started_before_there_is_work() -> None:
    with DecodePool(PREPROCESSING, workers=2) as pool:
        assert list(pool.map([])) == []
        assert pool.worker_pids == []
        list(pool.map([(0, PICTURES[0])]))
        assert len(pool.worker_pids) == 1


def test_features_of_any_type_and_size_come_through() -> None:
    large = ImagePreprocessConfig(size=700, resize_to=700, mean=HALF, std=HALF).model_dump_json()
    fake = '{"kind": "fake", "modality": "image", "n_meaning": 12}'
    for preprocessing in (large, fake):
        with DecodePool(preprocessing, workers=1) as pool:
            ((_, got),) = pool.map([(0, PICTURES[0])])
        assert_same(got, direct(PICTURES[0], preprocessing))


def test_features_are_the_consumers_own() -> None:
    with DecodePool(PREPROCESSING, workers=1, limits=DecodeLimits(lookahead_items=1)) as pool:
        results = [features for _, features in pool.map(enumerate(PICTURES))]
    for got, content in zip(results, PICTURES, strict=True):
        assert_same(got, direct(content))
        assert isinstance(got, np.ndarray)
        assert got.flags.writeable


def test_contents_are_pulled_no_further_ahead_than_allowed() -> None:
    n_pulled = 0

    def source() -> Iterator[tuple[int, bytes]]:
        nonlocal n_pulled
        for number in range(100):
            n_pulled += 1
            yield number, PICTURES[0]

    with DecodePool(PREPROCESSING, workers=2, limits=DecodeLimits(lookahead_items=4)) as pool:
        results = pool.map(source())
        assert n_pulled == 0
        for n_taken in range(1, 30):
            next(results)
            assert n_pulled <= n_taken - 1 + 2 * 4


def test_look_ahead_is_bounded_in_bytes_too() -> None:
    content = PICTURES[0] + bytes(100_000)
    n_pulled = 0

    def source() -> Iterator[tuple[int, bytes]]:
        nonlocal n_pulled
        for number in range(20):
            n_pulled += 1
            yield number, content

    limit = 250_000  # two of them leave room, the third fills it
    with DecodePool(PREPROCESSING, workers=1, limits=DecodeLimits(lookahead_bytes=limit)) as pool:
        features = direct(content)
        assert isinstance(features, np.ndarray)
        smallest = min(len(content), features.nbytes)
        for n_taken, _ in enumerate(pool.map(source()), start=1):
            assert n_pulled - n_taken <= limit // smallest + 1


def test_a_content_above_the_byte_limit_still_goes_alone() -> None:
    with DecodePool(PREPROCESSING, workers=2, limits=DecodeLimits(lookahead_bytes=1)) as pool:
        got = list(pool.map(enumerate(CONTENTS)))
    for (_, answer), content in zip(got, CONTENTS, strict=True):
        assert_same(answer, direct(content))


def test_an_error_of_the_source_comes_after_everything_before_it(pool: DecodePool) -> None:
    def source() -> Iterator[tuple[int, bytes]]:
        yield 0, PICTURES[0]
        yield 1, PICTURES[1]
        raise OSError("the disk is gone")

    results = pool.map(source())
    assert [next(results)[0], next(results)[0]] == [0, 1]
    with pytest.raises(OSError, match="the disk is gone"):
        next(results)


def test_what_cannot_be_sent_is_refused_by_name() -> None:
    with DecodePool(PREPROCESSING, workers=1, limits=DecodeLimits(content_bytes=1 << 20)) as pool:
        contents = [("text", "a title"), ("long", bytes((1 << 20) + 1)), ("good", PICTURES[0])]
        got = dict(pool.map(contents))  # type: ignore[arg-type]
        assert {key: getattr(answer, "reason", None) for key, answer in got.items()} == {
            "text": "wrong_type",
            "long": "too_large",
            "good": None,
        }
        assert pool.statistics.n_refused == {"too_large": 1, "wrong_type": 1}


def test_what_a_long_content_took_is_given_back() -> None:
    """Shared memory is allocated page by page; 20 MB more are not there any more when the answer is."""
    with DecodePool(PREPROCESSING, workers=1) as pool:
        list(pool.map([(0, PICTURES[0])]))
        before = slot_bytes(pool.worker_pids[0])
        ((_, got),) = pool.map([(1, PICTURES[0] + bytes(20_000_000))])
        assert_same(got, direct(PICTURES[0]))
        assert slot_bytes(pool.worker_pids[0]) <= before + 2_000_000


def test_what_long_features_took_is_given_back() -> None:
    """A minute of sound of half a megabyte becomes frames of 7 MB."""
    preprocessing = WaveformFramesConfig().model_dump_json()
    short, minute = (saved_sound(sweep(seconds, 8_000), 8_000, "WAV", "PCM_U8") for seconds in (1, 60))
    with DecodePool(preprocessing, workers=1) as pool:
        list(pool.map([(0, short)]))
        before = slot_bytes(pool.worker_pids[0])
        ((_, got),) = pool.map([(1, minute)])
        assert not isinstance(got, Refused)
        assert got.nbytes > 7_000_000
        assert slot_bytes(pool.worker_pids[0]) <= before + 2_000_000


def test_a_sound_of_another_rate_takes_no_memory_that_its_worker_would_be_replaced_for() -> None:
    sounds = [saved_sound(sweep(3.0, rate), rate, "FLAC", "PCM_16") for rate in (44_100, 48_000, 16_000, 22_050)]
    with DecodePool(WaveformFramesConfig().model_dump_json(), workers=1) as pool:
        assert all(not isinstance(got, Refused) for _, got in pool.map(enumerate(sounds)))
        assert pool.statistics.n_workers_replaced == 0


def slot_bytes(pid: int) -> int:
    (slots,) = [fd for fd in Path(f"/proc/{pid}/fd").iterdir() if "decode-slots" in os.readlink(fd)]
    return slots.stat().st_blocks * 512


def test_the_statistics_count_everything_once() -> None:
    with DecodePool(PREPROCESSING, workers=2) as pool:
        n_refused = sum(isinstance(answer, Refused) for _, answer in pool.map(enumerate(CONTENTS * 3)))
        statistics = pool.statistics
    assert n_refused == sum(statistics.n_refused.values()) == 3 * 4
    assert statistics.n_decoded == 3 * 6
    assert statistics.n_workers_replaced == 0
    assert statistics.cpu_s > 0.0


def test_nothing_is_left_of_a_pool_however_it_ends() -> None:
    n_before, children_before = len(os.listdir("/proc/self/fd")), children()
    for n_taken in (0, 1, len(CONTENTS)):
        with DecodePool(PREPROCESSING, workers=2) as pool:
            results = pool.map(enumerate(CONTENTS))
            for _ in range(n_taken):
                next(results)
        pool.close()
    with pytest.raises(KeyError):
        consume_and_fail()
    assert len(os.listdir("/proc/self/fd")) == n_before
    assert children() == children_before


def test_a_closed_pool_starts_nothing_any_more() -> None:
    with DecodePool(PREPROCESSING, workers=1) as pool:
        results = pool.map(enumerate(CONTENTS))
        next(results)
    with pytest.raises(ValueError, match="the pool is closed"):
        list(results)
    assert pool.worker_pids == []


def consume_and_fail() -> None:
    with DecodePool(PREPROCESSING, workers=2) as pool:
        for _ in pool.map(enumerate(PICTURES)):
            raise KeyError("the consumer fails")


def test_a_description_that_no_preprocessor_fits_is_refused_at_once() -> None:
    with pytest.raises(CorruptArtifact, match="unknown to this version"):
        DecodePool('{"kind": "smell"}', workers=1)
    with pytest.raises(MissingArtifact, match="tokenizer"):
        DecodePool('{"kind": "text", "tokenizer_sha256": "0", "max_length": 8}', workers=1)
    with pytest.raises(ValueError, match="at least one worker"):
        DecodePool(PREPROCESSING, workers=0)
    with pytest.raises(ValueError, match="lookahead_items"):
        DecodeLimits(lookahead_items=0)
