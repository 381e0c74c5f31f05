"""A column in memory: what some rows hold, by type, as arrays that one comparison passes over.

A column may hold several types; each has a part of its own, over all rows where many hold it, else over those that do.
Parts never change. Letters: N rows, P of them in a part, K distinct values, F elements of all lists together.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.expressions.syntax import Flag, Moment, Number, Operator, Text, Value

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]
Places = NDArray[np.int32]
Key = str | float | tuple[str, bool]

READ_BY_ONE = 8
"""A text search over fewer than 1 / 8 of the distinct texts reads these alone."""

COMPARED_ONE_BY_ONE = 8
"""Up to so many values, a comparison with each costs less than looking them all up."""

COMPARED: Mapping[Operator, Callable[[Any, Any], Any]] = {
    "=": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


class Dictionary:
    """Distinct texts in the order of their code points; a code is a place in it."""

    def __init__(self, texts: pa.Array) -> None:
        """`texts`: large_string [K], sorted, each once."""
        self.texts = texts

    def __len__(self) -> int:
        return len(self.texts)

    def place(self, text: str) -> tuple[int, bool]:
        """How many texts come before this one, and whether it is there itself."""
        at = bisect_left(range(len(self.texts)), text, key=lambda place: str(self.texts[place]))
        return at, at < len(self.texts) and str(self.texts[at]) == text

    def containing(self, text: str, codes: Places) -> Mask:
        """bool [len(codes)], whose texts contain this one in either case; a code of -1 has none."""
        wanted, out = text.casefold(), np.zeros(len(self.texts) + 1, dtype=np.bool_)
        if len(codes) * READ_BY_ONE < len(self.texts):
            read = np.unique(codes[codes >= 0])
            out[read] = [wanted in text.casefold() for text in self.texts.take(read).to_pylist()]
        else:
            out[:-1] = np.asarray(pc.match_substring(self._folded, wanted))
        found: Mask = out[codes]  # -1 is the last place, which is False
        return found

    @cached_property
    def _folded(self) -> pa.Array:
        """Without case, as Python folds it; Arrow knows lower case only, and 'ß' is 'ss'."""
        return pa.array([text.casefold() for text in self.texts.to_pylist()], pa.large_string())


@dataclass(frozen=True, slots=True)
class Numbers:
    """`values` float64 [N], NaN where there is none; or float64 [P] of the ascending `rows`."""

    values: NDArray[np.float64]
    rows: Places | None = None

    def there(self) -> Mask:
        return ~np.isnan(self.values)

    def compare(self, operator: Operator, value: float) -> Mask:
        hits: Mask = COMPARED[operator](self.values, value)
        return hits & self.there() if operator == "!=" else hits

    def is_in(self, values: Sequence[float]) -> Mask:
        return _equal_any(self.values, values)

    def take(self, places: Rows, rows: Places | None) -> Numbers:
        return Numbers(self.values[places], rows)


@dataclass(frozen=True, slots=True)
class Texts:
    """`codes` int32 [N] into `dictionary`, -1 where there is none; or int32 [P] of the ascending `rows`."""

    codes: Places
    dictionary: Dictionary
    rows: Places | None = None

    def there(self) -> Mask:
        return self.codes >= 0

    def compare(self, operator: Operator, value: str) -> Mask:
        at, is_there = self.dictionary.place(value)
        match operator:
            case "=":
                return self.codes == at if is_there else np.zeros(len(self.codes), dtype=np.bool_)
            case "!=":
                return self.there() & (self.codes != at) if is_there else self.there()
            case "<" | "<=":
                return self.there() & (self.codes < at + (is_there and operator == "<="))
            case ">" | ">=":
                return self.codes >= at + (is_there and operator == ">")

    def is_in(self, values: Sequence[str]) -> Mask:
        places = [self.dictionary.place(value) for value in values]
        return _equal_any(self.codes, [at for at, is_there in places if is_there])

    def contains(self, value: str) -> Mask:
        return self.dictionary.containing(value, self.codes)

    def take(self, places: Rows, rows: Places | None) -> Texts:
        return Texts(self.codes[places], self.dictionary, rows)


@dataclass(frozen=True, slots=True)
class Flags:
    """`values` int8 [N], 0 or 1, -1 where there is none; or int8 [P] of the ascending `rows`."""

    values: NDArray[np.int8]
    rows: Places | None = None

    def there(self) -> Mask:
        return self.values >= 0

    def compare(self, operator: Operator, value: bool) -> Mask:
        hits: Mask = self.values == np.int8(value if operator == "=" else not value)
        return hits

    def is_in(self, values: Sequence[bool]) -> Mask:
        return _equal_any(self.values, values)

    def take(self, places: Rows, rows: Places | None) -> Flags:
        return Flags(self.values[places], rows)


@dataclass(frozen=True, slots=True)
class Lists:
    """The elements of N lists, or of those of P ascending `rows`: place p has those from offsets[p] to offsets[p + 1].

    Attributes:
        offsets: int64 [N + 1], or [P + 1].
        codes: int32 [F], an element each; -1 for one that nothing is compared with.
        code_of: code of each distinct element, by `key_of`.
        owners: int32 [F], the place that the element belongs to.
    """

    offsets: Rows
    codes: Places
    code_of: Mapping[Key, int]
    owners: Places
    rows: Places | None = None

    def there(self) -> Mask:
        return np.diff(self.offsets) > 0

    def has_any(self, keys: Sequence[Key]) -> Mask:
        out = np.zeros(len(self.offsets) - 1, dtype=np.bool_)
        codes = [self.code_of[key] for key in keys if key in self.code_of]
        out[self.owners[_equal_any(self.codes, codes)]] = True
        return out

    def has_all(self, keys: Sequence[Key]) -> Mask:
        out = self.has_any(keys[:1])
        for key in keys[1:]:
            out &= self.has_any((key,))
        return out

    def take(self, places: Rows, rows: Places | None) -> Lists:
        lengths = self.offsets[places + 1] - self.offsets[places]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        at = np.arange(offsets[-1]) + np.repeat(self.offsets[places] - offsets[:-1], lengths)
        owners = np.repeat(np.arange(len(places), dtype=np.int32), lengths)
        return Lists(offsets, self.codes[at], self.code_of, owners, rows)


Part = Numbers | Texts | Flags | Lists
P = TypeVar("P", Numbers, Texts, Flags, Lists)


@dataclass(frozen=True, slots=True)
class TypedColumn:
    """What N rows hold. A part is None where no row holds its type.

    Attributes:
        others: rows that hold what nothing is compared with (an object), int32, ascending.
    """

    n_rows: int
    numbers: Numbers | None = None
    texts: Texts | None = None
    flags: Flags | None = None
    lists: Lists | None = None
    others: Places | None = None

    def there(self) -> Mask:
        """bool [N], which rows hold anything."""
        out = self._hits(self.numbers, Numbers.there)
        out |= self._hits(self.texts, Texts.there)
        out |= self._hits(self.flags, Flags.there)
        out |= self._hits(self.lists, Lists.there)
        if self.others is not None:
            out[self.others] = True
        return out

    def compare(self, operator: Operator, value: Value) -> Mask:
        match value:
            case Text(text):
                return self._hits(self.texts, lambda part: part.compare(operator, text))
            case Flag(flag):
                return self._hits(self.flags, lambda part: part.compare(operator, flag))
            case Number(number) | Moment(number):
                return self._hits(self.numbers, lambda part: part.compare(operator, number))

    def is_in(self, values: Sequence[Value]) -> Mask:
        texts = [value.value for value in values if isinstance(value, Text)]
        flags = [value.value for value in values if isinstance(value, Flag)]
        numbers = [float(value.value) for value in values if isinstance(value, Number | Moment)]
        hits = [
            *([self._hits(self.texts, lambda part: part.is_in(texts))] if texts else []),
            *([self._hits(self.flags, lambda part: part.is_in(flags))] if flags else []),
            *([self._hits(self.numbers, lambda part: part.is_in(numbers))] if numbers else []),
        ]
        return hits[0] if len(hits) == 1 else np.logical_or.reduce(hits)

    def has_any(self, values: Sequence[Value]) -> Mask:
        return self._hits(self.lists, lambda part: part.has_any([_key(value) for value in values]))

    def has_all(self, values: Sequence[Value]) -> Mask:
        return self._hits(self.lists, lambda part: part.has_all([_key(value) for value in values]))

    def contains(self, text: str) -> Mask:
        return self._hits(self.texts, lambda part: part.contains(text))

    def take(self, rows: Rows) -> TypedColumn:
        """The same of some rows int64 [C], in their order."""
        others = None
        if self.others is not None:
            others = np.flatnonzero(np.isin(rows, self.others)).astype(np.int32)
        return TypedColumn(
            len(rows),
            None if self.numbers is None else self.numbers.take(*_places(self.numbers, rows)),
            None if self.texts is None else self.texts.take(*_places(self.texts, rows)),
            None if self.flags is None else self.flags.take(*_places(self.flags, rows)),
            None if self.lists is None else self.lists.take(*_places(self.lists, rows)),
            others,
        )

    def _hits(self, part: P | None, test: Callable[[P], Mask]) -> Mask:
        """bool [N] from what a part says of its own rows; nothing where there is no part."""
        if part is None:
            return np.zeros(self.n_rows, dtype=np.bool_)
        if part.rows is None:
            return test(part)
        out = np.zeros(self.n_rows, dtype=np.bool_)
        out[part.rows] = test(part)
        return out


def key_of(element: Any) -> Key | None:
    """What an element of a list is found by; None for what nothing is compared with. True is not 1."""
    match element:
        case str():
            return element
        case bool():
            return ("flag", element)
        case int() | float():
            return as_double(element)
        case _:
            return None


def as_double(number: float) -> float:
    """The nearest double; infinity for a whole number beyond all of them."""
    try:
        return float(number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")


def _equal_any(values: NDArray[Any], wanted: Sequence[float]) -> Mask:
    """Which values are one of those wanted."""
    if len(wanted) > COMPARED_ONE_BY_ONE:
        return np.isin(values, np.array(wanted, dtype=values.dtype))
    out = np.zeros(len(values), dtype=np.bool_)
    for each in wanted:
        out |= values == values.dtype.type(each)
    return out


def _key(value: Value) -> Key:
    match value:
        case Flag(flag):
            return ("flag", flag)
        case Text(text):
            return text
        case Number(number) | Moment(number):
            return float(number)


def _places(part: Part, rows: Rows) -> tuple[Rows, Places | None]:
    """The places of some rows in a part; and, for one that not all rows are in, which of the C asked for they are."""
    if part.rows is None:
        return rows, None
    if not len(part.rows):
        return np.empty(0, np.int64), np.empty(0, np.int32)
    at = np.minimum(np.searchsorted(part.rows, rows), len(part.rows) - 1)
    asked = np.flatnonzero(part.rows[at] == rows)
    return at[asked], asked.astype(np.int32)
