"""Which files of a data folder hold what, and opening them."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from recsys.catalog import DataConfig
from recsys.errors import InputError

Kind = Literal["items", "interactions", "users", "transcripts", "labels"]
Format = Literal["parquet", "jsonl", "csv"]

FORMATS: dict[str, Format] = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
}
# Gorse calls its interactions feedback.
STEMS: dict[Kind, tuple[str, ...]] = {
    "items": ("items",),
    "interactions": ("interactions", "feedback"),
    "users": ("users",),
    "transcripts": ("transcripts",),
    "labels": ("labels",),
}
BLOCK_BYTES = 4 << 20
MAX_LINE_BYTES = 64 << 20
_MAGIC = {
    b"PAR1": "Parquet: name it .parquet",
    b"\x1f\x8b": "gzip: end its name with .gz, or unpack it",
    b"PK\x03\x04": "a zip archive or an Excel workbook: unpack it, or export it as CSV",
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
    b"\x89PNG": "a picture",
    b"%PDF": "a PDF",
    b"SQLite format": "an SQLite database: export its tables as CSV",
}


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file to read.

    Attributes:
        name: how reports call it, relative to the data folder.
        exported: written by `recsys events export`; its `position` is a place in a slate, not an order.
    """

    path: Path
    name: str
    kind: Kind
    format: Format
    exported: bool = False

    @property
    def gzipped(self) -> bool:
        return self.path.name.endswith(".gz")


@dataclass(frozen=True, slots=True)
class Inputs:
    """The files of a data folder; `interactions` may be several (the main one, then exported events)."""

    items: InputFile
    interactions: tuple[InputFile, ...]
    users: InputFile | None


def find_inputs(data_dir: Path, config: DataConfig) -> Inputs:
    """Find `items.*`, `interactions.*`, optional `users.*`, and `events/*.parquet`.

    Raises:
        InputError: the folder, the items or the interactions are missing, or two files claim one name.
    """
    if not data_dir.is_dir():
        raise InputError(f"{data_dir} is not a folder: put items.* and interactions.* into it, or set dir under [data]")
    items = _find(data_dir, "items", config.items_file)
    if items is None:
        raise InputError(_missing(data_dir, "items"))
    events = tuple(
        InputFile(path, f"events/{path.name}", "interactions", "parquet", exported=True)
        for path in sorted((data_dir / "events").glob("*.parquet"))
    )
    main = _find(data_dir, "interactions", config.interactions_file)
    if main is None and not events:
        raise InputError(_missing(data_dir, "interactions"))
    return Inputs(items, ((main,) if main else ()) + events, _find(data_dir, "users", config.users_file))


def find_transcripts(data_dir: Path) -> InputFile | None:
    """Optional `transcripts.*`. Raises InputError: two files claim that name."""
    return _find(data_dir, "transcripts", None) if data_dir.is_dir() else None


def labels_at(path: Path) -> InputFile:
    """A file of labels, wherever it lies. Raises InputError: it is not there, or of no known format."""
    file_format = _format_of(path)
    if not path.is_file() or file_format is None:
        raise InputError(
            f"{path} is not there, or no file of labels: give one that ends in {' '.join(FORMATS)} (.gz for text)"
        )
    return InputFile(path, path.name, "labels", file_format)


def _find(data_dir: Path, kind: Kind, configured: str | None) -> InputFile | None:
    if configured is not None:
        path = data_dir / configured
        file_format = _format_of(path)
        if not path.is_file() or file_format is None:
            known = " ".join(FORMATS)
            raise InputError(f"{kind}_file = {configured!r}: no such file in {data_dir}, or none of {known} (.gz)")
        return InputFile(path, configured, kind, file_format)
    found = [
        InputFile(path, path.name, kind, file_format)
        for path in sorted(data_dir.iterdir())
        if path.name.split(".")[0] in STEMS[kind] and (file_format := _format_of(path)) and path.is_file()
    ]
    if len(found) > 1:
        names = " and ".join(file.name for file in found)
        choose = "" if kind == "transcripts" else f', or set {kind}_file = "{found[0].name}" under [data]'
        raise InputError(f"{data_dir} holds {names}: remove all but one{choose}")
    return found[0] if found else None


def _format_of(path: Path) -> Format | None:
    name = path.name.removesuffix(".gz")
    file_format = FORMATS.get(Path(name).suffix)
    return None if file_format == "parquet" and name != path.name else file_format


def _missing(data_dir: Path, kind: Kind) -> str:
    names = ", ".join(f"{kind}{suffix}" for suffix in FORMATS)
    found = ", ".join(sorted(path.name for path in data_dir.iterdir())[:10]) or "nothing"
    return f"{data_dir} has no {kind} file (one of {names}; .gz for text): it holds {found}"


def refuse_other_content(file: InputFile) -> None:
    """Raises InputError when the first bytes show that a text file is something else."""
    with file.path.open("rb") as stream:
        head = stream.read(16)
    for magic, what in _MAGIC.items():
        if head.startswith(magic) and not (file.gzipped and magic == b"\x1f\x8b"):
            raise InputError(f"{file.path} is not {file.format.upper()} but {what}")


class Block(NamedTuple):
    """Some whole lines of a text file (the last may lack its line break), and how much of the file has been read."""

    data: bytes
    share_read: float
    is_last: bool


def text_blocks(file: InputFile) -> Iterator[Block]:
    """The file in blocks of whole lines; the last block may be empty.

    Raises:
        InputError: broken gzip, or no line break in `MAX_LINE_BYTES`.
    """
    size = max(1, file.path.stat().st_size)
    with file.path.open("rb") as raw:
        stream = gzip.GzipFile(fileobj=raw) if file.gzipped else raw
        kept: list[bytes] = []
        kept_bytes = 0
        while True:
            try:
                block = stream.read(BLOCK_BYTES)
            except (OSError, EOFError, zlib.error) as error:
                raise InputError(f"{file.path} is not readable as gzip ({error}): write it again") from None
            cut = block.rfind(b"\n") + 1
            if not block or cut:
                yield Block(b"".join([*kept, block[:cut]]), min(1.0, raw.tell() / size), is_last=not block)
                kept, kept_bytes = [], 0
            if not block:
                return
            kept.append(block[cut:])
            kept_bytes += len(block) - cut
            if kept_bytes > MAX_LINE_BYTES:
                raise InputError(
                    f"{file.path} has no line break in {MAX_LINE_BYTES >> 20} MiB: it is not {file.format.upper()}"
                )
