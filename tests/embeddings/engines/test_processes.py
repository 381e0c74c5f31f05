"""The engine of several processes: the local engine's bytes, and no way to lose or harm anything by dying."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from embeddings.embed import EmbedProgress, EmbedReport, embed_items
from embeddings.engines.run import EngineConfig, embed_with_engine
from embeddings.engines.spec import open_contents
from embeddings.fake_encoder import FakeEncoder
from recsys.errors import EnvironmentProblem, SpaceMismatch
from tests.embeddings.engines.catalogues import (
    descendants,
    image_spec,
    markers,
    options,
    pictures,
    stored_bytes,
    text_spec,
    texts,
)

TWO = EngineConfig(kind="processes", workers=2)
MISBEHAVING = ("-m", "tests.embeddings.engines.misbehaving_worker")


def misbehaving(how: str, *, workers: int = 2) -> EngineConfig:
    return EngineConfig(kind="processes", workers=workers, command=(sys.executable, *MISBEHAVING, how))


def figures(report: EmbedReport) -> tuple[object, ...]:
    names = ("space_id", "compute", "n_items", "n_absent", "n_encoded", "n_reused", "n_duplicates", "n_same")
    rejected = [(each.item_id, each.reason) for each in report.rejected]
    return (*(getattr(report, name) for name in names), rejected, dict(report.content_hashes))


def test_two_processes_give_the_bytes_and_the_report_of_the_local_engine(tmp_path: Path) -> None:
    alone = embed_items(texts(40), FakeEncoder("text"), tmp_path / "alone", options=options())
    together = embed_with_engine(texts(40), text_spec(tmp_path / "two"), TWO, options=options())
    assert figures(together) == figures(alone)
    assert together.n_encoded == 40 - 3  # one absent, one empty, one double
    assert stored_bytes(tmp_path / "two") == stored_bytes(tmp_path / "alone")


def test_pictures_are_read_and_decoded_by_the_workers(tmp_path: Path) -> None:
    items = pictures(tmp_path / "pictures", 20)
    spec = image_spec(tmp_path / "two", tmp_path / "pictures", decode_workers=1)
    reader = open_contents(spec)
    alone = embed_items(items, FakeEncoder("image"), tmp_path / "alone", reader=reader, options=options())
    together = embed_with_engine(items, spec, TWO, reader=reader, options=options())
    assert figures(together) == figures(alone)
    assert {each.item_id for each in together.rejected} == {"nowhere", "item-5"}
    assert stored_bytes(tmp_path / "two") == stored_bytes(tmp_path / "alone")


def test_a_rerun_starts_no_worker(tmp_path: Path) -> None:
    embed_with_engine(texts(20), text_spec(tmp_path / "store"), TWO, options=options())
    before = stored_bytes(tmp_path / "store")
    nobody = EngineConfig(kind="processes", command=("/nonexistent",))
    report = embed_with_engine(texts(20), text_spec(tmp_path / "store"), nobody, options=options())
    assert (report.n_encoded, report.n_reused) == (0, 19)  # all but the absent one; the double too
    assert stored_bytes(tmp_path / "store") == before


def test_a_killed_worker_is_replaced_and_nothing_is_lost(tmp_path: Path) -> None:
    embed_items(texts(120), FakeEncoder("text"), tmp_path / "undisturbed", options=options())
    killed: list[int] = []

    def kill_one(progress: EmbedProgress) -> None:
        if progress.n_encoded and not killed:
            killed.extend(pid for pid, command in descendants(os.getpid()) if "misbehaving_worker slow" in command)
            os.kill(killed[0], signal.SIGKILL)
            assert len(markers(tmp_path / "store")) < 20, "it was killed too late to be missed"

    report = embed_with_engine(
        texts(120), text_spec(tmp_path / "store"), misbehaving("slow"), options=options(), on_progress=kill_one
    )
    assert len(killed) == 2
    assert report.n_encoded == 120 - 3
    assert stored_bytes(tmp_path / "store") == stored_bytes(tmp_path / "undisturbed")


JOB = """
import sys
from pathlib import Path
from embeddings.engines.run import embed_with_engine
from tests.embeddings.engines.catalogues import options, text_spec, texts
from tests.embeddings.engines.test_processes import misbehaving
embed_with_engine(texts(120), text_spec(Path(sys.argv[1])), misbehaving("slow"), options=options())
"""


def test_a_killed_job_takes_its_workers_along_and_loses_no_more_than_a_shard_each(tmp_path: Path) -> None:
    embed_items(texts(120), FakeEncoder("text"), tmp_path / "undisturbed", options=options())
    store = tmp_path / "store"
    job = subprocess.Popen([sys.executable, "-c", JOB, str(store)])
    while len(markers(store)) < 3:
        assert job.poll() is None
        time.sleep(0.01)
    workers = [pid for pid, command in descendants(job.pid) if "misbehaving_worker" in command]
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    assert len(workers) == 2
    for pid in workers:
        wait_until_gone(pid)
    committed = {path.stem: json.loads(path.read_bytes())["n_rows"] for path in markers(store)}
    assert len(committed) < 20, "it was killed too late"
    report = embed_with_engine(texts(120), text_spec(store), TWO, options=options())
    assert report.n_encoded == 120 - 3 - sum(committed.values())  # all that was committed was kept
    assert stored_bytes(store) == stored_bytes(tmp_path / "undisturbed")


def test_a_shard_at_which_workers_die_is_named_and_the_others_are_committed(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with pytest.raises(EnvironmentProblem, match=r"3 workers died.*shard 2 .*SIGABRT.*cursed") as raised:
        embed_with_engine(texts(40), text_spec(store), misbehaving("dies-at 13 of"), options=options())
    assert "shard 3" not in str(raised.value)
    n_shards = 7  # of 38 contents, 6 a shard
    assert [path.stem for path in markers(store)] == [f"shard-{at:06d}" for at in range(n_shards) if at != 2]
    embed_items(texts(40), FakeEncoder("text"), store, options=options())  # another engine may go on
    embed_items(texts(40), FakeEncoder("text"), tmp_path / "undisturbed", options=options())
    assert stored_bytes(store) == stored_bytes(tmp_path / "undisturbed")


def test_workers_that_cannot_start_end_the_job_in_their_own_words(tmp_path: Path) -> None:
    engine = EngineConfig(kind="processes", command=("sh", "-c", "echo no such thing >&2; exit 3"))
    with pytest.raises(EnvironmentProblem, match=r"without encoding anything.*no such thing"):
        embed_with_engine(texts(9), text_spec(tmp_path), engine, options=options())


def test_a_worker_with_other_weights_refuses_to_work(tmp_path: Path) -> None:
    other = FakeEncoder("text", seed=1).space
    spec = text_spec(tmp_path).model_copy(update={"space": other})
    with pytest.raises(SpaceMismatch):
        embed_with_engine(texts(9), spec, TWO, options=options())


def test_a_disk_that_is_full_ends_the_job_in_one_clear_error(tmp_path: Path) -> None:
    limited = ("sh", "-c", 'ulimit -f 2; exec "$@"', "sh", *TWO.command)  # files of more than 1,024 bytes are refused
    engine = EngineConfig(kind="processes", workers=2, command=limited)
    with pytest.raises(EnvironmentProblem, match=r"cannot write .*shard-0000.*run the same command"):
        embed_with_engine(texts(40), text_spec(tmp_path / "store"), engine, options=options(20))
    embed_items(texts(40), FakeEncoder("text"), tmp_path / "store", options=options(20))
    embed_items(texts(40), FakeEncoder("text"), tmp_path / "undisturbed", options=options(20))
    assert stored_bytes(tmp_path / "store") == stored_bytes(tmp_path / "undisturbed")


def test_a_helper_from_another_shell_takes_shards_and_ends_with_the_job(tmp_path: Path) -> None:
    spec, said = text_spec(tmp_path), []

    def help_it() -> None:
        spec_path = tmp_path / "todo" / "spec.json"
        while not spec_path.exists():
            time.sleep(0.01)
        arguments = [*TWO.command, str(spec_path)]
        said.append(subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=True).stdout)

    helper = threading.Thread(target=help_it)
    helper.start()
    report = embed_with_engine(texts(40), spec, misbehaving("late", workers=1), options=options())
    helper.join()
    events = [json.loads(line)["event"] for line in said[0].splitlines()]
    assert events.count("done") >= 1  # nobody else worked before
    assert report.n_encoded == 40 - 3


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 30
    while _lives(pid):
        assert time.monotonic() < deadline, f"process {pid} outlives its job"
        time.sleep(0.01)


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"  # a dead one whose parent is not here
