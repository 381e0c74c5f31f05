"""Contents in the rows of Parquet files: found by id, read by row group."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embeddings.refused import Refused
from recsys.errors import ConfigError

ID_COLUMNS = ("item_id", "key", "__key__")
IMAGE_COLUMNS = ("bytes", "image", "jpg", "jpeg", "png", "webp")
AUDIO_COLUMNS = ("audio", "wav", "flac", "mp3", "ogg")
MAX_ROW_GROUP_BYTES = 1 << 30  # it is held in memory whole
_KEPT_BYTES = 1 << 30
_READ_AT_ONCE = 2


class DamagedParquet(Exception):
    """The file cannot be read at all."""


@dataclass(frozen=True, slots=True)
class ParquetLayout:
    """Which columns count: `names` identifies a row (`id` or a `path`), `contents` are the leaves with bytes."""

    names: str
    names_are_paths: bool
    contents: str
    is_audio: bool


@dataclass(frozen=True, slots=True)
class ParquetRow:
    name: str
    row_group: int
    row: int


def parquet_layout(path: Path) -> ParquetLayout:
    """How a file with contents is laid out.

    Raises:
        DamagedParquet: its footer cannot be read.
        ConfigError: it has no column of ids or none of bytes, or its row groups are too large.
    """
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DamagedParquet(str(error)) from None
    with file:
        layout = _layout_of(file.schema_arrow, path)
        leaf = next(n for n in range(len(file.schema)) if file.schema.column(n).path == layout.contents)
        sizes = [
            file.metadata.row_group(n).column(leaf).total_uncompressed_size for n in range(file.metadata.num_row_groups)
        ]
    if sizes and max(sizes) > MAX_ROW_GROUP_BYTES:
        message = f"{path} has row groups of {max(sizes) >> 20} MiB and each is read whole: write it again with"
        raise ConfigError(f"{message} pyarrow.parquet.write_table(..., row_group_size=1000)")
    return layout


def parquet_rows(path: Path, layout: ParquetLayout) -> Iterator[ParquetRow]:
    """Every row that has a name, in order; only the column of names is read.

    Raises:
        DamagedParquet: it breaks off; the rows before have been given.
    """
    try:
        with pq.ParquetFile(path) as file:
            for row_group in range(file.metadata.num_row_groups):
                column = file.read_row_group(row_group, columns=[layout.names]).column(0)
                for row, name in enumerate(_leaf(column).cast(pa.string()).to_pylist()):
                    if name:
                        yield ParquetRow(name, row_group, row)
    except (pa.ArrowException, OSError) as error:
        raise DamagedParquet(str(error)) from None


class RowGroups:
    """Reads contents and keeps the last row groups, so that reading in the order of the file is sequential.

    Safe from many threads: a row group that several ask for is read once.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._reading = threading.Semaphore(_READ_AT_ONCE)
        self._groups: OrderedDict[tuple[Path, int], Future[pa.ChunkedArray]] = OrderedDict()

    def read(self, path: Path, layout: ParquetLayout, row_group: int, row: int) -> bytes:
        """The bytes of one row.

        Raises:
            Refused: `damaged_container`, or `not_found` where the row has none.
        """
        value = self._group(path, layout, row_group)[row].as_py()
        if value is None:
            raise Refused("not_found", f"{path.name}: row {row} of row group {row_group} has no bytes")
        return bytes(value)

    def close(self) -> None:
        with self._mutex:
            self._groups.clear()

    def _group(self, path: Path, layout: ParquetLayout, row_group: int) -> pa.ChunkedArray:
        key = (path, row_group)
        with self._mutex:
            held = self._groups.get(key)
            mine = held is None
            if held is None:
                held = self._groups[key] = Future()
            self._groups.move_to_end(key)
        if mine:
            try:
                with self._reading:
                    held.set_result(_contents(path, layout, row_group))
                self._forget_oldest()
            except BaseException as error:
                held.set_exception(error)
        return held.result()

    def _forget_oldest(self) -> None:
        with self._mutex:
            sizes = {key: group.result().nbytes for key, group in self._groups.items() if _is_read(group)}
            for key in list(sizes)[:-1]:
                if sum(sizes.values()) <= _KEPT_BYTES:
                    return
                del self._groups[key], sizes[key]


def _is_read(group: Future[pa.ChunkedArray]) -> bool:
    return group.done() and group.exception() is None


def _contents(path: Path, layout: ParquetLayout, row_group: int) -> pa.ChunkedArray:
    try:
        # As a dictionary: a picture that thousands of rows share is held once.
        with pq.ParquetFile(path, read_dictionary=[layout.contents]) as file:
            column = file.read_row_group(row_group, columns=[layout.contents]).column(0)
    except (pa.ArrowException, OSError) as error:
        message = f"{path.name}: row group {row_group} cannot be read ({error}); write the file again"
        raise Refused("damaged_container", message) from None
    return _leaf(column)


def _leaf(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.struct_field(column, 0) if pa.types.is_struct(column.type) else column


def _layout_of(schema: pa.Schema, path: Path) -> ParquetLayout:
    names = next((name for name in ID_COLUMNS if name in schema.names and _is_id(schema.field(name).type)), None)
    for name in (*IMAGE_COLUMNS, *AUDIO_COLUMNS):
        if name not in schema.names:
            continue
        kind, is_audio = schema.field(name).type, name in AUDIO_COLUMNS
        if _is_bytes(kind) and names:
            return ParquetLayout(names, False, name, is_audio)
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 and _is_bytes(kind.field("bytes").type):
            if names:
                return ParquetLayout(names, False, f"{name}.bytes", is_audio)
            if kind.get_field_index("path") >= 0:
                return ParquetLayout(f"{name}.path", True, f"{name}.bytes", is_audio)
    raise ConfigError(
        f"{path} cannot be a container of pictures: it needs a column of ids ({', '.join(ID_COLUMNS)}; text or whole "
        f"numbers) and one of bytes ({', '.join(IMAGE_COLUMNS + AUDIO_COLUMNS)}; or of structs with bytes and path)"
    )


def _is_id(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))
