"""Where the records of slates go: to a spool beside the service and from there to the store, or straight to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from recsys.errors import StoreUnavailable
from recsys.events import Exposure
from serving.telemetry import Telemetry


def _nothing() -> None:
    """Nothing waits."""


@dataclass(frozen=True, slots=True)
class Exposures:
    """Takes one record a slate.

    Attributes:
        append: raises StoreUnavailable where it cannot be kept.
        drain: moves what waits to the store; raises StoreUnavailable.
        close: after the last record.
        are_stuck: whether the store did not take them when it was last tried; they wait, and slates say so.
    """

    append: Callable[[Exposure], None]
    drain: Callable[[], None] = _nothing
    close: Callable[[], None] = _nothing
    are_stuck: Callable[[], bool] = lambda: False

    def counted_by(self, telemetry: Telemetry) -> Callable[[Exposure], None]:
        """`append`, whose failures are counted."""

        def append(exposure: Exposure) -> None:
            try:
                self.append(exposure)
            except StoreUnavailable:
                telemetry.store_error("append_exposure")
                raise

        return append
