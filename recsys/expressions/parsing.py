"""From text to `Expression`, by recursive descent: or, and, not, then one test or a parenthesis."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice

from recsys.errors import InvalidRequest
from recsys.expressions.syntax import (
    ATTRIBUTES,
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
    Operator,
    Or,
    Text,
    Value,
)
from recsys.expressions.tokens import ExpressionLimits, Source, Token, tokens_of
from recsys.quarantine import RowRefused
from recsys.times import LATEST_MS, parse_time_ms

DEFAULT_LIMITS = ExpressionLimits()
PARSED_KEPT = 512
EARLIEST_MS = -62_135_596_800_000
"""0001-01-01T00:00:00Z."""

MAX_COMPARED_NAMES = 1_000
"""Names that an unknown one is compared with: finding the nearest takes some 20 µs each."""

OPERATORS: dict[str, Operator] = {"=": "=", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_TESTS = "=, !=, <, <=, >, >=, in, not in, has, contains or is null"
_WANTED = {
    "text": 'a text in double quotes, like "red"',
    "number": "a number",
    "time": 'a time in RFC 3339 with a zone, like "2026-05-01T12:00:00Z"',
    "flag": "true or false",
    "list": "a text",
    "any": "a text in double quotes, a number, true or false",
}


def parse(text: str, limits: ExpressionLimits = DEFAULT_LIMITS, *, field: str = "/filter") -> Expression:
    """The expression that `text` says. The most recent ones are kept, so that a filter of every request is read once.

    Args:
        field: JSON pointer of the text in the request, for errors.

    Raises:
        InvalidRequest: it cannot be read, names a column that no catalogue has, tests a column for what it cannot be,
            or is larger than a limit; the message points at the place.
    """
    if len(text) > limits.max_characters:  # not to be kept, nor even hashed
        return _parse(text, limits, field)
    return _kept(text, limits, field)


def nearest(name: str, names: Iterable[str]) -> str:
    """`; did you mean …` with the nearest of the first `MAX_COMPARED_NAMES` names, or nothing where none is near."""
    near = difflib.get_close_matches(name[:100], list(islice(names, MAX_COMPARED_NAMES)), n=3)
    return f"; did you mean {' or '.join(near)}" if near else ""


@lru_cache(maxsize=PARSED_KEPT)
def _kept(text: str, limits: ExpressionLimits, field: str) -> Expression:
    return _parse(text, limits, field)


def _parse(text: str, limits: ExpressionLimits, field: str) -> Expression:
    source = Source(text, field)
    return Expression(_Parser(source, tokens_of(source, limits), limits).whole(), text)


class _Parser:
    def __init__(self, source: Source, tokens: list[Token], limits: ExpressionLimits) -> None:
        self._source = source
        self._tokens = tokens
        self._limits = limits
        self._next = 0
        self._depth = 0
        self._n_text_searches = 0

    def whole(self) -> Node:
        node = self._either()
        if self._token.kind != "end":
            raise self._expected("and, or, or the end")
        return node

    @property
    def _token(self) -> Token:
        return self._tokens[self._next]

    def _take(self, *texts: str) -> Token | None:
        """The next token, if it is one of these keywords or signs."""
        token = self._token
        if token.kind not in ("keyword", "symbol") or token.text not in texts:
            return None
        self._next += 1
        return token

    def _expected(self, what: str) -> InvalidRequest:
        return self._source.refused(self._token.at, f"expected {what}, found {self._token.found}")

    def _require(self, text: str) -> None:
        if self._take(text) is None:
            raise self._expected(text)

    def _either(self) -> Node:
        operands = [self._both()]
        while self._take("or"):
            operands.append(self._both())
        return Or(tuple(operands)) if len(operands) > 1 else operands[0]

    def _both(self) -> Node:
        operands = [self._negated()]
        while self._take("and"):
            operands.append(self._negated())
        return And(tuple(operands)) if len(operands) > 1 else operands[0]

    def _negated(self) -> Node:
        token = self._take("not", "(")
        if token is None:
            return self._test()
        self._depth += 1
        if self._depth > self._limits.max_depth:
            most = self._limits.max_depth
            raise self._source.refused(
                token.at, f"parentheses and not stand more than the {most} deep that are allowed"
            )
        node: Node
        if token.text == "not":
            node = Not(self._negated())
        else:
            node = self._either()
            self._require(")")
        self._depth -= 1
        return node

    def _test(self) -> Node:
        column = self._column()
        if self._take("is"):
            is_not = self._take("not")
            self._require("null")
            return Not(IsNull(column)) if is_not else IsNull(column)
        operator = self._token
        if self._take(*OPERATORS):
            return self._comparison(column, OPERATORS[operator.text], operator)
        if self._take("not"):
            self._require("in")
            self._refuse_list(column, operator)
            return Not(In(column, self._values(column)))
        if self._take("in"):
            self._refuse_list(column, operator)
            return In(column, self._values(column))
        if self._take("has"):
            return self._has(column, operator)
        if self._take("contains"):
            return self._contains(column, operator)
        raise self._expected(_TESTS)

    def _column(self) -> Column:
        token = self._token
        if token.kind != "path" or not isinstance(token.value, tuple):
            raise self._expected("a test such as price < 20, not, or (")
        self._next += 1
        path = token.value
        if path[0] == ATTRIBUTES:
            if len(path) == 1:
                raise self._source.refused(token.at, "attributes is an object: name a part of it, as attributes.colour")
        elif path[0] not in COLUMNS:
            near = nearest(path[0], COLUMNS) or f"; they are {', '.join(COLUMNS)}"
            message = (
                f"there is no column {token.found}{near}, or attributes.{path[0][:32]} for what items have besides"
            )
            raise self._source.refused(token.at, message)
        elif len(path) > 1:
            raise self._source.refused(token.at, f"{path[0]} has no parts; attributes has")
        return Column(path, token.at)

    def _comparison(self, column: Column, operator: Operator, sign: Token) -> Compare:
        self._refuse_list(column, sign)
        value = self._value(column)
        if isinstance(value, Flag) and operator not in ("=", "!="):
            raise self._source.refused(sign.at, f"true and false have no order: write = or !=, not {operator}")
        return Compare(column, operator, value)

    def _has(self, column: Column, word: Token) -> Has:
        if column.kind not in ("list", "any"):
            raise self._source.refused(word.at, f"{column} is no list: write =, or in (...), instead of has")
        mode = self._take("any", "all")
        if mode is None:
            return Has(column, "any", (self._value(column),))
        return Has(column, "all" if mode.text == "all" else "any", self._values(column))

    def _contains(self, column: Column, word: Token) -> Contains:
        if column.kind not in ("text", "any"):
            instead = "has" if column.kind == "list" else "= or <"
            raise self._source.refused(word.at, f"{column} is no text: write {instead} instead of contains")
        self._n_text_searches += 1
        if self._n_text_searches > self._limits.max_text_searches:
            most = self._limits.max_text_searches
            raise self._source.refused(word.at, f"contains stands more often than the {most} times allowed")
        if self._token.kind != "text":
            raise self._expected(_WANTED["text"])
        value = self._value(column)
        if not isinstance(value, Text) or not value.value:
            raise self._source.refused(
                self._tokens[self._next - 1].at, "every text contains the empty one: leave it out"
            )
        return Contains(column, value)

    def _refuse_list(self, column: Column, word: Token) -> None:
        if column.kind == "list":
            raise self._source.refused(word.at, f"{column} is a list: write has, has any (...) or has all (...)")

    def _values(self, column: Column) -> tuple[Value, ...]:
        self._require("(")
        values = [self._value(column)]
        while self._take(","):
            if len(values) == self._limits.max_values:
                most = self._limits.max_values
                raise self._source.refused(self._token.at, f"the list has more than the {most} values allowed")
            values.append(self._value(column))
        if self._take(")") is None:
            raise self._expected(", or )")
        return tuple(values)

    def _value(self, column: Column) -> Value:
        """The next value, of a type that the column can have."""
        token, wanted = self._token, _WANTED[column.kind]
        if token.text == "null" and token.kind == "keyword":
            raise self._source.refused(token.at, f"nothing equals null: write {column} is null, or is not null")
        value = _literal(token)
        if value is None:
            hint = f'; a text stands in double quotes: "{token.found}"' if token.kind == "path" else ""
            raise self._source.refused(token.at, f"expected {wanted}, found {token.found}{hint}")
        kinds: dict[type, str] = {Text: "text", Number: "number", Flag: "flag"}
        needed = {"time": "text", "list": "text"}.get(column.kind, column.kind)
        if needed not in ("any", kinds[type(value)]):
            raise self._source.refused(token.at, f"{column} is compared with {wanted}, found {token.found}")
        self._next += 1
        return self._moment(column, value, token) if column.kind == "time" and isinstance(value, Text) else value

    def _moment(self, column: Column, value: Text, token: Token) -> Moment:
        try:
            milliseconds = parse_time_ms(value.value, str(column))
        except RowRefused:
            milliseconds = None
        if milliseconds is None or not EARLIEST_MS <= milliseconds <= LATEST_MS:
            raise self._source.refused(token.at, f"{column} is compared with {_WANTED['time']}, found {token.found}")
        return Moment(milliseconds)


def _literal(token: Token) -> Value | None:
    match token.kind:
        case "text":
            return Text(str(token.value))
        case "number" if isinstance(token.value, float):
            return Number(token.value)
        case "keyword" if token.text in ("true", "false"):
            return Flag(token.text == "true")
        case _:
            return None
