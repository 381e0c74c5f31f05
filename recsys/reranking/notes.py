"""What the rules did, for the trace and for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RuleName = Literal["boost", "slot", "pin", "cap", "caps_lifted", "diversity", "bury", "exploration"]


@dataclass(frozen=True, slots=True)
class RerankNote:
    """One effect on one item.

    Attributes:
        at: the candidate's place by value alone, from 0: its place in what ranking gave.
        position: its place in the slate, or None where it is not in it.
        rule: what moved it.
        text: why, in words that may stand among the reasons of a slate item.
    """

    at: int
    position: int | None
    rule: RuleName
    text: str
