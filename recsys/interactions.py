"""What people did, as one canonical table, and as sequences in the rows of a vocabulary."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.dataset import Sequences
from recsys.errors import CorruptArtifact, MissingArtifact
from recsys.types import DEFAULT_EVENT_TYPE
from recsys.vocabulary import Vocabulary

MAX_EVENT_TYPES = 64
UNKNOWN_EVENT_TYPE = "unknown"

INTERACTIONS_SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("event_type", pa.string(), nullable=False),
        ("value", pa.float64()),
        ("occurred_at_ms", pa.int64()),  # UTC
        ("position", pa.int64()),  # order within the user, from the file
        ("context", pa.string()),  # a JSON object with sorted keys; null = none
        ("recommendation_id", pa.string()),
        ("slate_position", pa.int64()),  # place in that recommendation, from 0
        ("file", pa.dictionary(pa.int32(), pa.string())),
        ("line", pa.int64()),
    ]
)
_HASHED = ("user_id", "item_id", "event_type", "value", "occurred_at_ms", "position", "context", "recommendation_id")


def with_event_ids(interactions: pa.Table) -> pa.Table:
    """Fill absent event_ids (null) with a hash of the row and of how many equal rows came before it.

    The same rows get the same ids in any order and from any format, and a row that is there twice is two events.
    """
    absent = np.asarray(pc.is_null(interactions["event_id"]))
    if not absent.any():
        return interactions
    rows = _row_texts(interactions.filter(pa.array(absent)))
    occurrence = _occurrence(rows)
    hashes = [
        hashlib.blake2b(b"%b\x1e%d" % (text, count), digest_size=16).hexdigest()
        for text, count in zip(rows.cast(pa.binary()).to_pylist(), occurrence.tolist(), strict=True)
    ]
    if absent.all():
        event_ids = pa.array(hashes, pa.string())
    else:
        filled = np.array(interactions["event_id"].to_pylist(), dtype=object)
        filled[absent] = hashes
        event_ids = pa.array(filled.tolist(), pa.string())
    return interactions.set_column(0, INTERACTIONS_SCHEMA.field("event_id"), event_ids)


def _row_texts(interactions: pa.Table) -> pa.ChunkedArray:
    """One text a row that tells rows apart; fields are joined by a control character, which ids cannot hold."""
    # The bits of a float, not its digits: how floats are printed may change from one version to the next.
    bits = pa.array(np.asarray(interactions["value"].fill_null(0.0), dtype=np.float64).view(np.int64))
    value = pc.if_else(interactions["value"].is_valid(), bits, pa.scalar(None, pa.int64()))
    parts = [(value if name == "value" else interactions[name]).cast(pa.string()) for name in _HASHED]
    return pc.binary_join_element_wise(*parts, "\x1f", null_handling="replace", null_replacement="")


def _occurrence(texts: pa.ChunkedArray) -> NDArray[np.int64]:
    """int64 [B], how many equal texts came before each."""
    codes = np.asarray(texts.combine_chunks().dictionary_encode().indices, dtype=np.int64)
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    counts = np.empty(len(codes), np.int64)
    counts[order] = np.arange(len(codes)) - np.repeat(starts, np.diff(starts, append=len(codes)))
    return counts


def duplicate_rows(interactions: pa.Table) -> NDArray[np.bool_]:
    """bool [E], True for every row whose event_id an earlier row has."""
    codes = np.asarray(interactions["event_id"].combine_chunks().dictionary_encode().indices, dtype=np.int64)
    _, first = np.unique(codes, return_index=True)
    duplicate = np.ones(len(codes), np.bool_)
    duplicate[first] = False
    return duplicate


def to_sequences(interactions: pa.Table, vocabulary: Vocabulary) -> Sequences:
    """The interactions with known items, user after user in the order of first appearance.

    A user's order is by position where all of their rows have one, else by time where all have one, else positions
    first, then times; ties keep the order of the file. Event types beyond the `MAX_EVENT_TYPES` most frequent, and
    the one called "unknown", get code 0.
    """
    in_order = user_after_user(interactions, vocabulary)
    users = in_order["user_id"].combine_chunks().dictionary_encode()
    times, has_time = _filled(in_order["occurred_at_ms"])
    event_type_names, event_types = _event_types(in_order["event_type"])
    lengths = np.bincount(np.asarray(users.indices, dtype=np.int64), minlength=len(users.dictionary))
    item_rows = pc.index_in(in_order["item_id"], value_set=pa.array(vocabulary.item_ids, pa.string()))
    return Sequences(
        user_ids=tuple(users.dictionary.to_pylist()),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        item_rows=np.asarray(item_rows, dtype=np.int64),
        event_types=event_types,
        occurred_at_ms=times,
        event_type_names=event_type_names,
        ordered=bool(has_time.any() or in_order["position"].null_count < len(in_order)),
    )


def user_after_user(interactions: pa.Table, vocabulary: Vocabulary) -> pa.Table:
    """The interactions with known items in the order that `to_sequences` gives them."""
    known = interactions.filter(pc.is_in(interactions["item_id"], value_set=pa.array(vocabulary.item_ids, pa.string())))
    users = known["user_id"].combine_chunks().dictionary_encode()
    user_rows = np.asarray(users.indices, dtype=np.int64)
    times, has_time = _filled(known["occurred_at_ms"])
    positions, has_position = _filled(known["position"])
    return known.take(pa.array(_order(user_rows, len(users.dictionary), positions, has_position, times, has_time)))


def _filled(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    return np.asarray(column.fill_null(0), dtype=np.int64), np.asarray(column.is_valid(), dtype=np.bool_)


def _order(
    user_rows: NDArray[np.int64],
    n_users: int,
    positions: NDArray[np.int64],
    has_position: NDArray[np.bool_],
    times: NDArray[np.int64],
    has_time: NDArray[np.bool_],
) -> NDArray[np.int64]:
    lengths = np.bincount(user_rows, minlength=n_users)
    by_position = (np.bincount(user_rows[has_position], minlength=n_users) == lengths)[user_rows]
    by_time = ~by_position & (np.bincount(user_rows[has_time], minlength=n_users) == lengths)[user_rows]
    neither_first = ~has_position & ~by_time
    first = np.where(by_time, times, positions)
    second = np.where(by_time, positions, times)
    # Rows without a position (new events) come after those that have one; lexsort is stable, so ties keep file order.
    return np.lexsort((second, first, neither_first, user_rows))


def _event_types(column: pa.ChunkedArray) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    counts = sorted((-each["counts"], each["values"]) for each in pc.value_counts(column).to_pylist())
    frequent = [name for _, name in counts if name != UNKNOWN_EVENT_TYPE][: MAX_EVENT_TYPES - 1]
    names = (UNKNOWN_EVENT_TYPE, *(sorted(frequent) or [DEFAULT_EVENT_TYPE]))
    codes = pc.index_in(column, value_set=pa.array(names, pa.string())).fill_null(0)
    return names, np.asarray(codes, dtype=np.int64)


def write_table(table: pa.Table, path: Path) -> None:
    """Parquet with the same bytes for the same table, put in place in one step; the folder must exist."""
    temporary = path.with_name(f".tmp-{path.name}")
    pq.write_table(
        table.combine_chunks(), temporary, compression="zstd", version="2.6", row_group_size=262_144, store_schema=True
    )
    with temporary.open("rb") as stream:
        os.fsync(stream.fileno())
    os.replace(temporary, path)


def read_table(path: Path, schema: pa.Schema) -> pa.Table:
    """A table that `write_table` wrote.

    Raises:
        MissingArtifact: run `recsys validate` first.
        CorruptArtifact: it is not Parquet, or has other columns.
    """
    try:
        table = pq.read_table(path, schema=None, memory_map=False, partitioning=None)
    except FileNotFoundError:
        raise MissingArtifact(f"{path} is not there: run `recsys validate` first") from None
    except (pa.ArrowException, OSError) as error:
        raise CorruptArtifact(f"{path} is damaged ({error}): run `recsys validate` again") from None
    if not table.schema.equals(schema):
        raise CorruptArtifact(f"{path} has other columns than this version writes: run `recsys validate` again")
    return table
