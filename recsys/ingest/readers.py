"""The reader of each format."""

from __future__ import annotations

from collections.abc import Iterator

from recsys.errors import InputError
from recsys.ingest.batches import Batch
from recsys.ingest.csv_reader import read_csv
from recsys.ingest.files import InputFile
from recsys.ingest.jsonl_reader import read_jsonl
from recsys.ingest.parquet_reader import read_parquet


def read_batches(file: InputFile) -> Iterator[Batch]:
    """The rows of a file, some tens of thousands at a time.

    Raises:
        InputError: the file is not what its name claims, or cannot be opened.
    """
    try:
        match file.format:
            case "parquet":
                yield from read_parquet(file)
            case "jsonl":
                yield from read_jsonl(file)
            case "csv":
                yield from read_csv(file)
    except OSError as error:
        raise InputError(f"{file.path} cannot be read: {error}") from None
