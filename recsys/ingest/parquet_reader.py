"""Parquet: batches of Arrow columns; text that is not UTF-8 costs its own row alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.errors import InputError
from recsys.fields import BrokenText
from recsys.ingest.batches import Batch, Column, python_values
from recsys.ingest.files import InputFile

BATCH_ROWS = 32_768
Wanted = Callable[[tuple[str, ...]], Collection[str]]
MAGIC = b"PAR1"


def read_parquet(file: InputFile, wanted: Wanted) -> Iterator[Batch]:
    """Batches of `BATCH_ROWS` rows, of the columns that `wanted` picks from the names of all.

    Vectors and picture bytes may lie in columns that nothing asks for, so those are not even read.

    Raises:
        InputError: the file is not Parquet, or breaks off.
    """
    with file.path.open("rb") as stream:
        head = stream.read(64)
    if not head.startswith(MAGIC):
        raise InputError(f"{file.path} is not Parquet: it begins with {head[:24]!r}{_hint(head)}")
    try:
        with pq.ParquetFile(file.path) as source:
            names = tuple(source.schema_arrow.names)
            columns = [name for name in names if name in wanted(names)]
            n_rows, n_read = source.metadata.num_rows, 0
            for record_batch in source.iter_batches(BATCH_ROWS, columns=columns):
                yield _batch(record_batch, names, n_read, n_rows)
                n_read += record_batch.num_rows
            if not n_rows:
                yield _batch(pa.RecordBatch.from_pylist([], schema=source.schema_arrow), names, 0, 1)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file.path} is damaged Parquet ({error}): write it again") from None


def _batch(record_batch: pa.RecordBatch, names: tuple[str, ...], n_before: int, n_total: int) -> Batch:
    columns: dict[str, Column] = {
        name: _readable(column) for name, column in zip(record_batch.schema.names, record_batch.columns, strict=True)
    }
    lines = np.arange(n_before + 1, n_before + 1 + record_batch.num_rows, dtype=np.int64)

    def raw(row: int) -> str:
        values = {name: python_values(column[row : row + 1])[0] for name, column in columns.items()}
        shown = {name: _shown(value) for name, value in values.items() if value is not None}
        return msgspec.json.encode(shown, enc_hook=str).decode("utf-8", "replace")

    share_read = (n_before + record_batch.num_rows) / n_total
    return Batch(record_batch.num_rows, lines, (), raw, share_read, columns=columns, all_names=names)


def _readable(column: pa.Array) -> Column:
    """Dictionaries unpacked, bytes as text; a list with `BrokenText` where some bytes are not UTF-8."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string_view(column.type) or pa.types.is_binary_view(column.type):
        column = column.cast(pa.large_binary())
    is_bytes = pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)
    if not (is_bytes or pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return column
    as_bytes = column if is_bytes else column.cast(pa.large_binary())
    try:
        return as_bytes.cast(pa.large_string() if len(as_bytes) and as_bytes.nbytes >> 31 else pa.string())
    except pa.ArrowInvalid:
        return [_decoded(value) for value in as_bytes.to_pylist()]


def _decoded(value: bytes | None) -> Any:
    if value is None:
        return None
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return BrokenText(value)


def _shown(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _hint(head: bytes) -> str:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError:
        return ""
    return (
        ", which looks like JSON lines: name it .jsonl"
        if text.startswith("{")
        else ", which looks like text: name it .csv"
    )
