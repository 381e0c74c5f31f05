"""Progress on the terminal: one bar a job, with its rate and what is left; one line at its end in a log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from recsys.storage.transfers import Transfer

OnProgress = Callable[[int, int], None]
"""Called with (done so far, total)."""

WIDTH_WITHOUT_TERMINAL = 120
_WORTH_A_LINE_BYTES = 10_000_000

console = Console(highlight=False)
if not console.is_terminal:
    console = Console(highlight=False, width=WIDTH_WITHOUT_TERMINAL)
errors = Console(highlight=False, stderr=True)


class _Rate(TextColumn):
    """Items a second since the bar began."""

    def __init__(self, unit: str) -> None:
        super().__init__("")
        self._unit = unit

    def render(self, task):  # type: ignore[no-untyped-def]
        rate = task.finished_speed or task.speed
        return console.render_str(f"[dim]{rate:,.0f} {self._unit}/s[/]" if rate else "")


@contextmanager
def progress_bar(label: str, unit: str = "items") -> Iterator[OnProgress]:
    """A bar for one job; the callable it yields takes (done, total) and may be called as often as you like."""
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=False) as progress:
        task = progress.add_task(label, total=None)

        def on_progress(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield on_progress


@contextmanager
def busy_bar(label: str, total: int, unit: str = "items") -> Iterator[Callable[[int, float], None]]:
    """A bar of an encoding job; the callable it yields takes (done so far, share of the time the device had work)."""
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        _Rate(unit),
        TextColumn("{task.fields[busy]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=False) as progress:
        task = progress.add_task(label, total=total, busy="")

        def on_progress(done: int, busy: float) -> None:
            progress.update(task, completed=done, busy=f"[dim]device busy {busy:.0%}[/]" if busy else "")

        yield on_progress


def show_transfer(transfer: Transfer) -> None:
    """A line for each large file of a release that was pulled or uploaded, or is long on its way."""
    if transfer.size_bytes < _WORTH_A_LINE_BYTES:
        return
    done, size = (n_bytes / 1e6 for n_bytes in (transfer.done_bytes, transfer.size_bytes))
    console.print(f"  {transfer.what} {transfer.name}: {done:,.0f} of {size:,.0f} MB in {transfer.seconds:,.1f} s")
