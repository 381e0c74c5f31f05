"""The hard rules: what may not be shown, in one ordered table. A rule is a mask, never a penalty.

An item whose own state cannot be told is hidden (`recsys.live`). What a user has seen or blocked is unknown while
the store does not answer: `FilterConfig.fail_open` says which of these rules lets items pass then, and the stage says
that it did.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recsys.config import Config
from recsys.live import CatalogView

UserRule = Literal["blocked", "seen"]

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]


class FilterConfig(Config):
    """What the rules do.

    Attributes:
        exclude_seen: never show what the user already interacted with.
        fail_open: rules that let items pass while the user's state is unknown. A rule that is left out drops
            everything then: take "blocked" out where no answer is better than a blocked item.
    """

    exclude_seen: bool = True
    fail_open: tuple[UserRule, ...] = ("blocked", "seen")


@dataclass(frozen=True, slots=True)
class GateInput:
    """What the rules look at, for one user at one time.

    Attributes:
        now_ms: UTC milliseconds.
        seen, blocked, excluded: uint64 `hash64` of item ids, each sorted.
        user_is_known: False while the store does not answer: `seen` and `blocked` are then not all there is.
    """

    catalog: CatalogView
    now_ms: int
    seen: NDArray[np.uint64]
    blocked: NDArray[np.uint64]
    excluded: NDArray[np.uint64]
    user_is_known: bool = True


@dataclass(frozen=True, slots=True)
class Rule:
    """`drops(gate, rows)` is bool [C], True for the rows that may not be shown."""

    name: str
    drops: Callable[[GateInput, Rows], Mask]


RULES: tuple[Rule, ...] = (
    Rule("hidden", lambda gate, rows: gate.catalog.hidden[rows]),
    Rule("not_yet_available", lambda gate, rows: gate.catalog.available_from_ms[rows] > gate.now_ms),
    Rule("expired", lambda gate, rows: gate.catalog.available_until_ms[rows] <= gate.now_ms),
    Rule("blocked", lambda gate, rows: _is_in(gate, rows, gate.blocked)),
    Rule("excluded", lambda gate, rows: _is_in(gate, rows, gate.excluded)),
    Rule("seen", lambda gate, rows: _is_in(gate, rows, gate.seen)),
)


def allowed(gate: GateInput, rows: Rows, config: FilterConfig) -> Mask:
    """bool [C]: which rows may be shown."""
    keep = np.ones(len(rows), dtype=np.bool_)
    for rule in RULES:
        if rule.name != "seen" or config.exclude_seen:
            keep &= ~rule.drops(gate, rows)
    if fails_closed(gate, config):
        keep[:] = False
    return keep


def fails_closed(gate: GateInput, config: FilterConfig) -> bool:
    """Whether nothing may be shown, because a rule that must not fail open cannot be judged."""
    in_force = {"blocked", "seen"} if config.exclude_seen else {"blocked"}
    return not gate.user_is_known and not in_force <= set(config.fail_open)


def _is_in(gate: GateInput, rows: Rows, hashes: NDArray[np.uint64]) -> Mask:
    """Membership by binary search: `hashes` is sorted and may be far longer than the candidates."""
    mine = gate.catalog.item_hashes[rows]
    if not len(hashes):
        return np.zeros(len(mine), dtype=np.bool_)
    at = np.minimum(np.searchsorted(hashes, mine), len(hashes) - 1)
    return np.asarray(hashes[at] == mine)
