"""Progress bars say how far a job is, and leave a log readable."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from jobs import progress
from jobs.progress import progress_bar


def shown(monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool) -> str:
    sink = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=sink, force_terminal=is_terminal, width=120))
    with progress_bar("embed text", "items") as bar:
        for done in range(0, 1001, 100):
            bar(done, 1000)
    return sink.getvalue()


def test_a_terminal_sees_how_far_the_job_is_and_how_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, is_terminal=True)
    assert "embed text" in text
    assert "1000/1000" in text
    assert "items/s" in text


def test_a_log_has_one_line_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, is_terminal=False)
    assert len(text.strip().splitlines()) == 1
    assert "1000/1000" in text


def fail_half_way() -> None:
    with progress_bar("embed text") as bar:
        bar(1, 2)
        raise ValueError("broken")


def test_a_job_that_fails_ends_its_bar_and_the_next_one_can_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="broken"):
        fail_half_way()
    assert "1000/1000" in shown(monkeypatch, is_terminal=False)
