from __future__ import annotations

import os
from pathlib import Path

from recsys.storage.atomic import append_durably, place_file, remove_leftovers, write_atomic
from tests.recsys.storage.kills import killed_at_every_step


def test_a_kill_at_any_step_leaves_the_old_bytes_or_the_new(tmp_path: Path) -> None:
    seen = set()
    for root in killed_at_every_step(
        tmp_path,
        prepare=lambda root: write_atomic(root / "file", b"old"),
        work=lambda root: write_atomic(root / "file", b"new"),
    ):
        seen.add((root / "file").read_bytes())
        remove_leftovers(root)
        assert os.listdir(root) == ["file"]
    assert seen == {b"old", b"new"}


def test_a_torn_line_is_closed_before_the_next(tmp_path: Path) -> None:
    path = tmp_path / "log"
    append_durably(path, "one")
    path.write_bytes(path.read_bytes() + b"tor")
    append_durably(path, "two")
    assert path.read_text().splitlines() == ["one", "tor", "two"]


def test_a_read_only_file_is_linked_and_any_other_is_copied(tmp_path: Path) -> None:
    finished, growing = tmp_path / "finished", tmp_path / "growing"
    finished.write_bytes(b"done")
    finished.chmod(0o444)
    growing.write_bytes(b"not yet")
    place_file(finished, tmp_path / "a")
    place_file(growing, tmp_path / "b")
    assert (tmp_path / "a").samefile(finished)
    growing.write_bytes(b"changed")
    assert (tmp_path / "b").read_bytes() == b"not yet"
