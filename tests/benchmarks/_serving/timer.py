"""A timer of the kernel with nanoseconds: the timers of event loops round to milliseconds, which a request takes less
than."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable

CLOCK_MONOTONIC = 1
ABSOLUTE = 1
NONBLOCKING, CLOSED_ON_EXEC = 0o4000, 0o2000000
EIGHT = 8


class _Times(ctypes.Structure):
    """`struct itimerspec`."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class PreciseTimer:
    """Calls back once at each time it is armed for (Linux's timerfd)."""

    def __init__(self, callback: Callable[[], None]) -> None:
        """To be made, and closed, inside the running loop. Raises OSError where the kernel gives no timer."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.timerfd_create(CLOCK_MONOTONIC, NONBLOCKING | CLOSED_ON_EXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "no timer: this client needs Linux's timerfd")
        self._callback = callback
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._rang)

    def arm(self, at_s: float) -> None:
        """Ring at this time of `time.monotonic()`, at once where it has passed."""
        whole = int(at_s)
        times = _Times(0, 0, whole, max(int((at_s - whole) * 1e9), 1))
        self._libc.timerfd_settime(self._descriptor, ABSOLUTE, ctypes.byref(times), None)

    def close(self) -> None:
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _rang(self) -> None:
        try:
            os.read(self._descriptor, EIGHT)
        except BlockingIOError:
            return  # armed anew since
        self._callback()
