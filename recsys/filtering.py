"""The hard rules: what may not be shown, in one ordered table. A rule is a mask, never a penalty.

Rules about what users may not see fail closed (an item whose state cannot be told is dropped); the rule about what
they have seen fails open, and the stage says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recsys.config import Config
from recsys.live import CatalogView

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]


class FilterConfig(Config):
    """`exclude_seen`: never show what the user already interacted with."""

    exclude_seen: bool = True


@dataclass(frozen=True, slots=True)
class GateInput:
    """What the rules look at, for one user at one time.

    Attributes:
        now_ms: UTC milliseconds.
        seen, blocked, excluded: uint64 `hash64` of item ids, each sorted.
    """

    catalog: CatalogView
    now_ms: int
    seen: NDArray[np.uint64]
    blocked: NDArray[np.uint64]
    excluded: NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Rule:
    """`drops(gate, rows)` is bool [C], True for the rows that may not be shown."""

    name: str
    fails: Literal["open", "closed"]
    drops: Callable[[GateInput, Rows], Mask]


RULES: tuple[Rule, ...] = (
    Rule("hidden", "closed", lambda gate, rows: gate.catalog.hidden[rows]),
    Rule("not_yet_available", "closed", lambda gate, rows: gate.catalog.available_from_ms[rows] > gate.now_ms),
    Rule("expired", "closed", lambda gate, rows: gate.catalog.available_until_ms[rows] <= gate.now_ms),
    Rule("blocked", "closed", lambda gate, rows: _is_in(gate, rows, gate.blocked)),
    Rule("excluded", "closed", lambda gate, rows: _is_in(gate, rows, gate.excluded)),
    Rule("seen", "open", lambda gate, rows: _is_in(gate, rows, gate.seen)),
)


def allowed(gate: GateInput, rows: Rows, config: FilterConfig) -> Mask:
    """bool [C]: which rows may be shown."""
    keep = np.ones(len(rows), dtype=np.bool_)
    for rule in RULES:
        if rule.name != "seen" or config.exclude_seen:
            keep &= ~rule.drops(gate, rows)
    return keep


def _is_in(gate: GateInput, rows: Rows, hashes: NDArray[np.uint64]) -> Mask:
    """Membership by binary search: `hashes` is sorted and may be far longer than the candidates."""
    mine = gate.catalog.item_hashes[rows]
    if not len(hashes):
        return np.zeros(len(mine), dtype=np.bool_)
    at = np.minimum(np.searchsorted(hashes, mine), len(hashes) - 1)
    return np.asarray(hashes[at] == mine)
