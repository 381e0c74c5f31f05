"""The expression as a value: frozen nodes, equal when they mean the same words, written back as one canonical text."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from types import UnionType
from typing import Literal

from recsys.times import EPOCH

Kind = Literal["text", "number", "time", "flag", "list", "any"]
Operator = Literal["=", "!=", "<", "<=", ">", ">="]

COLUMNS: dict[str, Kind] = {
    "item_id": "text",
    "title": "text",
    "description": "text",
    "categories": "list",
    "tags": "list",
    "tags_unsure": "list",
    "price": "number",
    "available_from": "time",
    "available_until": "time",
    "hidden": "flag",
}
"""The columns that every catalogue has, and what they hold."""

ATTRIBUTES = "attributes"
Path = tuple[str, ...]

_PLAIN_PART = re.compile(r"[\w-]+")


@dataclass(frozen=True, slots=True)
class Column:
    """`path` is ("price",) or ("attributes", "size", "width"); `at` is its place in the text, from 0."""

    path: Path
    at: int = field(default=0, compare=False)

    @property
    def kind(self) -> Kind:
        return "any" if self.path[0] == ATTRIBUTES else COLUMNS[self.path[0]]

    def __str__(self) -> str:
        return path_text(self.path)


@dataclass(frozen=True, slots=True)
class Text:
    value: str

    def __str__(self) -> str:
        return json.dumps(self.value, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Number:
    """A finite double; -0 is kept as 0, which it equals."""

    value: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", self.value + 0.0)

    def __str__(self) -> str:
        is_whole = self.value.is_integer() and abs(self.value) < 2**53
        return str(int(self.value)) if is_whole else repr(self.value)


@dataclass(frozen=True, slots=True)
class Flag:
    value: bool

    def __str__(self) -> str:
        return "true" if self.value else "false"


@dataclass(frozen=True, slots=True)
class Moment:
    """UTC milliseconds since 1970, in the years 1 to 9999."""

    value: int

    def __str__(self) -> str:
        moment = EPOCH + timedelta(milliseconds=self.value)
        digits = "milliseconds" if self.value % 1000 else "seconds"
        return f'"{moment.replace(tzinfo=None).isoformat(timespec=digits)}Z"'


Value = Text | Number | Flag | Moment


@dataclass(frozen=True, slots=True)
class Compare:
    column: Column
    operator: Operator
    value: Value

    def __str__(self) -> str:
        return f"{self.column} {self.operator} {self.value}"


@dataclass(frozen=True, slots=True)
class In:
    """`values`: at least one, each once, sorted as they are written."""

    column: Column
    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _in_order(self.values))

    def __str__(self) -> str:
        return f"{self.column} in ({', '.join(map(str, self.values))})"


@dataclass(frozen=True, slots=True)
class Has:
    """A list that holds any, or all, of `values` (at least one, each once, sorted as they are written)."""

    column: Column
    mode: Literal["any", "all"]
    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _in_order(self.values))
        if len(self.values) == 1:
            object.__setattr__(self, "mode", "any")

    def __str__(self) -> str:
        if len(self.values) == 1:
            return f"{self.column} has {self.values[0]}"
        return f"{self.column} has {self.mode} ({', '.join(map(str, self.values))})"


@dataclass(frozen=True, slots=True)
class Contains:
    """A text with `value` somewhere in it, whatever the case of either."""

    column: Column
    value: Text

    def __str__(self) -> str:
        return f"{self.column} contains {self.value}"


@dataclass(frozen=True, slots=True)
class IsNull:
    column: Column

    def __str__(self) -> str:
        return f"{self.column} is null"


Test = Compare | In | Has | Contains | IsNull


@dataclass(frozen=True, slots=True)
class Not:
    operand: Node

    def __str__(self) -> str:
        return f"not {_within(self.operand, And | Or)}"


@dataclass(frozen=True, slots=True)
class And:
    """At least two operands, none of them an `And`: those are taken apart."""

    operands: tuple[Node, ...]

    def __post_init__(self) -> None:
        flat = [each for node in self.operands for each in (node.operands if isinstance(node, And) else (node,))]
        object.__setattr__(self, "operands", tuple(flat))

    def __str__(self) -> str:
        return " and ".join(_within(each, Or) for each in self.operands)


@dataclass(frozen=True, slots=True)
class Or:
    """At least two operands, none of them an `Or`: those are taken apart."""

    operands: tuple[Node, ...]

    def __post_init__(self) -> None:
        flat = [each for node in self.operands for each in (node.operands if isinstance(node, Or) else (node,))]
        object.__setattr__(self, "operands", tuple(flat))

    def __str__(self) -> str:
        return " or ".join(map(str, self.operands))


Node = Test | Not | And | Or


@dataclass(frozen=True)
class Expression:
    """A whole filter; equal to another when their nodes are.

    Attributes:
        text: what it was parsed from, to point into.
    """

    root: Node
    text: str = field(default="", compare=False)

    @cached_property
    def canonical(self) -> str:
        """One text for equal expressions, which parses to this one again. It may be longer than what was written."""
        return str(self.root)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """Each column once, in the order written."""
        first: dict[Path, Column] = {}
        for column in _columns_of(self.root):
            first.setdefault(column.path, column)
        return tuple(first.values())

    def __str__(self) -> str:
        return self.canonical


def path_text(path: Path) -> str:
    """A column's name as it is written."""
    parts = (part if _PLAIN_PART.fullmatch(part) else json.dumps(part, ensure_ascii=False) for part in path)
    return ".".join(parts)


def _columns_of(node: Node) -> list[Column]:
    match node:
        case Not(operand):
            return _columns_of(operand)
        case And(operands) | Or(operands):
            return [column for each in operands for column in _columns_of(each)]
        case _:
            return [node.column]


def _in_order(values: tuple[Value, ...]) -> tuple[Value, ...]:
    return tuple(sorted(set(values), key=str))


def _within(node: Node, looser: type | UnionType) -> str:
    return f"({node})" if isinstance(node, looser) else str(node)
