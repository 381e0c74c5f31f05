"""recsys.toml is edited under a running watcher."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recsys.config import load_config
from recsys.errors import ConfigError
from recsys.workspace import CONFIG_NAME, WorkspaceConfig
from serving.live_config import ConfigWatcher
from serving.telemetry import LOGGER

FIRST = "[recommender.rerank]\ndiversity = 0.1\n"
SECOND = "[recommender.rerank]\ndiversity = 0.7\n[surfaces.home]\nlimit = 5\n"
BROKEN = "[recommender.rerank]\ndiversity = 7\n"


def write(folder: Path, text: str) -> None:
    """As an editor does: another file in its place."""
    (folder / "new").write_text(text, encoding="utf-8")
    os.replace(folder / "new", folder / CONFIG_NAME)


def watcher_of(folder: Path, **options: object) -> ConfigWatcher:
    write(folder, FIRST)
    running = load_config(folder / CONFIG_NAME, WorkspaceConfig)
    return ConfigWatcher(folder, running, **options)  # type: ignore[arg-type]


def eventually(holds: Callable[[], bool], within_s: float = 10) -> bool:
    until = time.monotonic() + within_s
    while not holds() and time.monotonic() < until:
        time.sleep(0.01)
    return holds()


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())

    def __call__(self) -> list[str]:
        return self.said


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler, level = Lines(), LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    yield handler
    LOGGER.setLevel(level)
    LOGGER.removeHandler(handler)


def test_an_edit_takes_effect_under_a_running_watcher_and_a_request_keeps_what_it_began_with(tmp_path: Path) -> None:
    watcher = watcher_of(tmp_path, poll_s=0.02)
    watcher.start()
    try:
        before = watcher.current
        assert before.recommender.rerank.diversity == 0.1
        write(tmp_path, SECOND)
        assert eventually(lambda: watcher.current.recommender.rerank.diversity == 0.7)
        assert watcher.current.surfaces.resolve("home").limit == 5
        assert before.recommender.rerank.diversity == 0.1
        write(tmp_path, BROKEN)
        assert eventually(lambda: watcher.problem is not None)
        assert watcher.current.recommender.rerank.diversity == 0.7
        write(tmp_path, FIRST)
        assert eventually(lambda: watcher.current.recommender.rerank.diversity == 0.1)
        assert watcher.problem is None
    finally:
        watcher.stop()


def test_an_invalid_file_keeps_the_old_settings_and_is_logged_once(tmp_path: Path, lines: Lines) -> None:
    watcher = watcher_of(tmp_path)
    write(tmp_path, BROKEN)
    assert [watcher.check() for _ in range(3)] == [False] * 3
    assert watcher.problem is not None
    assert "recommender.rerank.diversity" in watcher.problem
    assert watcher.current.recommender.rerank.diversity == 0.1
    assert len(lines()) == 1
    write(tmp_path, "[recommender.rerank]\ndiversity =")
    watcher.check()
    assert "not valid TOML" in str(watcher.problem)
    assert len(lines()) == 2


def test_a_file_that_is_gone_is_a_problem_until_it_is_back(tmp_path: Path, lines: Lines) -> None:
    watcher = watcher_of(tmp_path)
    watcher.check()
    (tmp_path / CONFIG_NAME).unlink()
    assert [watcher.check() for _ in range(2)] == [False] * 2
    assert "is not there" in str(watcher.problem)
    assert len(lines()) == 1
    write(tmp_path, FIRST)
    assert not watcher.check()
    assert watcher.problem is None


def test_other_sections_wait_for_a_restart_and_say_so(tmp_path: Path, lines: Lines) -> None:
    watcher = watcher_of(tmp_path)
    write(tmp_path, SECOND + "[serving]\nport = 9\n[gate]\nmax_loss = 0.5\n")
    assert watcher.check()
    assert watcher.waiting_for_restart == ("gate", "serving")
    assert watcher.current.recommender.rerank.diversity == 0.7
    assert lines() == ["edited sections wait for a restart", "other settings are in force"]
    write(tmp_path, SECOND)
    assert not watcher.check()
    assert watcher.waiting_for_restart == ()


def test_a_file_that_was_only_touched_or_says_the_same_changes_nothing(tmp_path: Path, lines: Lines) -> None:
    watcher = watcher_of(tmp_path)
    before = watcher.current
    watcher.check()
    os.utime(tmp_path / CONFIG_NAME, (1, 1))
    assert not watcher.check()
    write(tmp_path, FIRST + "# a remark\n")
    assert not watcher.check()
    assert watcher.current is before
    assert lines() == []


def test_two_edits_of_one_size_within_one_tick_of_the_clock_are_two(tmp_path: Path) -> None:
    watcher = watcher_of(tmp_path)
    for diversity in ("0.3", "0.4"):
        write(tmp_path, FIRST.replace("0.1", diversity))
        os.utime(tmp_path / CONFIG_NAME, (1, 1))
        assert watcher.check()
        assert watcher.current.recommender.rerank.diversity == float(diversity)


def test_more_checks_may_refuse_it_too(tmp_path: Path) -> None:
    def validate(config: WorkspaceConfig) -> None:
        if config.surfaces:
            raise ConfigError("surfaces.home.filter: no column `colour`")

    watcher = watcher_of(tmp_path, validate=validate)
    write(tmp_path, SECOND)
    assert not watcher.check()
    assert watcher.problem == "surfaces.home.filter: no column `colour`"
