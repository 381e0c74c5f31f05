"""What a worker tells: of a shard that it committed, and of an error that it cannot go on after."""

from __future__ import annotations

from dataclasses import dataclass

import recsys.errors
from recsys.errors import EnvironmentProblem, RecsysError


@dataclass(frozen=True)
class ShardDone:
    """The figures are those of `embeddings.work.Encoded`."""

    number: int
    n_encoded: int
    n_same: int
    device_s: float
    starved_s: float


def error_of(kind: str, message: str) -> RecsysError:
    """The error that a worker named, as one of this process."""
    found = getattr(recsys.errors, kind, None)
    if isinstance(found, type) and issubclass(found, RecsysError):
        return found(message)
    return EnvironmentProblem(message)
