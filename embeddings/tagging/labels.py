"""What people say is in items, to learn from: a file with `item_id`, `tag` (or `label`) and perhaps `value`.

One row says one thing of one item. Without `value` an item that is listed is fully labelled: its tags are yes, every
other one is no, and a row with an empty tag says that it has none of them. With `value` only the pairs named are known.
Of two rows of one pair the last counts. Rows that cannot be taken go to the quarantine with line and reason; the others
are used.

Letters: N items, C tags.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embeddings.tagging.taxonomy import Taxonomy
from recsys.errors import InputError
from recsys.fields import parse_id, parse_text
from recsys.ingest.files import labels_at
from recsys.ingest.readers import read_columns
from recsys.quarantine import Quarantine, Rejection, RowRefused
from recsys.tags import MAX_TAG_CHARACTERS

COLUMNS = ("item_id", "tag", "label", "value")
_YES, _NO = {"1", "1.0", "true", "t", "yes", "y"}, {"0", "0.0", "false", "f", "no", "n"}


@dataclass(frozen=True)
class Labels:
    """What is known of `N` items and `C` tags.

    Attributes:
        item_ids: in the order in which the file first names them.
        y: float32 [N, C], 1 = yes.
        known: bool [N, C].
        tags: in the order of the taxonomy; without one, of the file.
        quarantine: `recsys.quarantine.QUARANTINE_SCHEMA`, the rows that were not taken.
    """

    item_ids: tuple[str, ...]
    y: NDArray[np.float32]
    known: NDArray[np.bool_]
    tags: tuple[str, ...]
    quarantine: pa.Table


class _Row(NamedTuple):
    line: int
    item_id: str
    tag: str | None
    value: bool | None
    raw: str


def read_labels(
    path: Path, *, item_ids: Container[str] | None = None, taxonomy: Taxonomy | None = None, head: str = ""
) -> Labels:
    """The labels in a CSV, TSV, JSON lines or Parquet file.

    A tag that is said to be there implies its parents among the file's tags, and that the others of its group are not;
    what a row says itself counts more.

    Args:
        item_ids: of the catalogue; rows of others are quarantined. None takes all.
        taxonomy: rows whose tag is no id, name or label of it are quarantined. None: each tag named is one, as it is
            spelt first.
        head: leave out tags that the taxonomy does not let this head give.

    Raises:
        InputError: the file is not what its name claims, lacks a column, or no row of it can be used.
    """
    file = labels_at(path)
    quarantine = Quarantine()
    names = _names(taxonomy, head) if taxonomy is not None else None
    spelt: dict[str, str] = {}
    rows: list[_Row] = []
    for batch in read_columns(file, COLUMNS, _problem):
        refused = list(batch.rejected)
        for at, row in enumerate(batch.rows()):
            line = int(batch.lines[at])
            try:
                said_here = _row(line, row, item_ids, names, batch.raw(at))
                if taxonomy is None and said_here.tag is not None:
                    said_here = said_here._replace(tag=spelt.setdefault(said_here.tag.casefold(), said_here.tag))
                rows.append(said_here)
            except RowRefused as error:
                refused.append(Rejection(line, error.column, error.reason, str(error), batch.raw(at)))
        quarantine.add(file.name, refused)
    partly = any(row.value is not None for row in rows)
    said, refused = _said(rows, partly=partly, groups=_groups(taxonomy))
    quarantine.add(file.name, refused)
    found = quarantine.table()
    tags = _tags(said, taxonomy)
    if not tags:
        example = f", as {file.name}:{found['line'][0]}: {found['message'][0]}" if len(found) else ""
        raise InputError(f"{path} has no row that can be learned from ({len(found)} were refused{example})")
    _imply(said, tags, taxonomy)
    y, known = _matrices(said, tags, partly=partly)
    return Labels(tuple(said), y, known, tags, found)


def _row(
    line: int, row: Mapping[str, Any], item_ids: Container[str] | None, names: Mapping[str, str] | None, raw: str
) -> _Row:
    item_id = parse_id(row.get("item_id"), "item_id")
    if item_ids is not None and item_id not in item_ids:
        raise RowRefused("unknown_item", "item_id", "no item of the catalogue has this item_id", value=item_id)
    column = "tag" if row.get("tag") is not None else "label"
    tag = parse_text(row.get(column), column, MAX_TAG_CHARACTERS)
    if tag is not None and not tag.isprintable():
        raise RowRefused("control_character", column, f"{column} holds a control character", value=tag)
    if tag is not None and names is not None:
        if tag.casefold() not in names:
            raise RowRefused("unknown_tag", column, f"{tag!r} is no tag that the taxonomy gives this head", value=tag)
        tag = names[tag.casefold()]
    return _Row(line, item_id, tag, _value(row.get("value")), raw)


def _value(value: Any) -> bool | None:
    if value is None or value == "":
        return None
    word = str(value).strip().casefold()
    if word in _YES or word in _NO:
        return word in _YES
    raise RowRefused(
        "wrong_type", "value", f"value must be 1, 0, true, false, yes or no, not {word[:40]!r}", value=value
    )


def _said(
    rows: list[_Row], *, partly: bool, groups: Mapping[str, str]
) -> tuple[dict[str, dict[str, bool]], list[Rejection]]:
    """item → tag → yes or no, and the rows that do not count."""
    taken: dict[tuple[str, str], _Row] = {}
    chosen: dict[tuple[str, str], tuple[str, str]] = {}
    items: dict[str, dict[str, bool]] = {}
    refused = []
    for row in rows:
        if partly and (row.value is None or row.tag is None):
            what = "value" if row.value is None else "tag"
            message = f"{what} is absent, and other rows of the file have a value: each must"
            refused.append(Rejection(row.line, what, "missing", message, row.raw))
            continue
        items.setdefault(row.item_id, {})
        if row.tag is None:
            continue
        pair = (row.item_id, row.tag)
        if pair in taken:
            refused.append(_later(taken[pair], "a later row has the same item_id and tag; the last one counts"))
        taken[pair] = row
        if row.value is False or row.tag not in groups:
            continue
        group = (row.item_id, groups[row.tag])
        other = chosen.get(group, pair)
        if other != pair and other in taken:
            message = f"a later row gives the item {row.tag!r}, and of that group it has one; the last one counts"
            refused.append(_later(taken.pop(other), message))
        chosen[group] = pair
    for (item_id, tag), row in taken.items():
        items[item_id][tag] = row.value is not False
    return items, refused


def _later(row: _Row, message: str) -> Rejection:
    return Rejection(row.line, "tag", "duplicate", message, row.raw)


def _matrices(
    said: Mapping[str, Mapping[str, bool]], tags: tuple[str, ...], *, partly: bool
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    column = {tag: place for place, tag in enumerate(tags)}
    y = np.zeros((len(said), len(tags)), np.float32)
    known = np.full(y.shape, not partly)
    for row, of_item in enumerate(said.values()):
        for tag, value in of_item.items():
            y[row, column[tag]] = value
            known[row, column[tag]] = True
    return y, known


def _imply(said: Mapping[str, dict[str, bool]], tags: tuple[str, ...], taxonomy: Taxonomy | None) -> None:
    """Parents of what is there are there; others of its group are not. In place."""
    if taxonomy is None:
        return
    for of_item in said.values():
        for tag in [tag for tag, value in of_item.items() if value]:
            for above in taxonomy.ancestors(tag):
                if above in tags:
                    of_item.setdefault(above, True)
            for other in taxonomy.groups.get(taxonomy.tags[tag].group, ()):
                if other in tags:
                    of_item.setdefault(other, False)


def _tags(said: Mapping[str, Mapping[str, bool]], taxonomy: Taxonomy | None) -> tuple[str, ...]:
    named = dict.fromkeys(tag for of_item in said.values() for tag in of_item)
    return tuple(named) if taxonomy is None else tuple(tag for tag in taxonomy.ids if tag in named)


def _names(taxonomy: Taxonomy, head: str) -> dict[str, str]:
    """What a tag may be called, in small letters → its id; ids come first, and what means two tags means none."""
    allowed = taxonomy.for_head(head) if head else taxonomy.ids
    found: dict[str, set[str]] = {}
    for tag in allowed:
        for name in (*taxonomy.tags[tag].names.values(), *taxonomy.tags[tag].labels):
            found.setdefault(name.casefold(), set()).add(tag)
    names = {name: next(iter(meant)) for name, meant in found.items() if len(meant) == 1}
    return names | {tag.casefold(): tag for tag in allowed}


def _groups(taxonomy: Taxonomy | None) -> dict[str, str]:
    """tag → its group, of the tags that have one."""
    return {} if taxonomy is None else {tag: each.group for tag, each in taxonomy.tags.items() if each.group}


def _problem(names: Sequence[str]) -> str:
    there = {*names}
    return "" if "item_id" in there and {"tag", "label"} & there else "must have the columns item_id and tag (or label)"
