"""An exposure that was spooled is in the store exactly once, whatever is killed, full, torn or away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest

from recsys.errors import StoreUnavailable
from recsys.events import Exposure, SpoolRange, StoredExposures, hash64
from recsys.ports import Store
from recsys.storage import drainer as drainer_module
from recsys.storage import spool as spool_module
from recsys.storage.drainer import BATCH, PAUSES, Drainer
from recsys.storage.memory_store import MemoryStore
from recsys.storage.spool import Spool
from recsys.storage.urls import open_store
from tests.contracts.events import NOON
from tests.contracts.test_event_log_contract import exposure
from tests.worlds.flaky_store import FlakyStore

APPENDS = """
import sys
from pathlib import Path
from recsys.storage.drainer import Drainer
from recsys.storage.spool import Spool
from recsys.storage.urls import open_store
from tests.contracts.test_event_log_contract import exposure

folder, url, first = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
spool = Spool(folder, file_bytes=4_000)
Drainer(spool, open_store(url), interval_s=0.001).start()
for number in range(first, first + 1_000_000):
    spool.append(exposure(number))
    print(number, flush=True)
"""


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = Spool(tmp_path / "spool")
    yield opened
    opened.close()


def stored(store: Store) -> list[str]:
    return [record.recommendation_id for _, record in store.exposures()]


def names(count: int, start: int = 0) -> list[str]:
    return [f"r{number}" for number in range(start, start + count)]


def left_by_a_process(folder: Path, count: int, file_bytes: int = 4_000_000) -> list[Path]:
    """The files of a spool whose process is gone."""
    earlier = Spool(folder, file_bytes=file_bytes)
    for number in range(count):
        earlier.append(exposure(number))
    files = [file.path for file in earlier.files()]
    earlier.close()
    return files


def test_what_is_spooled_comes_to_the_store_whole_and_in_order(spool: Spool, store: Store) -> None:
    drainer = Drainer(spool, store)
    for number in range(1_000):
        spool.append(exposure(number))
        if number in (10, 500):
            drainer.drain_now()
    assert drainer.drain_now().n_stored == 1_000
    assert [record for _, record in store.exposures()] == [exposure(number) for number in range(1_000)]
    assert (spool.pending_bytes, list(spool.folder.glob("*/*"))) == (0, [])


def test_a_killed_process_loses_nothing_and_repeats_nothing(store_url: str, tmp_path: Path) -> None:
    """Three times: a child spools and drains at once until kill -9; every append that it told of is stored once."""
    folder, told = tmp_path / "spool", 0
    for round_number in range(3):
        first = round_number * 1_000_000
        child = subprocess.Popen(
            [sys.executable, "-c", APPENDS, str(folder), store_url, str(first)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) >= first + 300 + 57 * round_number:
                break
        os.kill(child.pid, signal.SIGKILL)
        rest = child.stdout.read().split("\n")[:-1]
        child.wait()
        told = int(rest[-1]) - first + 1 if rest else int(line) - first + 1
        store = open_store(store_url)
        own = Spool(folder)
        Drainer(own, store).drain_now()
        own.close()
        mine = [name for name in stored(store) if first <= int(name[1:]) < first + 1_000_000]
        # One more than was told of may have been written before the kill.
        assert mine in (names(told, first), names(told + 1, first))
        store.close()
    assert list(folder.iterdir()) == []


class OneRound(Event):
    """Lets the drainer run one round."""

    n_waits = 0

    def wait(self, timeout: float | None = None) -> bool:
        self.n_waits += 1
        return self.n_waits > 1


class Pauses(Event):
    """What the drainer was to wait between batches; it does not."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout or 0.0)
        return False


def watched(spool: Spool, store: Store, n_batches: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Drainer, Pauses]:
    """A drainer before whom so much lies, and its pauses."""
    for number in range(n_batches * BATCH):
        spool.append(exposure(number))
    drainer, pauses = Drainer(spool, store), Pauses()
    monkeypatch.setattr(drainer, "_stopping", OneRound())
    monkeypatch.setattr(drainer, "_somebody_waits", pauses)
    return drainer, pauses


def test_in_the_background_a_pause_follows_each_batch(
    spool: Spool, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(range(1000))
    monkeypatch.setattr(drainer_module, "thread_time", lambda: next(times))
    drainer, pauses = watched(spool, store, 6, monkeypatch)
    drainer.run()
    assert len(stored(store)) == 6 * BATCH
    assert pauses.seconds == [PAUSES] * 6


def test_there_is_no_pause_where_much_waits(spool: Spool, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    drainer, pauses = watched(spool, store, 6, monkeypatch)
    (file,) = spool.files()
    monkeypatch.setattr(drainer_module, "HURRY_BYTES", file.size // 2)
    drainer.run()
    assert len(stored(store)) == 6 * BATCH
    assert 1 <= len(pauses.seconds) <= 4


def test_who_asks_for_it_now_waits_for_no_pause(spool: Spool, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    drainer, pauses = watched(spool, store, 3, monkeypatch)
    assert drainer.drain_now().n_stored == 3 * BATCH
    assert pauses.seconds == []


def test_who_asks_for_it_now_ends_the_pauses_of_the_round_under_way(
    spool: Spool, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drainer_module, "PAUSES", 1e9)
    for number in range(4 * BATCH):
        spool.append(exposure(number))
    drainer = Drainer(spool, store, interval_s=0.001)
    drainer.start()
    while not stored(store):
        pass
    asked = Thread(target=drainer.drain_now, daemon=True)
    asked.start()
    asked.join(30)
    assert not asked.is_alive()
    assert len(stored(store)) == 4 * BATCH
    drainer.stop()


def test_what_is_new_does_not_wait_for_all_that_an_ended_process_left(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = left_by_a_process(tmp_path / "spool", 60, file_bytes=2_000)
    assert len(files) > 2
    own = Spool(tmp_path / "spool")
    drainer = Drainer(own, store)
    monkeypatch.setattr(drainer, "_stopping", OneRound())
    drainer.run()
    assert 0 < len(stored(store)) < 60
    assert sum(file.exists() for file in files) == len(files) - 1
    drainer.drain_now()
    assert stored(store) == names(60)
    assert not any(file.exists() for file in files)
    own.close()


def test_a_batch_is_stored_once_even_when_its_answer_was_lost(spool: Spool, store: Store) -> None:
    class AnswersLost(MemoryStore):
        def append_exposures(self, exposures, spooled=None, *, served_keep_s=0.0):  # type: ignore[no-untyped-def]
            store.append_exposures(exposures, spooled, served_keep_s=served_keep_s)
            raise StoreUnavailable("the store did not answer in 0.5 s")

    for number in range(450):
        spool.append(exposure(number))
    losing = Drainer(spool, AnswersLost())
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            losing.drain_now()
    assert len(stored(store)) == BATCH
    Drainer(spool, store).drain_now()
    assert stored(store) == names(450)


def test_the_store_tells_how_far_it_has_a_spool(store: Store) -> None:
    batch = [exposure(number) for number in range(3)]
    assert store.append_exposures(batch, SpoolRange("s", 0, 300)) == StoredExposures(300, 3, 0)
    assert store.append_exposures(batch, SpoolRange("s", 0, 300)) == StoredExposures(300, 0, 0)
    assert store.append_exposures(batch, SpoolRange("s", 100, 400)) == StoredExposures(300, 0, 0)
    assert store.append_exposures([exposure(3)], SpoolRange("s", 300, 400)) == StoredExposures(400, 1, 0)
    assert store.append_exposures([exposure(4)], SpoolRange("other", 0, 100)) == StoredExposures(100, 1, 0)
    assert store.append_exposures([exposure(5)]) == StoredExposures(0, 1, 0)
    assert store.append_exposures([]) == StoredExposures(0, 0, 0)
    assert stored(store) == names(6)


def test_a_spool_goes_on_where_the_store_has_it_after_the_store_was_put_back(store: Store) -> None:
    """A store from yesterday's copy knows less of a spool than was removed from the disk already."""
    assert store.append_exposures([exposure(1)], SpoolRange("s", 5_000, 5_100)) == StoredExposures(5_100, 1, 0)


def test_the_files_of_a_process_that_ended_are_taken_over_in_order(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    assert len(left_by_a_process(folder, 100, file_bytes=1_000)) > 5
    now = Spool(folder)
    assert Drainer(now, store).drain_now().n_stored == 100
    assert stored(store) == names(100)
    assert [each.name for each in folder.iterdir()] == [now.spool_id]


def test_the_files_of_a_living_process_are_left_alone(spool: Spool) -> None:
    spool.append(exposure(1))
    other, store = Spool(spool.folder), MemoryStore()
    Drainer(other, store).drain_now()
    assert stored(store) == []
    assert len(list(spool.folder.glob("*/*.spool"))) == 1
    assert other.pending_bytes == spool.pending_bytes > 0


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_record_torn_by_the_end_of_its_process_is_skipped_and_counted(tmp_path: Path, cut: int) -> None:
    (path,) = left_by_a_process(tmp_path, 3)
    data = path.read_bytes()
    path.write_bytes(data[:-cut])
    store = MemoryStore()
    done = Drainer(Spool(tmp_path), store).drain_now()
    assert (done.n_stored, done.n_torn, stored(store)) == (2, 1, ["r0", "r1"])
    assert not path.exists()


def test_zeros_and_flipped_bits_are_no_records(tmp_path: Path) -> None:
    (path,) = left_by_a_process(tmp_path, 3)
    data = bytearray(path.read_bytes())
    data[len(data) * 2 // 3 + 20] ^= 1
    path.write_bytes(bytes(data) + bytes(4_096))
    store = MemoryStore()
    done = Drainer(Spool(tmp_path), store).drain_now()
    assert (done.n_torn, stored(store)) == (1, ["r0", "r1"])


def test_a_whole_record_that_is_no_exposure_does_not_stand_in_the_way(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.append(exposure(0))
    with monkeypatch.context() as patched:
        patched.setattr(spool_module, "pack_exposure", lambda exposure: b"another version's")
        spool.append(exposure(1))
    spool.append(exposure(2))
    store = MemoryStore()
    done = Drainer(spool, store).drain_now()
    assert (done.n_torn, stored(store)) == (1, ["r0", "r2"])


def test_while_the_store_is_away_the_spool_grows_to_its_bound_and_then_refuses(tmp_path: Path) -> None:
    store, spool = FlakyStore(), Spool(tmp_path, max_bytes=20_000, file_bytes=3_000)
    drainer = Drainer(spool, store)
    store.up = False
    n_taken = 0
    while spool.n_refused < 5:
        with suppress(StoreUnavailable):
            spool.append(exposure(n_taken))
            n_taken += 1
        if n_taken % 10 == 0:
            with pytest.raises(StoreUnavailable, match="does not answer"):
                drainer.drain_now()
    assert n_taken > 50
    with pytest.raises(StoreUnavailable, match="is full"):
        spool.append(exposure(0))
    assert 19_000 < spool.pending_bytes <= 20_000
    assert "does not answer" in drainer.done.failure
    store.up = True
    drainer.drain_now()
    assert (stored(store), drainer.done.failure, spool.pending_bytes) == (names(n_taken), "", 0)
    spool.append(exposure(n_taken))


def test_what_others_left_counts_towards_the_bound(tmp_path: Path) -> None:
    left_by_a_process(tmp_path, 100)
    with pytest.raises(StoreUnavailable, match="is full"):
        Spool(tmp_path, max_bytes=5_000).append(exposure(1))


def test_a_disk_that_takes_half_a_record_loses_that_one_only(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.append(exposure(0))
    write = os.write
    with monkeypatch.context() as patched:
        patched.setattr(spool_module.os, "write", lambda descriptor, data: write(descriptor, data[: len(data) // 2]))
        with pytest.raises(StoreUnavailable, match="Free disk space"):
            spool.append(exposure(1))
    spool.append(exposure(2))
    store = MemoryStore()
    done = Drainer(spool, store).drain_now()
    assert (done.n_torn, spool.n_refused, stored(store)) == (0, 1, ["r0", "r2"])


def test_a_spool_forgets_a_user_who_was_erased(spool: Spool, store: Store) -> None:
    for number in range(4):  # ann's are the even ones
        spool.append(exposure(number))
    store.erase_user("ann", now=NOON + timedelta(seconds=1))
    spool.append(replace(exposure(4), occurred_at=NOON + timedelta(seconds=2)))
    done = Drainer(spool, store).drain_now()
    assert (done.n_stored, done.n_dropped, stored(store)) == (3, 2, ["r1", "r3", "r4"])
    assert not any(b"ann" in path.read_bytes() for path in spool.folder.glob("*/*"))


def test_what_is_drained_counts_as_served(spool: Spool, store: Store) -> None:
    spool.append(exposure(2))
    Drainer(spool, store, served_keep_s=lambda: 60).drain_now()
    state = store.user_state("ann", with_served=True)
    assert state.served.tolist() == [hash64("i1"), hash64("i2")]
    assert np.array_equal(state.served_at_ms, [int(NOON.timestamp() * 1000)] * 2)


def test_a_thread_drains_and_stopping_takes_the_rest(spool: Spool, store: Store) -> None:
    drainer = Drainer(spool, store, interval_s=0.001)
    drainer.start()
    for number in range(500):
        spool.append(exposure(number))
    drainer.stop()
    assert stored(store) == names(500)


def test_a_closed_spool_takes_no_more(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.close()
    spool.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        spool.append(exposure(1))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="Check that it can be written"):
        Spool(tmp_path / "file")


def test_an_exposure_of_500_long_ids_fits(spool: Spool) -> None:
    ids = tuple("日" * 250 + str(number) for number in range(500))
    large: Exposure = replace(exposure(1), item_ids=ids, propensities=(0.5,) * 500, sources=("popular",) * 500)
    spool.append(large)
    store = MemoryStore()
    Drainer(spool, store).drain_now()
    assert [record for _, record in store.exposures()] == [large]
