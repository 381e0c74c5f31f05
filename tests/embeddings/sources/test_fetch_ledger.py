"""What the fetch ledger remembers over kills, damage and other processes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from embeddings.sources.blobs import BlobFolder
from embeddings.sources.fetch import Failed, Fetched
from embeddings.sources.fetch_ledger import FetchLedger, Got
from recsys.errors import EnvironmentProblem

A, B = "a" * 64, "b" * 64
GONE = Failed("not_found", "shop.example answers 404", 1)


def log_of(folder: Path) -> Path:
    return folder / "ledger.jsonl"


def test_what_is_recorded_is_found_again(tmp_path: Path) -> None:
    ledger = FetchLedger(tmp_path)
    ledger.record("http://x/a", Fetched(b"abc", 2, etag='"1"', last_modified="yesterday"), A)
    ledger.record("http://x/b", GONE)
    for each in (ledger, FetchLedger(tmp_path)):
        assert each.find("http://x/a") == Got(A)
        assert each.find("http://x/b") == GONE
        assert each.find("http://x/c") is None
        assert each.reasons() == {"not_found": 1}
    first, second = (json.loads(line) for line in log_of(tmp_path).read_text().splitlines())
    assert first == {
        "url": "http://x/a", "tries": 2, "sha256": A, "size": 3, "etag": '"1"', "last_modified": "yesterday"
    }  # fmt: skip
    assert second == {"url": "http://x/b", "tries": 1, "reason": "not_found", "message": GONE.message}


def test_the_last_record_of_a_url_counts(tmp_path: Path) -> None:
    ledger = FetchLedger(tmp_path)
    ledger.record("u", GONE)
    ledger.record("u", Fetched(b"", 1), A)
    ledger.record("u", Fetched(b"", 1), B)
    assert FetchLedger(tmp_path).find("u") == Got(B)


def test_retrying_forgets_the_failures_of_earlier_runs_alone(tmp_path: Path) -> None:
    earlier = FetchLedger(tmp_path)
    earlier.record("old", GONE)
    earlier.record("good", Fetched(b"", 1), A)
    ledger = FetchLedger(tmp_path, retry_failed=True)
    ledger.record("new", GONE)
    assert (ledger.find("old"), ledger.find("good"), ledger.find("new")) == (None, Got(A), GONE)
    ledger.record("old", GONE)
    assert ledger.find("old") == GONE


def test_a_log_cut_anywhere_loses_its_last_record_alone(tmp_path: Path) -> None:
    whole = FetchLedger(tmp_path)
    whole.record("http://x/a", Fetched(b"", 1), A)
    first = log_of(tmp_path).stat().st_size
    whole.record("http://x/ü", Failed("tls", "line\nbreak", 1))
    data = log_of(tmp_path).read_bytes()
    for cut in range(first, len(data)):
        folder = tmp_path / str(cut)
        folder.mkdir()
        log_of(folder).write_bytes(data[:cut])
        ledger = FetchLedger(folder)
        assert (ledger.find("http://x/a"), ledger.find("http://x/ü")) == (Got(A), None)
        ledger.record("http://x/c", Fetched(b"", 1), B)
        for each in (ledger, FetchLedger(folder)):
            assert each.find("http://x/a") == Got(A)
            assert each.find("http://x/c") == Got(B)


def test_a_line_that_makes_no_sense_is_passed_over(tmp_path: Path) -> None:
    bad = [b"\xff\xfe", b"[1]", b'{"url": 5}', b'{"url":"u","tries":1,"sha256":"no hex"}', b'{"url":"u","reason":"?"}']
    log_of(tmp_path).write_bytes(b"\n".join([*bad, b""]))
    ledger = FetchLedger(tmp_path)
    assert ledger.find("u") is None
    ledger.record("u", GONE)
    assert FetchLedger(tmp_path).find("u") == GONE


def test_two_processes_see_each_other(tmp_path: Path) -> None:
    one, other = FetchLedger(tmp_path), FetchLedger(tmp_path)
    one.record("u", GONE)
    assert other.find("u") == GONE
    other.record("v", Fetched(b"", 1), A)
    one.record("w", GONE)
    assert one.find("v") == Got(A)


def test_a_log_of_repeats_is_compacted_under_a_reader_that_goes_on(tmp_path: Path) -> None:
    reader = FetchLedger(tmp_path)
    line = b'{"url":"u","tries":%d,"reason":"timeout","message":""}\n'
    with log_of(tmp_path).open("ab") as stream:
        stream.writelines(line % n for n in range(1, 2001))
    assert reader.find("u") == Failed("timeout", "", 2000)
    compacted = FetchLedger(tmp_path)
    assert log_of(tmp_path).read_bytes() == line % 2000
    compacted.record("v", Fetched(b"", 1), A)
    reader.record("w", Fetched(b"", 1), B)
    for each in (reader, compacted, FetchLedger(tmp_path)):
        assert (each.find("v"), each.find("w")) == (Got(A), Got(B))
        assert each.find("u") == Failed("timeout", "", 2000)
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.jsonl"]


WRITER = """
import sys
from pathlib import Path
from embeddings.sources.blobs import BlobFolder
from embeddings.sources.fetch import Fetched
from embeddings.sources.fetch_ledger import FetchLedger

folder, name = Path(sys.argv[1]), sys.argv[2]
ledger, blobs = FetchLedger(folder), BlobFolder(folder / "blobs")
for n in range(1_000_000):
    content = f"{name} {n}".encode() * 50
    ledger.record(f"http://{name}/{n}", Fetched(content, 1), blobs.write(content))
    print(n, flush=True)
"""


def test_killed_writers_lose_nothing_that_they_had_recorded(tmp_path: Path) -> None:
    writers = {
        name: subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name], stdout=subprocess.PIPE, text=True)
        for name in ("one", "two")
    }
    said: dict[str, list[str]] = {name: [] for name in writers}

    def listen(name: str) -> None:
        stdout = writers[name].stdout
        assert stdout is not None
        said[name].extend(stdout)

    listening = [threading.Thread(target=listen, args=[name]) for name in writers]
    for thread in listening:
        thread.start()
    while any(len(lines) < 50 for lines in said.values()):
        time.sleep(0.01)
    for writer in writers.values():
        writer.kill()
        writer.wait()
    for thread in listening:
        thread.join()
    ledger, blobs = FetchLedger(tmp_path), BlobFolder(tmp_path / "blobs")
    for name, lines in said.items():
        done = [int(line) for line in lines if line.endswith("\n")]
        assert done == list(range(len(done)))
        for n in done:
            got = ledger.find(f"http://{name}/{n}")
            assert isinstance(got, Got)
            assert blobs.read(got.sha256) == f"{name} {n}".encode() * 50
    ledger.record("http://after/", Fetched(b"", 1), A)
    assert FetchLedger(tmp_path).find("http://after/") == Got(A)


def test_many_threads_may_write(tmp_path: Path) -> None:
    ledger = FetchLedger(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: ledger.record(f"u{n}", Fetched(b"", 1), A), range(200)))
    again = FetchLedger(tmp_path)
    assert all(again.find(f"u{n}") == Got(A) for n in range(200))


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match="cannot be written"):
        FetchLedger(tmp_path / "file" / "fetched")
    with pytest.raises(EnvironmentProblem, match="cannot be written"):
        BlobFolder(tmp_path / "file" / "blobs").write(b"x")


def test_a_full_disk_ends_in_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    ledger = FetchLedger(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(EnvironmentProblem, match="No space left"):
            ledger.record("u", GONE)
    ledger.record("u", GONE)
    assert FetchLedger(tmp_path).find("u") == GONE
