"""CSV with a header (comma, semicolon, tab or bar): fields stay text, so ids keep their leading zeros."""

from __future__ import annotations

import csv
from bisect import bisect_right
from collections.abc import Iterator

import numpy as np

from recsys.errors import InputError
from recsys.ingest.batches import Batch, Column, csv_line
from recsys.ingest.files import InputFile, refuse_other_content, text_blocks
from recsys.quarantine import Reason, Rejection

DELIMITERS = ",;\t|"
# An open quote may span this much before it counts as a mistake of its own line.
MAX_RECORD_CHARACTERS = 1 << 20
Record = tuple[int, str]  # its line in the file, its text
Parsed = tuple[int, list[str]]  # the same, as fields


def read_csv(file: InputFile) -> Iterator[Batch]:
    """Batches of some tens of thousands of records; empty fields are None, blank lines are no rows.

    Raises:
        InputError: the file is empty or something else, or its header is no header.
    """
    refuse_other_content(file)
    header: list[str] = []
    delimiter = ","
    next_line = 1
    kept = b""
    for data, share_read, is_last in text_blocks(file):
        block = kept + data
        if not header:
            block = block.removeprefix(b"\xef\xbb\xbf")
            first, _, block = block.partition(b"\n")
            header, delimiter = _header(file, first)
            next_line = 2
        records, open_from, rejected = _records(block, next_line, delimiter, len(header), at_end=is_last)
        parsed = _parse(records, delimiter, len(header), rejected)
        yield _batch(header, parsed, rejected, share_read)
        consumed = block if open_from is None else block[:open_from]
        kept = block[len(consumed) :]
        next_line += consumed.count(b"\n")


def _header(file: InputFile, line: bytes) -> tuple[list[str], str]:
    try:
        text = line.decode("utf-8").strip("\r\n")
    except UnicodeDecodeError:
        raise InputError(f"{file.path} is not UTF-8 text: save it as UTF-8") from None
    if not text.strip():
        raise InputError(f"{file.path} is empty: its first line must name the columns")
    if text.lstrip()[:1] in "{[":
        raise InputError(f"{file.path} is not CSV but JSON: name it .jsonl")
    delimiter = max(DELIMITERS, key=text.count)
    try:
        header = [name.strip() for name in next(csv.reader([text], delimiter=delimiter, strict=True))]
    except csv.Error as error:
        raise InputError(f"{file.path}: its first line does not name columns ({error})") from None
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InputError(f"{file.path} has two columns called {twice[0]!r}: rename one")
    return header, delimiter


def _records(
    block: bytes, first_line: int, delimiter: str, n_columns: int, *, at_end: bool
) -> tuple[list[Record], int | None, list[Rejection]]:
    """Cut a block into records, which are lines except where a quoted field holds line breaks.

    Returns the records, the byte at which a record begins whose end this block lacks, and lines refused already.
    """
    rejected: list[Rejection] = []
    raw_lines = block.split(b"\n")
    try:
        texts = block.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        texts = [_decoded(raw) for raw in raw_lines]
    odd = [row for row, text in enumerate(texts) if text.count('"') & 1] if b'"' in block else []
    records: list[Record] = []
    row = 0
    while row < len(texts):
        next_odd = bisect_right(odd, row - 1)
        if next_odd == len(odd):
            records += zip(range(first_line + row, first_line + len(texts)), texts[row:], strict=True)
            break
        opening = odd[next_odd]
        records += zip(range(first_line + row, first_line + opening), texts[row:opening], strict=True)
        closing = odd[next_odd + 1] if next_odd + 1 < len(odd) else None
        if _complete(texts[opening], delimiter):
            records.append((first_line + opening, texts[opening]))
            row = opening + 1
            continue
        if closing is None and not at_end:
            open_from = sum(map(len, raw_lines[:opening])) + opening
            if len(block) - open_from <= MAX_RECORD_CHARACTERS:
                return records, open_from, rejected
        joined = "\n".join(texts[opening : closing + 1]) if closing is not None else ""
        if closing is not None and len(joined) <= MAX_RECORD_CHARACTERS and _width(joined, delimiter) == n_columns:
            records.append((first_line + opening, joined))
            row = closing + 1
        else:
            # Only the line with the stray quote is lost: the lines after it are read on their own.
            message = "a quote is opened and never closed"
            rejected.append(Rejection(first_line + opening, "", "not_csv", message, texts[opening]))
            row = opening + 1
    return records, None, rejected


def _decoded(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _width(text: str, delimiter: str) -> int:
    """Fields of one record; 0 when it is none."""
    try:
        rows = list(csv.reader([text], delimiter=delimiter, strict=True))
    except csv.Error:
        return 0
    return len(rows[0]) if rows else 0


def _complete(text: str, delimiter: str) -> bool:
    return _width(text, delimiter) > 0


def _parse(records: list[Record], delimiter: str, n_columns: int, rejected: list[Rejection]) -> list[Parsed]:
    records = [record for record in records if record[1] and not record[1].isspace()]
    try:
        rows = list(csv.reader([text for _, text in records], delimiter=delimiter, strict=True))
        if set(map(len, rows)) <= {n_columns} and len(rows) == len(records):
            "".join(text for _, text in records).encode()
            return [(line, row) for (line, _), row in zip(records, rows, strict=True)]
    except (csv.Error, UnicodeEncodeError):
        pass  # one of them is at fault: find out which
    parsed: list[Parsed] = []
    for line, text in records:
        try:
            text.encode()
            fields = next(csv.reader([text], delimiter=delimiter, strict=True))
        except UnicodeEncodeError:
            rejected.append(_rejection(line, text, "broken_utf8", "the line is not UTF-8"))
        except csv.Error as error:
            rejected.append(_rejection(line, text, "not_csv", f"the line is not CSV: {error}"))
        else:
            if len(fields) == n_columns:
                parsed.append((line, fields))
            else:
                message = f"{len(fields)} fields where the header names {n_columns}"
                rejected.append(_rejection(line, text, "wrong_columns", message))
    return parsed


def _rejection(line: int, text: str, reason: Reason, message: str) -> Rejection:
    return Rejection(line, "", reason, message, text)


def _batch(header: list[str], parsed: list[Parsed], rejected: list[Rejection], share_read: float) -> Batch:
    lines = np.fromiter((line for line, _ in parsed), dtype=np.int64, count=len(parsed))
    values = zip(*(row for _, row in parsed), strict=True) if parsed else [() for _ in header]
    columns: dict[str, Column] = {
        name: [each or None for each in column] for name, column in zip(header, values, strict=True)
    }

    def raw(row: int) -> str:
        return csv_line(parsed[row][1])

    return Batch(len(parsed), lines, rejected, raw, share_read, columns=columns)
