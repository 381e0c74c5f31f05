"""JSON lines: one object a line; a line that is none is refused alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from recsys.errors import InputError
from recsys.ingest.batches import Batch
from recsys.ingest.files import InputFile, refuse_other_content, text_blocks
from recsys.quarantine import MAX_RAW_CHARACTERS, Reason, Rejection

BOM = b"\xef\xbb\xbf"


def read_jsonl(file: InputFile) -> Iterator[Batch]:
    """Batches of some tens of thousands of lines; blank lines are no rows.

    Raises:
        InputError: the file is something else, or its first block holds no JSON object at all.
    """
    refuse_other_content(file)
    next_line = 1
    n_readable = 0
    for block, share_read, _ in text_blocks(file):
        if next_line == 1:
            block = block.removeprefix(BOM)
        batch = _parse(block, next_line, share_read)
        n_readable += batch.n_rows
        if not n_readable and batch.rejected:
            raise InputError(_not_jsonl(file, block, batch.rejected[0]))
        next_line += block.count(b"\n")
        yield batch


def _parse(block: bytes, first_line: int, share_read: float) -> Batch:
    texts = block.removesuffix(b"\n").split(b"\n")
    lines: Sequence[int] = range(first_line, first_line + len(texts))
    if not all(texts) or any(text.isspace() for text in texts):
        kept = [(line, text) for line, text in zip(lines, texts, strict=True) if text and not text.isspace()]
        lines, texts = [line for line, _ in kept], [text for _, text in kept]
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    rejected: list[Rejection] = []
    try:
        records = [decode(text) for text in texts]
    except (ValueError, RecursionError):
        readable = []
        records = []
        for line, text in zip(lines, texts, strict=True):
            try:
                records.append(decode(text))
                readable.append((line, text))
            except (ValueError, RecursionError) as error:
                rejected.append(_rejection(line, text, error))
        lines, texts = [line for line, _ in readable], [text for _, text in readable]

    def raw(row: int) -> str:
        return texts[row][: 4 * MAX_RAW_CHARACTERS].decode("utf-8", "replace")

    return Batch(len(records), np.asarray(lines, dtype=np.int64), rejected, raw, share_read, records=records)


def _rejection(line: int, text: bytes, error: Exception) -> Rejection:
    reason, message = _why(text, error)
    return Rejection(line, "", reason, message, text[: 4 * MAX_RAW_CHARACTERS].decode("utf-8", "replace"))


def _why(text: bytes, error: Exception) -> tuple[Reason, str]:
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError:
        return "broken_utf8", "the line is not UTF-8"
    try:
        # The standard parser takes NaN, Infinity and half surrogates: what it accepts tells what was wrong.
        value = json.loads(decoded)
    except RecursionError:
        return "not_json", "the line is nested too deeply"
    except ValueError as reason:
        return "not_json", f"the line is not JSON: {reason}"
    if not isinstance(value, dict):
        return "not_json", "the line is JSON, but no object"
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "broken_utf8", "the line holds half of a surrogate pair, which is no character"
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return "not_finite", "the line holds NaN or Infinity, which JSON has not"
    return "not_json", f"the line is not JSON: {error}"


def _not_jsonl(file: InputFile, block: bytes, first: Rejection) -> str:
    start = block.lstrip()[:1]
    if start == b"[":
        return f"{file.path} is one JSON array: write one object a line (jq -c '.[]')"
    if first.raw.strip() == "{":
        return f"{file.path} is JSON over several lines: write one object a line (jq -c .)"
    example = f"{first.message}, line {first.line}: {first.raw[:60]!r}"
    return f"{file.path} is not JSON lines: no line is a JSON object ({example})"
