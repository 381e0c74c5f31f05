"""Contents that crash, spin and hoard: each costs itself alone, and the kernel sees to it."""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
from pathlib import Path

import pytest

from embeddings.isolation import DecodeLimits, DecodePool, process
from embeddings.preprocess.features import Features
from embeddings.refused import Refused
from recsys.errors import EnvironmentProblem
from tests.worlds.hostile_decoder import PREPROCESSING, use_hostile_decoder

MIB = 1 << 20


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> None:
    use_hostile_decoder(monkeypatch)


def decoded(pool: DecodePool, *contents: bytes) -> list[Features | Refused]:
    return [answer for _, answer in pool.map(enumerate(contents))]


def reason(answer: Features | Refused) -> str | None:
    return answer.reason if isinstance(answer, Refused) else None


def assert_echoed(answers: list[Features | Refused], contents: list[bytes]) -> None:
    for answer, content in zip(answers, contents, strict=True):
        assert not isinstance(answer, Refused), answer
        assert answer.tobytes() == content


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize(
    ("content", "expected", "says", "n_replaced"),
    [
        (b"segfault", "decoder_died", "SIGSEGV", 2),
        (b"abort", "decoder_died", "SIGABRT", 2),
        (b"exit", "decoder_died", "exit code 3", 2),
        (b"spin", "decode_time", "more than 0.2 s of CPU time", 1),
        (b"sleep", "decode_time", "does not end within 1 s", 2),
        (b"allocate 300000000", "decode_memory", "more than 256 MiB", 0),
        (b"wrap", "decode_memory", "more than 256 MiB", 0),
        (b"bug with a pixel", "damaged", "RuntimeError: with a pixel", 0),
        (b"huge_features 140000000", "decode_memory", "more than 256 MiB", 0),
    ],
)
def test_a_hostile_content_is_refused_and_its_neighbours_are_not(
    content: bytes, expected: str, says: str, n_replaced: int
) -> None:
    before, after = [b"ok %d" % n for n in range(5)], [b"ok %d" % n for n in range(5, 20)]
    limits = DecodeLimits(cpu_s=0.2, wall_s=1.0 if content == b"sleep" else 30.0)
    with DecodePool(PREPROCESSING, workers=1, limits=limits) as pool:
        answers = decoded(pool, *before, content, *after)
        assert pool.statistics.n_workers_replaced == n_replaced
        assert pool.statistics.n_refused == {expected: 1}
        assert pool.statistics.cpu_s < 1.0
    refused = answers.pop(5)
    assert reason(refused) == expected
    assert says in str(refused)
    assert_echoed(answers, before + after)


@pytest.mark.usefixtures("hostile")
def test_hostile_contents_in_a_row_do_not_add_up() -> None:
    kinds = [b"segfault", b"spin", b"allocate 300000000", b"bug", b"exit"]
    contents = [content for number, kind in enumerate(kinds) for content in (kind, b"ok %d" % number)]
    with DecodePool(PREPROCESSING, workers=2, limits=DecodeLimits(cpu_s=0.1)) as pool:
        answers = decoded(pool, *contents)
    died, slow, large, broken = "decoder_died", "decode_time", "decode_memory", "damaged"
    assert [reason(answer) for answer in answers[::2]] == [died, slow, large, broken, died]
    assert_echoed(answers[1::2], contents[1::2])


@pytest.mark.usefixtures("hostile")
def test_one_death_alone_is_no_proof_against_a_content(tmp_path: Path) -> None:
    content = f"crash_once {tmp_path / 'marker'}".encode()
    with DecodePool(PREPROCESSING, workers=1) as pool:
        assert_echoed(decoded(pool, b"ok", content), [b"ok", content])
        assert pool.statistics.n_workers_replaced == 1


@pytest.mark.usefixtures("hostile")
def test_workers_that_somebody_kills_take_no_content_along() -> None:
    contents = [b"ok %d" % number for number in range(120)]
    rng = random.Random(0)
    answers = []
    with DecodePool(PREPROCESSING, workers=2, limits=DecodeLimits(lookahead_items=4)) as pool:
        for _, answer in pool.map(enumerate(contents)):
            answers.append(answer)
            if len(answers) % 20 == 0:
                os.kill(rng.choice(pool.worker_pids), signal.SIGKILL)
        assert pool.statistics.n_workers_replaced >= 1
        assert pool.statistics.n_decoded == 120
    assert_echoed(answers, contents)


@pytest.mark.usefixtures("hostile")
def test_a_worker_that_does_not_give_memory_back_is_replaced() -> None:
    contents = [b"keep %d" % (50 * MIB)] * 6  # 300 MiB in all: no single worker could keep them
    with DecodePool(PREPROCESSING, workers=1) as pool:
        assert_echoed(decoded(pool, *contents), contents)
        assert pool.statistics.n_workers_replaced == 6


@pytest.mark.usefixtures("hostile")
def test_a_small_block_above_a_large_one_does_not_cost_the_worker() -> None:
    contents = [b"pin %d" % (25 * MIB)] * 10
    with DecodePool(PREPROCESSING, workers=1) as pool:
        assert_echoed(decoded(pool, *contents), contents)
        assert pool.statistics.n_workers_replaced == 0


@pytest.mark.usefixtures("hostile")
def test_freed_memory_counts_for_no_later_content() -> None:
    contents = [b"allocate %d" % (size * MIB) for size in (1, 3, 30, 200, 5, 230, 3, 230, 100) * 5]
    with DecodePool(PREPROCESSING, workers=1) as pool:
        assert_echoed(decoded(pool, *contents), contents)
        assert pool.statistics.n_workers_replaced == 0


def test_the_kernel_holds_the_limits() -> None:
    with DecodePool(PREPROCESSING, workers=1) as pool:
        decoded(pool, b"no picture")
        pid = pool.worker_pids[0]
        limits = {line[:25].strip(): line[25:].split() for line in Path(f"/proc/{pid}/limits").read_text().splitlines()}
        address_space = int(limits["Max address space"][0])
        size = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
        # The worker is as large as when it was measured, give or take what its first content left in the heap.
        assert abs(address_space - size - 256 * MIB) < 16 * MIB
        assert limits["Max core file size"][:2] == ["1", "1"]
        assert limits["Max open files"][:2] == ["16", "16"]


@pytest.fixture
def _no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")


@pytest.mark.usefixtures("_no_programs")
def test_a_program_that_is_not_there_is_a_problem_of_the_environment() -> None:
    n_before = len(os.listdir("/proc/self/fd"))
    with DecodePool(PREPROCESSING, workers=1) as pool:
        with pytest.raises(EnvironmentProblem, match=r"cannot be started .*No such file"):
            decoded(pool, b"x")
    assert len(os.listdir("/proc/self/fd")) == n_before


def test_without_file_descriptors_there_is_an_error_and_no_leak() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    n_before = len(os.listdir("/proc/self/fd"))
    lowest_free = os.dup(0)
    os.close(lowest_free)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + 3, hard))
        with DecodePool(PREPROCESSING, workers=1) as pool:
            with pytest.raises(EnvironmentProblem, match="Too many open files"):
                decoded(pool, b"x")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(os.listdir("/proc/self/fd")) == n_before


@pytest.mark.parametrize(
    ("before", "says", "start_s"),
    [
        ("raise ImportError('no decoder here')", "no decoder here", 60.0),
        ("import os; os._exit(7)", "exit code 7", 60.0),
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL", 60.0),
        ("import time; time.sleep(60)", "not ready after 0.3 s", 0.3),
    ],
)
def test_workers_that_cannot_start_are_not_tried_for_ever(
    before: str, says: str, start_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hostile_decoder(monkeypatch, before)
    with DecodePool(PREPROCESSING, workers=2, limits=DecodeLimits(start_s=start_s)) as pool:
        with pytest.raises(EnvironmentProblem, match=f"decode workers cannot work here(.|\n)*{says}"):
            decoded(pool, b"x", b"y", b"z")


@pytest.mark.usefixtures("hostile")
def test_a_library_that_is_missing_is_no_fault_of_the_content() -> None:
    with DecodePool(PREPROCESSING, workers=1) as pool:
        assert_echoed(decoded(pool, b"ok"), [b"ok"])
        with pytest.raises(EnvironmentProblem, match="no library for sound"):
            decoded(pool, b"environment no library for sound", b"ok")
        assert pool.statistics.n_refused == {}


def test_a_decoder_that_cannot_be_built_says_so_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    use_hostile_decoder(monkeypatch)
    broken = process._BOOT.replace("HostileDecoder()", "1 / 0")
    monkeypatch.setattr(process, "_BOOT", broken)
    with DecodePool(PREPROCESSING, workers=1) as pool:
        with pytest.raises(EnvironmentProblem, match="ZeroDivisionError"):
            decoded(pool, b"x")


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize("how", ["ignored", "blocked"])
def test_what_the_parent_does_with_signals_does_not_shield_a_hostile_content(how: str) -> None:
    """Masks and ignored signals are inherited by the processes that one starts."""
    old_handler = signal.signal(signal.SIGPROF, signal.SIG_IGN) if how == "ignored" else signal.SIG_DFL
    old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPROF} if how == "blocked" else set())
    try:
        with DecodePool(PREPROCESSING, workers=1, limits=DecodeLimits(cpu_s=0.1, wall_s=20.0)) as pool:
            assert "more than 0.1 s of CPU time" in str(decoded(pool, b"spin")[0])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)
        signal.signal(signal.SIGPROF, old_handler)
