"""Catalogues and expressions drawn at random, and what an expression means told row by row in plain Python."""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from recsys.catalog import CatalogItem
from recsys.expressions.evaluation import mask_of
from recsys.expressions.syntax import (
    COLUMNS,
    And,
    Column,
    Compare,
    Contains,
    Expression,
    Flag,
    Has,
    In,
    IsNull,
    Moment,
    Node,
    Not,
    Number,
    Or,
    Text,
    Value,
)
from recsys.live import CatalogView, updated, view_of
from recsys.ports import LiveItem
from recsys.quarantine import RowRefused
from recsys.times import parse_time_ms
from tests.worlds.in_memory import in_memory_release

TEXTS = ("", "red", "Red", "STRASSE", "Straße", "ﬁne wine", "\U0001f600 b", "3", "true", "zz", "İstanbul")
NUMBERS = (0, 3, 3.0, -2.5, 1995, 2**53 - 1, 2**60, 1e300, 0.1)
TIMES = tuple(datetime(2026, month, 1, 12, 30, 15, 250_000, tzinfo=UTC) for month in (1, 2, 3))
SCALARS = (*TEXTS, *NUMBERS, True, False, None)
KEYS = ("colour", "size", "screen size", "a.b", "a", "b", "and", "tags", "größe")
COMPARED = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge
}  # fmt: skip

scalars = st.sampled_from(SCALARS)
lists = st.lists(st.one_of(scalars, st.just({"x": 1}), st.just([1])), max_size=3)
json_values = st.one_of(scalars, lists, st.dictionaries(st.sampled_from(KEYS), st.one_of(scalars, lists), max_size=2))
attributes = st.dictionaries(st.sampled_from(KEYS), json_values, max_size=4)
names = st.lists(st.sampled_from([text for text in TEXTS if text]), max_size=3, unique=True)


@st.composite
def items(draw: st.DrawFn, item_id: str) -> CatalogItem:
    maybe_text, maybe_time = (st.sampled_from((None, *some)) for some in (TEXTS[1:], TIMES))
    return CatalogItem(
        item_id,
        title=draw(maybe_text),
        description=draw(maybe_text),
        categories=tuple(draw(names)),
        price=draw(st.sampled_from((None, 0.0, 3.0, 19.99))),
        available_from=draw(maybe_time),
        available_until=draw(maybe_time),
        hidden=draw(st.booleans()),
        attributes=draw(attributes),
    )


@st.composite
def upserts(draw: st.DrawFn, item_id: str) -> LiveItem:
    """Some fields of an item, as a store keeps them; some of them nothing that the catalogue would take."""
    fields = draw(items(item_id)).to_json() | {"tags": draw(st.one_of(st.none(), names))}
    fields |= draw(st.dictionaries(st.sampled_from(sorted(COLUMNS)), st.sampled_from(SCALARS), max_size=2))
    kept = draw(st.sets(st.sampled_from(sorted(fields))))
    return LiveItem(item_id, {name: fields[name] for name in kept}, {}, {}, deleted=draw(st.integers(0, 5)) == 0)


@st.composite
def catalogues(draw: st.DrawFn) -> CatalogView:
    """A release, with a field `tags` or without, and in most of them upserts over it in several steps, some of them of
    the same items again; in between something was asked."""
    n_items = draw(st.integers(0, 6))
    release = in_memory_release(
        [draw(items(f"item-{row}")) for row in range(n_items)], np.zeros((n_items, 2), np.float32)
    )
    if draw(st.booleans()):
        tags = pa.array([draw(st.one_of(st.none(), names)) for _ in range(n_items)], pa.list_(pa.string()))
        release = replace(release, items=release.items.append_column("tags", tags))
    ids = st.integers(0, n_items + 3).map(lambda number: f"item-{number}")
    first = draw(st.lists(ids, max_size=n_items + 4, unique=True))
    view = view_of(release, [draw(upserts(each)) for each in first], version=1)
    for again in draw(st.lists(st.lists(ids, min_size=1, max_size=2, unique=True), max_size=3)):
        mask_of(Expression(draw(nodes())), view)
        view = updated(view, view.version + 1, [draw(upserts(each)) for each in again])
    return view


values: st.SearchStrategy[Value] = st.one_of(
    st.sampled_from(TEXTS).map(Text),
    st.sampled_from([number for number in NUMBERS if abs(number) < 2**53 or isinstance(number, float)]).map(
        lambda number: Number(float(number))
    ),
    st.booleans().map(Flag),
)
any_values: st.SearchStrategy[Value] = st.one_of(
    st.text().map(Text), st.floats(allow_nan=False, allow_infinity=False).map(Number), st.booleans().map(Flag)
)
moments = st.sampled_from([Moment(int(time.timestamp() * 1000) + more) for time in TIMES for more in (-1, 0)])
any_moments = st.integers(-62_135_596_800_000, 253_402_300_799_999).map(Moment)


def columns(keys: st.SearchStrategy[str]) -> st.SearchStrategy[Column]:
    of_attributes = st.lists(keys, min_size=1, max_size=3).map(lambda path: Column(("attributes", *path)))
    return st.one_of(st.sampled_from(sorted(COLUMNS)).map(lambda name: Column((name,))), of_attributes)


@st.composite
def tests(draw: st.DrawFn, column: Column, anything: bool) -> Node:
    """One test that the parser would take of this column."""
    if draw(st.integers(0, 5)) == 0:
        return IsNull(column)
    of_kind = {
        "text": st.text().map(Text) if anything else st.sampled_from((*TEXTS, "item-0", "item-7")).map(Text),
        "list": st.text().map(Text) if anything else st.sampled_from(TEXTS).map(Text),
        "number": st.sampled_from((0.0, 3.0, 19.99, -1.0)).map(Number),
        "flag": st.booleans().map(Flag),
        "time": any_moments if anything else moments,
        "any": any_values if anything else values,
    }[column.kind]
    several = st.lists(of_kind, min_size=1, max_size=3).map(tuple)
    possible = {"text": "compare in contains", "list": "has", "any": "compare in has contains"}
    match draw(st.sampled_from(possible.get(column.kind, "compare in").split())):
        case "has":
            return Has(column, draw(st.sampled_from(("any", "all"))), draw(several))
        case "in":
            return In(column, draw(several))
        case "contains":
            some = st.text(min_size=1) if anything else st.sampled_from(("ss", "RE", "e", "fi", "i̇", "3", "\U0001f600"))
            return Contains(column, Text(draw(some)))
        case _:
            value = draw(of_kind)
            signs = ("=", "!=") if isinstance(value, Flag) else tuple(COMPARED)
            return Compare(column, draw(st.sampled_from(signs)), value)  # type: ignore[arg-type]


def nodes(anything: bool = False) -> st.SearchStrategy[Node]:
    """`anything`: any texts, numbers and names, to be written and read; else such as the catalogues hold."""
    keys = st.one_of(st.sampled_from(KEYS), st.text(max_size=4)) if anything else st.sampled_from(KEYS)
    leaves = columns(keys).flatmap(lambda column: tests(column, anything))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            inner.map(Not),
            st.lists(inner, min_size=2, max_size=3).map(lambda each: And(tuple(each))),
            st.lists(inner, min_size=2, max_size=3).map(lambda each: Or(tuple(each))),
        ),
        max_leaves=6,
    )


class Tells(Protocol):
    """Items and what is said of them, as `CatalogView` does."""

    def item_id(self, row: int) -> str: ...

    def fields(self, row: int) -> Mapping[str, Any]: ...


def is_true(node: Node, view: Tells, row: int) -> bool:
    """The meaning of an expression, as the package's docstring states it."""
    match node:
        case Not(operand):
            return not is_true(operand, view, row)
        case And(operands):
            return all(is_true(each, view, row) for each in operands)
        case Or(operands):
            return any(is_true(each, view, row) for each in operands)
    there = _value(view, row, node.column)
    if isinstance(node, IsNull):
        return there is None
    match node:
        case Compare(_, sign, value):
            return _same_type(there, value) and bool(COMPARED[sign](there, value.value))
        case In(_, several):
            return any(_same_type(there, value) and there == value.value for value in several)
        case Has(_, mode, several):
            elements = there if isinstance(there, list | tuple) else ()
            found = [any(_same_type(each, value) and each == value.value for each in elements) for value in several]
            return any(found) if mode == "any" else all(found)
        case Contains(_, text):
            return isinstance(there, str) and text.value.casefold() in there.casefold()


def _same_type(there: Any, value: Value) -> bool:
    if isinstance(there, bool) or isinstance(value, Flag):
        return isinstance(there, bool) and isinstance(value, Flag)
    return isinstance(there, str) if isinstance(value, Text) else isinstance(there, int | float)


def _value(view: Tells, row: int, column: Column) -> Any:
    """What a row holds, None for what is missing."""
    fields = view.fields(row)
    path = column.path
    if path == ("item_id",):
        return view.item_id(row)
    if path[0] == "attributes":
        there = _under(fields, path[1:])
    elif path == ("tags",):
        under = _under(fields, ("tags",))
        there = next((list(tags) for tags in (fields.get("tags"), under) if isinstance(tags, list | tuple)), None)
    else:
        there = _field(fields.get(path[0]), column.kind)
    return None if there in ([], (), {}) else there


def _under(fields: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    there = fields.get("attributes")
    there = json.loads(there) if isinstance(there, str) else there
    for key in path:
        there = there.get(key) if isinstance(there, dict) else None
    return there


def _field(value: Any, kind: str) -> Any:
    if kind == "flag":
        return bool(value)
    if kind == "time":
        try:
            return parse_time_ms(value, "time")
        except RowRefused:
            return None
    types: Any = {"text": str, "number": int | float, "list": list | tuple}[kind]
    return value if isinstance(value, types) and not isinstance(value, bool) else None
