"""While the encoder process hangs, callers do not wait for it: after a few waits in vain one a second tries."""

from __future__ import annotations

from collections.abc import Callable

from recsys.errors import EncoderUnavailable

HANGS_S = 0.1  # a wait that was shorter says more of the caller's time limit than of the process
HANGS_IN_A_ROW = 3
PAUSE_S = 1.0


class HangBreaker:
    """As `serving.store_guard.Breaker`, for one event loop: whatever the process says is a sign of life."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._hangs = 0
        self._skip_until = 0.0

    def require_open(self) -> None:
        """Raises EncoderUnavailable where a call would only wait."""
        now = self._clock()
        if now < self._skip_until:
            raise EncoderUnavailable("the encoder process hung a moment ago; it is tried again in a second")
        if self._hangs >= HANGS_IN_A_ROW:  # this one tries; the others go on without
            self._skip_until = now + PAUSE_S

    def note_wait_in_vain(self, seconds: float) -> None:
        """A call got no answer in `seconds`."""
        if seconds >= HANGS_S:
            self._hangs += 1
            if self._hangs >= HANGS_IN_A_ROW:
                self._skip_until = self._clock() + PAUSE_S

    def note_sign_of_life(self) -> None:
        """It said something, to whomever."""
        self._hangs, self._skip_until = 0, 0.0
