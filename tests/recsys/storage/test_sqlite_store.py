"""What only a file can do to us: processes killed while they write, other processes, damage."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from recsys.errors import StoreUnavailable
from recsys.ports import Store
from recsys.storage import sqlite_connections
from recsys.storage.sqlite_store import SqliteStore
from recsys.storage.urls import open_store
from tests.contracts.events import LATER, NOON, event, shown_to

_WRITER = """
import sys
from recsys.storage.urls import open_store
from tests.contracts.events import event

store, first, size = open_store(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
for start in range(first, first + 100_000, size):
    store.append([event(number, user=f"u{number % 3}") for number in range(start, start + size)])
    print(start + size, flush=True)
"""


def start_writer(url: str, first: int, size: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _WRITER, url, str(first), str(size)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def kill_after(writer: subprocess.Popen[str], n_acknowledged: int) -> int:
    """Number of the first event that was never acknowledged."""
    assert writer.stdout is not None
    for _ in range(n_acknowledged):
        writer.stdout.readline()
    writer.send_signal(signal.SIGKILL)
    rest = writer.stdout.read().split("\n")
    writer.wait()
    return int(rest[-2]) if len(rest) > 1 else -1


def assert_log_and_states_agree(store: Store) -> None:
    history = defaultdict(list)
    for _, interaction in store.read():
        history[interaction.user_id].append((interaction.occurred_at, interaction.item_id))
    for user in ("u0", "u1", "u2"):
        # A history is in the order of time, which two writers at once do not arrive in.
        in_order = [item_id for _, item_id in sorted(history[user])]
        assert [item.item_id for item in store.user_state(user).history] == in_order[-200:]


@pytest.mark.parametrize("n_acknowledged", [1, 7, 20])
def test_every_acknowledged_event_survives_kill_9(tmp_path: Path, n_acknowledged: int) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    acknowledged = 0
    writer = start_writer(url, 0, 4)
    acknowledged = max(kill_after(writer, n_acknowledged), 4 * n_acknowledged)
    store = open_store(url)
    logged = [interaction.event_id for _, interaction in store.read()]
    assert logged[:acknowledged] == [f"e{number}" for number in range(acknowledged)]
    assert len(logged) % 4 == 0  # a batch is there whole or not at all
    assert_log_and_states_agree(store)
    assert store.append([event(0)]) == ["duplicate"]
    store.close()


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    writers = [start_writer(url, first, 10) for first in (0, 500_000)]
    for writer in writers:
        kill_after(writer, 10)
    store = open_store(url)
    logged = [int(interaction.event_id[1:]) for _, interaction in store.read()]
    assert len(logged) == len(set(logged))
    for first in (0, 500_000):
        own = [number for number in logged if first <= number < first + 500_000]
        assert own == list(range(first, first + len(own)))
        assert len(own) >= 100
    assert_log_and_states_agree(store)
    store.close()


def test_a_file_that_is_no_database_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"a text, and a long one at that" * 100)
    with pytest.raises(StoreUnavailable, match=r"store\.db.*no SQLite database"):
        open_store(f"sqlite:///{tmp_path}/store.db")


def test_a_store_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    open_store(f"sqlite:///{tmp_path}/store.db").close()
    with sqlite3.connect(tmp_path / "store.db") as connection:
        connection.execute("pragma user_version = 99")
    connection.close()
    with pytest.raises(StoreUnavailable, match="newer version"):
        open_store(f"sqlite:///{tmp_path}/store.db")


def test_a_folder_that_is_a_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    with pytest.raises(StoreUnavailable, match="can be written"):
        open_store(f"sqlite:///{tmp_path}/data/store.db")


def test_a_failed_batch_leaves_nothing_behind(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/store.db")
    with sqlite3.connect(tmp_path / "store.db") as connection:
        connection.execute(
            "create trigger full before update on user_states begin select raise(abort, 'disk is full'); end"
        )
    connection.close()
    store.append([event(1)])
    with pytest.raises(StoreUnavailable, match="Free disk space"):
        store.append([event(2, user="bob"), event(3)])
    assert [interaction.event_id for _, interaction in store.read()] == ["e1"]
    assert store.user_state("bob").history == ()
    store.close()


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/store.db")
    store.close()
    with pytest.raises(StoreUnavailable, match="was closed"):
        store.user_state("ann")


GONE = "someone@example.org"


def fill(store: Store) -> None:
    """Many users beside one, whose state grows with each event, so that pages split and cells move."""
    for number in range(0, 900, 3):
        store.append(
            [event(number, user=GONE), event(number + 1, user=f"u{number % 40}"), event(number + 2, user=GONE)]
        )
        store.append_exposures([shown_to(GONE, number), shown_to("bob", number)], served_keep_s=600)
    store.append([event(5_000, user="anon-77-of-them")])
    store.block(GONE, ["i1"])
    store.merge_users("anon-77-of-them", GONE, now=NOON)


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.glob("store.db*")))


def test_no_byte_of_an_erased_users_id_stays_in_the_files(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/store.db")
    fill(store)
    assert GONE.encode() in bytes_of(tmp_path)
    receipt = store.erase_user(GONE, now=LATER)
    assert (receipt.n_events, receipt.n_exposures, receipt.not_erased) == (601, 300, ())
    for name in (GONE, "anon-77-of-them"):
        assert name.encode() not in bytes_of(tmp_path)
    assert len(list(store.exposures())) == 300
    store.close()


def test_copies_of_an_erased_users_rows_in_free_space_are_cleaned_too(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/store.db")
    fill(store)
    with sqlite3.connect(tmp_path / "store.db") as other:
        other.execute("pragma secure_delete = off")
        other.execute("delete from events where user_id = ?", (GONE,))
    other.close()
    assert store.erase_user(GONE, now=LATER).n_events == 1
    assert GONE.encode() not in bytes_of(tmp_path)
    store.close()


def make_first_version(path: Path) -> None:
    with sqlite3.connect(path) as earlier:
        for table in ("served", "erased", "merges", "drained", "taken"):
            earlier.execute(f"drop table {table}")
        earlier.execute("pragma user_version = 1")
    earlier.close()


def test_a_file_of_the_first_version_is_read_on(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    store = open_store(url)
    store.append([event(1)])
    ((cursor, _),) = store.read()
    store.close()
    make_first_version(tmp_path / "store.db")
    store = open_store(url)
    assert store.append([event(1), event(2)]) == ["duplicate", "accepted"]
    assert [found.event_id for _, found in store.read(cursor)] == ["e2"]
    assert store.erase_user("ann", now=LATER).n_events == 2
    store.close()
    open_store(url).close()


def test_what_somebody_reads_meanwhile_is_named_in_the_receipt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_connections, "BUSY_TIMEOUT_S", 0.1)
    store = open_store(f"sqlite:///{tmp_path}/store.db")
    fill(store)
    reader = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    reader.execute("begin")
    reader.execute("select count(*) from events").fetchone()
    try:
        receipt = store.erase_user(GONE, now=LATER)
        assert receipt.n_events == 601
        assert ["write-ahead log" in sentence for sentence in receipt.not_erased] == [True]
    finally:
        reader.close()
    assert store.erase_user(GONE, now=LATER).not_erased == ()
    assert GONE.encode() not in bytes_of(tmp_path)
    store.close()


def test_what_was_served_is_forgotten_in_time(tmp_path: Path) -> None:
    now = [1_000.0]
    store = SqliteStore(tmp_path / "store.db", clock=lambda: now[0])
    store.note_served("ann", np.array([1], np.uint64), 1_000_000, 60)
    now[0] += 59.9
    assert len(store.user_state("ann", with_served=True).served) == 1
    now[0] += 0.2
    assert len(store.user_state("ann", with_served=True).served) == 0
    store.note_served("bob", np.array([1], np.uint64), 1_060_000, 60)
    store.close()
    with sqlite3.connect(tmp_path / "store.db") as file:
        assert file.execute("select user_id from served").fetchall() == [("bob",)]
    file.close()


def test_only_a_day_of_what_is_taken_is_kept(tmp_path: Path) -> None:
    now = [NOON.timestamp()]
    store = SqliteStore(tmp_path / "store.db", clock=lambda: now[0])
    store.append([event(n, minute=0) for n in range(5)])
    now[0] += 86_400
    store.append([event(10, minute=1_440)])
    store.close()
    with sqlite3.connect(tmp_path / "store.db") as file:
        assert file.execute("select item_id from taken").fetchall() == [("i10",)]
    file.close()
