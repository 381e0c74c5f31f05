from __future__ import annotations

import threading
from pathlib import Path

import pytest

from recsys.errors import CorruptArtifact, MissingArtifact
from recsys.storage.artifact_files import is_complete, latest, read_artifact, stage, verify, write_artifact
from tests.recsys.storage.kills import killed_at_every_step

MADE_FROM = {"data": "abc", "dim": 64}


def fill(folder: Path) -> dict[str, int]:
    (folder / "shards").mkdir(exist_ok=True)
    (folder / "shards" / "0.bin").write_bytes(b"zero")
    (folder / "figures.json").write_bytes(b"{}")
    return {"rows": 2}


def never(folder: Path) -> dict[str, int]:
    raise AssertionError("a complete artifact is made again")


def test_an_artifact_is_there_with_all_it_was_made_from(tmp_path: Path) -> None:
    path = write_artifact(tmp_path, "model", "k1", MADE_FROM, fill)
    assert path == tmp_path / "artifacts" / "model" / "k1" == stage(tmp_path, "model", "k1")
    read, manifest = read_artifact(tmp_path, "model")
    assert read == path
    assert (manifest.kind, manifest.key, manifest.made_from) == ("model", "k1", MADE_FROM)
    assert (sorted(manifest.files), manifest.summary) == (["figures.json", "shards/0.bin"], {"rows": 2})
    assert manifest.files["shards/0.bin"].size_bytes == 4
    assert verify(tmp_path, "model", "k1") == (path, manifest)


def test_a_complete_artifact_is_not_made_again_but_becomes_the_latest(tmp_path: Path) -> None:
    write_artifact(tmp_path, "model", "k1", MADE_FROM, fill)
    write_artifact(tmp_path, "model", "k2", MADE_FROM, fill)
    assert latest(tmp_path, "model") == "k2"
    write_artifact(tmp_path, "model", "k1", MADE_FROM, never)
    assert latest(tmp_path, "model") == "k1"


def test_a_missing_artifact_names_the_job_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(MissingArtifact, match="recsys train"):
        latest(tmp_path, "model")
    with pytest.raises(MissingArtifact, match="recsys validate"):
        read_artifact(tmp_path, "dataset")
    with pytest.raises(MissingArtifact, match=r"k9.*recsys embed"):
        read_artifact(tmp_path, "content", "k9")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = write_artifact(tmp_path, "model", "k1", MADE_FROM, fill)
    (path / "figures.json").chmod(0o644)
    (path / "figures.json").write_bytes(b"[]")
    with pytest.raises(CorruptArtifact, match=r"figures\.json differs .*recsys train"):
        verify(tmp_path, "model")
    (path / "figures.json").unlink()
    with pytest.raises(CorruptArtifact, match=r"figures\.json is not there"):
        verify(tmp_path, "model")
    (path / "manifest.json").write_bytes(b"{}")
    with pytest.raises(CorruptArtifact, match="no manifest"):
        read_artifact(tmp_path, "model")


@pytest.mark.parametrize(("kind", "key"), [("objects", "k"), ("model", "../x"), ("", "k"), ("model", "k.tmp")])
def test_names_that_are_no_folder_of_their_own_are_refused(tmp_path: Path, kind: str, key: str) -> None:
    with pytest.raises(ValueError, match="plain folder names"):
        write_artifact(tmp_path, kind, key, MADE_FROM, fill)


def test_a_failed_run_leaves_no_artifact_and_its_leftovers_go_with_the_next_of_any_key(tmp_path: Path) -> None:
    def fail(folder: Path) -> dict[str, int]:
        fill(folder)
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError):
        write_artifact(tmp_path, "model", "k1", MADE_FROM, fail)
    assert not is_complete(tmp_path, "model", "k1")
    write_artifact(tmp_path, "model", "k2", MADE_FROM, fill)
    assert sorted(path.name for path in (tmp_path / "artifacts" / "model").iterdir()) == ["current", "k2"]


def test_a_resumable_job_finds_what_a_failed_run_left(tmp_path: Path) -> None:
    def one_shard_a_run(folder: Path) -> dict[str, int]:
        done = len(list(folder.glob("*.bin")))
        (folder / f"{done}.bin").write_bytes(b"shard")
        if done < 2:
            raise RuntimeError("killed")
        return {"runs": done + 1}

    for _ in range(2):
        with pytest.raises(RuntimeError):
            write_artifact(tmp_path, "embeddings", "k1", MADE_FROM, one_shard_a_run, resumable=True)
        write_artifact(tmp_path, "embeddings", "other", MADE_FROM, fill)
    write_artifact(tmp_path, "embeddings", "k1", MADE_FROM, one_shard_a_run, resumable=True)
    _, manifest = read_artifact(tmp_path, "embeddings", "k1")
    assert (sorted(manifest.files), manifest.summary) == (["0.bin", "1.bin", "2.bin"], {"runs": 3})


@pytest.mark.parametrize("resumable", [False, True])
def test_a_kill_at_any_step_leaves_the_artifact_whole_or_absent_and_the_next_run_completes_it(
    tmp_path: Path, resumable: bool
) -> None:
    n_absent = 0
    for root in killed_at_every_step(
        tmp_path,
        prepare=lambda root: None,
        work=lambda root: write_artifact(root, "model", "k1", MADE_FROM, fill, resumable=resumable),
    ):
        if is_complete(root, "model", "k1"):
            verify(root, "model", "k1")
        n_absent += not is_complete(root, "model", "k1")
        write_artifact(root, "model", "k1", MADE_FROM, fill, resumable=resumable)
        _, manifest = verify(root, "model")
        assert sorted(manifest.files) == ["figures.json", "shards/0.bin"]
        assert sorted(path.name for path in (root / "artifacts" / "model").iterdir()) == [
            "current",
            "k1",
        ]
    assert n_absent > 5


def test_a_resumed_job_may_write_into_its_files_even_after_a_kill_at_the_end(tmp_path: Path) -> None:
    working = stage(tmp_path, "model", "k1").with_name("k1.partial")
    working.mkdir(parents=True)
    for name in ("0.bin", "manifest.json"):
        (working / name).write_bytes(b"{}")
        (working / name).chmod(0o444)

    def go_on(folder: Path) -> dict[str, int]:
        assert [(path.name, path.stat().st_mode & 0o777) for path in folder.iterdir()] == [("0.bin", 0o644)]
        return {}

    path = write_artifact(tmp_path, "model", "k1", MADE_FROM, go_on, resumable=True)
    assert (path / "0.bin").stat().st_mode & 0o777 == 0o444


def test_of_two_runs_with_one_key_the_second_waits_and_finds_the_work_done(tmp_path: Path) -> None:
    filling, go_on = threading.Event(), threading.Event()

    def slowly(folder: Path) -> dict[str, int]:
        filling.set()
        assert go_on.wait(20)
        return fill(folder)

    first = threading.Thread(target=write_artifact, args=(tmp_path, "model", "k1", MADE_FROM, slowly))
    second = threading.Thread(target=write_artifact, args=(tmp_path, "model", "k1", MADE_FROM, never))
    first.start()
    assert filling.wait(20)
    second.start()
    second.join(0.1)
    assert second.is_alive()
    go_on.set()
    first.join(20)
    second.join(20)
    assert not second.is_alive()
    verify(tmp_path, "model", "k1")
