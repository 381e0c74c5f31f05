"""The reader of each format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from recsys.catalog import DataConfig
from recsys.errors import InputError
from recsys.ingest.batches import Batch
from recsys.ingest.csv_reader import read_csv
from recsys.ingest.files import InputFile
from recsys.ingest.jsonl_reader import read_jsonl
from recsys.ingest.layout import Layout, layout_of
from recsys.ingest.parquet_reader import Wanted, read_parquet


def read_batches(file: InputFile, config: DataConfig) -> Iterator[tuple[Batch, Layout | None]]:
    """The rows of a file, some tens of thousands at a time, and how their columns are read.

    The layout is None as long as no readable row has told the names of the columns.

    Raises:
        InputError: the file is not what its name claims, lacks a required column, or cannot be opened.
        ConfigError: [data.columns] maps a field that does not exist.
    """
    layout: Layout | None = None
    for batch in _batches(file, lambda names: layout_of(file, names, config).used):
        if layout is None and (batch.n_rows or batch.names):
            layout = layout_of(file, batch.names, config)
        layout = layout and layout.with_rest(batch.names)
        yield batch, layout


def read_columns(file: InputFile, columns: tuple[str, ...], problem: Callable[[Sequence[str]], str]) -> Iterator[Batch]:
    """A file with columns of fixed names, as labels and transcripts have.

    Args:
        columns: that are read where the format lets one choose.
        problem: what is wrong with the names of a file's columns; "" = nothing.

    Raises:
        InputError: the file is not what its name claims, its columns are wrong, or it cannot be opened.
    """
    is_first = True
    for batch in _batches(file, lambda names: columns):
        if is_first and batch.names:
            if wrong := problem(batch.names):
                raise InputError(f"{file.path} {wrong}; it has {', '.join(batch.names[:20])}")
            is_first = False
        yield batch


def _batches(file: InputFile, wanted: Wanted) -> Iterator[Batch]:
    try:
        match file.format:
            case "parquet":
                yield from read_parquet(file, wanted)
            case "jsonl":
                yield from read_jsonl(file)
            case "csv":
                yield from read_csv(file)
    except OSError as error:
        raise InputError(f"{file.path} cannot be read: {error}") from None
