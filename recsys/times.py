"""Times at the border: RFC 3339 with a zone, or what recsys.toml says; ambiguous ones are refused, never guessed."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal
from zoneinfo import ZoneInfo

from recsys.quarantine import RowRefused

TimeFormat = Literal["rfc3339", "epoch_s", "epoch_ms"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
# The largest instant that datetime and Arrow both hold: 9999-12-31T23:59:59.999Z.
LATEST_MS = 253_402_300_799_999

_DATE = r"\d{4}-\d\d-\d\d"
_CLOCK = r"\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?"
_OFFSET = r"[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?"
# The trailing word is the zone's name as Go, Ruby and PostgreSQL print it after the offset: "+0200 CEST".
ZONED = rf"^{_DATE}[Tt ]{_CLOCK}(?:[Zz]| ?UTC| ?{_OFFSET}(?: [A-Za-z0-9+-]{{1,6}})?)$"
NAIVE = rf"^{_DATE}(?:[Tt ]{_CLOCK})?$"
NUMBER = r"^[+-]?\d{1,18}(?:\.\d{1,18})?$"
_ZONED, _NAIVE, _NUMBER = re.compile(ZONED, re.ASCII), re.compile(NAIVE, re.ASCII), re.compile(NUMBER, re.ASCII)
# Rewritings that bring every ZONED text to the one form that parsers share; applied in this order.
CANONICAL: tuple[tuple[str, str], ...] = (
    (rf" ?({_OFFSET}) [A-Za-z0-9+-]{{1,6}}$", r"\1"),
    (rf" ({_OFFSET})$", r"\1"),
    (r" ?(?:UTC|z)$", "Z"),
    (r"(\.\d{6})\d+", r"\1"),
    (r"[t ]", "T"),
)
_CANONICAL = tuple((re.compile(pattern), replacement) for pattern, replacement in CANONICAL)

MESSAGES = {
    "bad_time": "is not a time: write RFC 3339 with a zone, like 2026-05-01T12:00:00Z",
    "naive_time": 'has no time zone: end it with Z or +02:00, or set timezone = "Europe/Berlin" under [data]',
    "ambiguous_time": 'is a bare number: set time_format = "epoch_s" or "epoch_ms" under [data] to say what it counts',
}


@dataclass(frozen=True, slots=True)
class TimeRules:
    """How times without a zone and times as numbers are read; the default refuses both, as HTTP does.

    Attributes:
        timezone: IANA name of the zone of naive times; None refuses them.
        time_format: what a bare number counts.
    """

    timezone: str | None = None
    time_format: TimeFormat = "rfc3339"

    @property
    def ms_per_unit(self) -> int | None:
        """Milliseconds in one unit of a bare number; None when such numbers are refused."""
        return {"rfc3339": None, "epoch_s": 1000, "epoch_ms": 1}[self.time_format]


STRICT = TimeRules()


def to_ms(moment: datetime) -> int:
    """UTC milliseconds since 1970 of an aware time, rounded down. Integers only: through a float, a quarter of the
    milliseconds come out one too small."""
    return (moment - EPOCH) // MILLISECOND


def parse_time_ms(value: Any, column: str, rules: TimeRules = STRICT) -> int | None:
    """UTC milliseconds since 1970, rounded down; None for None and for empty text.

    Raises:
        RowRefused: wrong_type, bad_time, naive_time, ambiguous_time, not_finite or impossible_time.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return _text_ms(value.strip(), column, rules)
    if isinstance(value, datetime):
        return _datetime_ms(value, column, rules)
    if isinstance(value, date):
        return _datetime_ms(datetime.combine(value, time()), column, rules)
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return _number_ms(value, column, rules)
    raise RowRefused("wrong_type", column, f"{column} must be a time, not {type(value).__name__}", value=value)


def time_refused(reason: Literal["bad_time", "naive_time", "ambiguous_time"], column: str, value: Any) -> RowRefused:
    return RowRefused(reason, column, f"{column} {MESSAGES[reason]}", value=value)


def _text_ms(text: str, column: str, rules: TimeRules) -> int | None:
    if not text:
        return None
    if _NUMBER.match(text):
        return _number_ms(Decimal(text), column, rules)
    zoned = _ZONED.match(text) is not None
    if not zoned and not _NAIVE.match(text):
        raise time_refused("bad_time", column, text)
    if not zoned and rules.timezone is None:
        raise time_refused("naive_time", column, text)
    if zoned:
        for pattern, replacement in _CANONICAL:
            text = pattern.sub(replacement, text)
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        raise time_refused("bad_time", column, text) from None
    return _datetime_ms(moment, column, rules)


def _datetime_ms(moment: datetime, column: str, rules: TimeRules) -> int:
    if moment.tzinfo is None:
        if rules.timezone is None:
            raise time_refused("naive_time", column, moment)
        moment = moment.replace(tzinfo=ZoneInfo(rules.timezone))
    return to_ms(moment)


def _number_ms(number: float | Decimal, column: str, rules: TimeRules) -> int:
    if rules.ms_per_unit is None:
        raise time_refused("ambiguous_time", column, number)
    if not math.isfinite(number):
        raise RowRefused("not_finite", column, f"{column} must be finite", value=number)
    milliseconds = math.floor(number * rules.ms_per_unit)
    if abs(milliseconds) > LATEST_MS:
        raise RowRefused("impossible_time", column, f"{column} is beyond the year 9999", value=number)
    return milliseconds
