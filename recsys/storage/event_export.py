"""The event log as Parquet files, which validation and training read as they read any other interactions.

`events-000001.parquet`, `events-000002.parquet`, ... appear whole or not at all, and each holds in its metadata the
cursor of its last event: what was exported is exactly what the files hold, so that a kill at any moment neither
loses nor repeats an event.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.errors import CorruptArtifact, InputError
from recsys.events import Interaction
from recsys.ports import EventLog
from recsys.storage.atomic import TEMPORARY_PREFIX, fsync_file, fsync_folder, locked_folder, remove_leftovers
from recsys.storage.records import json_bytes

EVENTS_A_FILE = 250_000
_ROWS_AT_ONCE = 10_000
_NAME = re.compile(r"events-(\d{6,})\.parquet")
_CURSOR = b"recsys.last_cursor"
# `position` is the place in the slate, as in `recsys.events`; in other files of interactions it means an order.
_SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("occurred_at", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("event_type", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("context", pa.string()),
        pa.field("recommendation_id", pa.string()),
        pa.field("position", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What one export did.

    Attributes:
        n_events: events written now.
        files: the files written now, in order.
        last_cursor: of the last event that the folder holds; "" where there is none.
        started_anew: the files came from another log (its store was replaced or lost), so that this log was
            read from its start.
    """

    n_events: int
    files: tuple[Path, ...]
    last_cursor: str
    started_anew: bool = False


def export_events(
    log: EventLog, directory: Path, *, after_cursor: str | None = None, events_a_file: int = EVENTS_A_FILE
) -> ExportReport:
    """Write the events that `directory` does not hold yet, `events_a_file` to a file.

    Exports into one folder take turns, across processes.

    Args:
        after_cursor: where to start when the folder holds no event files; None or "" = from the start.

    Raises:
        StoreUnavailable: the log does not answer; files written before that stay and count.
        CorruptArtifact: the latest file in the folder cannot be read.
        InputError: `after_cursor` is of another log.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with locked_folder(directory):
        remove_leftovers(directory)
        number, cursor = _where_it_ends(directory)
        events, started_anew = _events_after(log, cursor if number else after_cursor or "", resumed=number > 0)
        files: list[Path] = []
        n_events = 0
        while written := _write_file(directory / f"events-{number + 1:06d}.parquet", events, events_a_file):
            number += 1
            cursor = written.last_cursor
            files.append(written.path)
            n_events += written.n_events
    return ExportReport(n_events, tuple(files), cursor, started_anew)


@dataclass(frozen=True, slots=True)
class _Written:
    path: Path
    n_events: int
    last_cursor: str


def _where_it_ends(directory: Path) -> tuple[int, str]:
    """Number and last cursor of the latest file; (0, "") when there is none."""
    numbers = {int(found[1]): path for path in directory.iterdir() if (found := _NAME.fullmatch(path.name))}
    if not numbers:
        return 0, ""
    path = numbers[max(numbers)]
    try:
        metadata = pq.read_metadata(path).metadata or {}
    except (pa.ArrowException, OSError) as error:
        raise CorruptArtifact(f"{path} cannot be read ({error}); remove it, and the export writes it again") from None
    if _CURSOR not in metadata:
        raise CorruptArtifact(f"{path} is not of this export; move it away, or export into another folder")
    return max(numbers), metadata[_CURSOR].decode()


def _events_after(log: EventLog, cursor: str, *, resumed: bool) -> tuple[Iterator[tuple[str, Interaction]], bool]:
    try:
        return log.read(cursor), False
    except InputError:
        if not resumed:
            raise
        return log.read(), True


def _write_file(path: Path, events: Iterator[tuple[str, Interaction]], limit: int) -> _Written | None:
    """One file with the next `limit` events at most, in one durable step; None when there are no more."""
    batch = list(islice(events, min(_ROWS_AT_ONCE, limit)))
    if not batch:
        return None
    temporary = path.with_name(TEMPORARY_PREFIX + path.stem)  # no reader of *.parquet may see it
    n_events = 0
    with pq.ParquetWriter(temporary, _SCHEMA, compression="zstd") as writer:
        while batch:
            writer.write_table(_table([event for _, event in batch]))
            n_events += len(batch)
            cursor = batch[-1][0]
            batch = list(islice(events, min(_ROWS_AT_ONCE, limit - n_events)))
        writer.add_key_value_metadata({_CURSOR.decode(): cursor})
    fsync_file(temporary)
    os.replace(temporary, path)
    fsync_folder(path.parent)
    return _Written(path, n_events, cursor)


def _table(events: Sequence[Interaction]) -> pa.Table:
    columns = {
        "event_id": [event.event_id for event in events],
        "user_id": [event.user_id for event in events],
        "item_id": [event.item_id for event in events],
        "occurred_at": pa.array([event.occurred_at_ms for event in events], pa.timestamp("ms", tz="UTC")),
        "event_type": [event.event_type for event in events],
        "value": [event.value for event in events],
        "context": [json_bytes(event.context).decode() if event.context else None for event in events],
        "recommendation_id": [event.recommendation_id for event in events],
        "position": [event.position for event in events],
    }
    return pa.table(columns, schema=_SCHEMA)
