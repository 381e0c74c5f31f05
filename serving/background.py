"""A step repeated in a thread of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event, Thread

from serving.telemetry import log


class Repeating:
    """Runs `step` every so often between `start` and `stop`; whatever it raises is logged, and it is tried again."""

    def __init__(self, name: str, step: Callable[[], object], every_s: float) -> None:
        self._step = step
        self._every_s = every_s
        self._stop = Event()
        self._thread = Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when the step in work has ended (at most some seconds)."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self._step()
            except Exception:  # the thread must outlive any surprise
                log(logging.ERROR, "a background step failed and will be tried again", exc_info=True)
