"""Files of people's words: JSON lines, CSV or Parquet with `item_id`, `tag`, `verdict` or `value`, maybe `by`, `at`.

They come from the labelling page, from a spreadsheet or from elsewhere. Rows without a verdict are not filled in and
say nothing; rows that cannot be taken are refused one by one, with reasons.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from embeddings.tagging.human import Word, Words
from recsys.errors import InputError
from recsys.fields import parse_id
from recsys.ingest.files import labels_at
from recsys.ingest.readers import read_columns
from recsys.manifest import sha256_bytes
from recsys.quarantine import Quarantine, Rejection, RowRefused
from recsys.times import EPOCH, parse_time_ms

COLUMNS = ("item_id", "tag", "verdict", "value", "by", "at")
YES = frozenset({"yes", "y", "true", "1", "1.0", "+"})
NO = frozenset({"no", "n", "false", "0", "0.0", "-"})
AHEAD = timedelta(days=1)  # clocks and time zones that are off
OPEN = frozenset({"", "unsure", "?", "skip", "null", "none"})


@dataclass(frozen=True)
class WordFile:
    """What a file held.

    Attributes:
        words: of its filled-in rows, in its order.
        not_filled_in: rows without a verdict.
        quarantine: `recsys.quarantine.QUARANTINE_SCHEMA`.
    """

    words: tuple[Word, ...]
    not_filled_in: int
    quarantine: pa.Table


def read_word_file(path: Path, tags: Iterable[str], item_ids: Container[str], *, by: str, now: datetime) -> WordFile:
    """Every row taken, or refused with its reason.

    Args:
        tags: that there are; they are compared without case.
        item_ids: of the catalogue.
        by: who said what does not say so itself.
        now: when.

    Raises:
        InputError: the file is not what it claims, or lacks a column.
    """
    file = labels_at(path)
    source = _fingerprint(path)
    words, not_filled_in, quarantine = [], 0, Quarantine()
    ids = {tag.casefold(): tag for tag in tags}
    for batch in read_columns(file, COLUMNS, _problem):
        refused = list(batch.rejected)
        for at, row in enumerate(batch.rows()):
            try:
                word = _word(row, ids, item_ids, by, now, source)
            except RowRefused as error:
                line = int(batch.lines[at])
                refused.append(Rejection(line, error.column, error.reason, str(error), batch.raw(at)))
            else:
                not_filled_in += word is None
                words += [word] if word else []
        quarantine.add(file.name, refused)
    return WordFile(tuple(words), not_filled_in, quarantine.table())


def new_words(labels: Sequence[Word], known: Words) -> list[Word]:
    """Those that are not known yet: neither from the same file, nor the same word of the same person at that time,
    nor what that person said last of it anyway."""
    from_file = {(each.source, each.item_id, each.tag, each.verdict, each.by) for each in known.words if each.source}
    said = {(each.item_id, each.tag, each.verdict, each.by, each.at) for each in known.words}
    latest = known.latest()
    new = []
    for word in labels:
        last = latest.get((word.item_id, word.tag))
        if (word.source, word.item_id, word.tag, word.verdict, word.by) in from_file:
            continue
        if (word.item_id, word.tag, word.verdict, word.by, word.at) in said:
            continue
        if last is not None and (last.verdict, last.by) == (word.verdict, word.by):
            continue
        new.append(word)
        said.add((word.item_id, word.tag, word.verdict, word.by, word.at))
        if last is None or word.at >= last.at:
            latest[word.item_id, word.tag] = word
    return new


def _word(
    row: Mapping[str, Any], ids: Mapping[str, str], item_ids: Container[str], by: str, now: datetime, source: str
) -> Word | None:
    verdict = _verdict(row.get("verdict") if row.get("verdict") not in (None, "") else row.get("value"))
    if verdict is None:
        return None
    item_id = parse_id(row.get("item_id"), "item_id")
    if item_id not in item_ids:
        raise RowRefused("unknown_item", "item_id", "no item of the catalogue has this item_id", value=item_id)
    tag = parse_id(row.get("tag"), "tag")
    if tag.casefold() not in ids:
        raise RowRefused("unknown_tag", "tag", f"there is no tag {tag!r}: add it to the taxonomy first", value=tag)
    who = parse_id(row["by"], "by") if row.get("by") not in (None, "") else by
    at_ms = parse_time_ms(row.get("at"), "at")
    at = now if at_ms is None else EPOCH + timedelta(milliseconds=at_ms)
    if at > now + AHEAD:
        raise RowRefused("future_time", "at", f"{at.isoformat()} is still to come: it would outdo all later words")
    return Word(item_id, ids[tag.casefold()], verdict, who, at.astimezone(UTC), source)


def _verdict(value: Any) -> Literal["yes", "no"] | None:
    said = "" if value is None else str(value).strip().casefold()
    if said in OPEN:
        return None
    if said not in YES | NO:
        message = f"verdict must be yes or no, or empty where nobody looked, not {said[:40]!r}"
        raise RowRefused("out_of_range", "verdict", message, value=value)
    return "yes" if said in YES else "no"


def _problem(names: Sequence[str]) -> str:
    missing = [name for name in ("item_id", "tag") if name not in names]
    missing += [] if {"verdict", "value"} & set(names) else ["verdict"]
    return f"has no column {' and no '.join(missing)}" if missing else ""


def _fingerprint(path: Path) -> str:
    try:
        return sha256_bytes(path.read_bytes())[:16]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}") from None
