"""What only a file can do to us: processes killed while they write, other processes, damage."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from recsys.errors import StoreUnavailable
from recsys.ports import Store
from recsys.storage.urls import open_store
from tests.contracts.events import event

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
