"""How far a file of a release is on its way to or from the place where releases lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Transfer:
    """A file under way, or arrived.

    Attributes:
        name: of the file in its release.
        done_bytes, size_bytes: of the file; equal when it is there.
        seconds: since it began.
    """

    what: Literal["pull", "upload"]
    release_id: str
    name: str
    done_bytes: int
    size_bytes: int
    seconds: float


OnTransfer = Callable[[Transfer], None]
