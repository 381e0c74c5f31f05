"""Whether a call that failed is made again, and when."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retries:
    """A call is made again only where that is safe: it may be repeated without harm, and either never reached the
    service, or was answered with 429 or 503 and a `Retry-After`.

    Attributes:
        attempts: at most so many, the first one included; 1: never again.
        total_s: no attempt starts later than this after the first one.
        spread_s: attempts are spread over so many seconds more than the service asks for, doubled each time, so that
            callers who were turned away together do not come back together.
    """

    attempts: int = 3
    total_s: float = 10.0
    spread_s: float = 0.2

    def wait_s(self, n_made: int, spent_s: float, retry_after_s: float | None, draw: float) -> float | None:
        """How long to wait for the next attempt; None: give up.

        Args:
            n_made: attempts so far.
            spent_s: since the first one began.
            retry_after_s: the least that the failure asks for; None: it is not worth another attempt.
            draw: uniform in [0, 1).
        """
        if retry_after_s is None or n_made >= self.attempts:
            return None
        wait = retry_after_s + draw * self.spread_s * 2 ** (n_made - 1)
        return None if spent_s + wait > self.total_s else wait


NEVER = Retries(attempts=1)
