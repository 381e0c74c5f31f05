"""Events and live items as bytes, and cursors as strings: the same in every store.

Records are msgpack, but what users put into `context` and `fields` stays JSON: msgpack refuses its large integers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import msgspec
import numpy as np

from recsys.errors import InputError, StoreUnavailable
from recsys.events import EPOCH, Exposure, Interaction, UserMerge, micros_of
from recsys.ports import LiveItem

_encode = msgspec.msgpack.encode
_Record = TypeVar("_Record")


class _Interaction(msgspec.Struct, array_like=True):
    event_id: str
    user_id: str
    item_id: str
    occurred_at_us: int
    event_type: str
    value: float | None
    recommendation_id: str | None
    position: int | None
    context: bytes


class _Exposure(msgspec.Struct, array_like=True, gc=False):
    recommendation_id: str
    user_id: str | None
    session_id: str | None
    occurred_at_us: int
    release: str
    item_ids: tuple[str, ...]
    propensities: tuple[float, ...]
    sources: tuple[str, ...]
    variants: dict[str, str]
    surface: str | None
    context: bytes = b"{}"  # records of earlier versions have none


class _LiveItem(msgspec.Struct, array_like=True):
    item_id: str
    fields: bytes
    vectors: dict[str, bytes]
    space_ids: dict[str, str]
    deleted: bool


class _Merge(msgspec.Struct, array_like=True):
    source_user_id: str
    target_user_id: str
    merged_at_us: int


_interaction_decoder = msgspec.msgpack.Decoder(_Interaction)
_exposure_decoder = msgspec.msgpack.Decoder(_Exposure)
_live_item_decoder = msgspec.msgpack.Decoder(_LiveItem)
_merge_decoder = msgspec.msgpack.Decoder(_Merge)


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """A JSON object; NaN and infinity become null."""
    return msgspec.json.encode(dict(value))


def _decoded(decoder: msgspec.msgpack.Decoder[_Record], packed: bytes) -> _Record:
    """Raises StoreUnavailable when it is no such record."""
    try:
        return decoder.decode(packed)
    except msgspec.MsgspecError as error:
        raise _unreadable(error) from None


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        value: dict[str, Any] = msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _unreadable(error) from None
    return value


def _unreadable(error: Exception) -> StoreUnavailable:
    return StoreUnavailable(
        f"a record in the store cannot be read ({error}): another program or version wrote it; "
        "use a store (or a redis namespace) of its own for this version"
    )


def pack_interaction(event: Interaction) -> bytes:
    """One value; the time to the microsecond, in UTC."""
    return _encode(
        _Interaction(
            event.event_id,
            event.user_id,
            event.item_id,
            micros_of(event.occurred_at),
            event.event_type,
            event.value,
            event.recommendation_id,
            event.position,
            json_bytes(event.context),
        )
    )


def unpack_interaction(packed: bytes) -> Interaction:
    record = _decoded(_interaction_decoder, packed)
    return Interaction(
        record.event_id,
        record.user_id,
        record.item_id,
        EPOCH + timedelta(microseconds=record.occurred_at_us),
        record.event_type,
        record.value,
        record.recommendation_id,
        record.position,
        _json_object(record.context),
    )


def pack_exposure(exposure: Exposure) -> bytes:
    """One value; the time to the microsecond, in UTC."""
    return _encode(
        _Exposure(
            exposure.recommendation_id,
            exposure.user_id,
            exposure.session_id,
            micros_of(exposure.occurred_at),
            exposure.release,
            exposure.item_ids,
            exposure.propensities,
            exposure.sources,
            dict(exposure.variants),
            exposure.surface,
            json_bytes(exposure.context) if exposure.context else b"{}",
        )
    )


def unpack_exposure(packed: bytes) -> Exposure:
    record = _decoded(_exposure_decoder, packed)
    return Exposure(
        record.recommendation_id,
        record.user_id,
        record.session_id,
        EPOCH + timedelta(microseconds=record.occurred_at_us),
        record.release,
        record.item_ids,
        record.propensities,
        record.sources,
        record.variants,
        record.surface,
        _json_object(record.context) if record.context != b"{}" else {},
    )


def pack_item(item: LiveItem) -> bytes:
    """Everything but the version, which the store keeps beside it."""
    vectors = {name: np.ascontiguousarray(vector, "<f4").tobytes() for name, vector in item.vectors.items()}
    return _encode(_LiveItem(item.item_id, json_bytes(item.fields), vectors, dict(item.space_ids), item.deleted))


def unpack_item(packed: bytes, version: int) -> LiveItem:
    """Its vectors are read-only float32 [D]."""
    record = _decoded(_live_item_decoder, packed)
    vectors: Mapping[str, Any] = {name: np.frombuffer(data, "<f4") for name, data in record.vectors.items()}
    return LiveItem(record.item_id, _json_object(record.fields), vectors, record.space_ids, record.deleted, version)


def deleted_items(item_ids: Sequence[str]) -> list[LiveItem]:
    """`FeatureStore.delete_items` as what is upserted."""
    return [LiveItem(item_id, {}, {}, {}, deleted=True) for item_id in item_ids]


def pack_merge(merge: UserMerge) -> bytes:
    """One value; the time to the microsecond, in UTC."""
    return _encode(_Merge(merge.source_user_id, merge.target_user_id, micros_of(merge.merged_at)))


def unpack_merge(packed: bytes) -> UserMerge:
    record = _decoded(_merge_decoder, packed)
    return UserMerge(record.source_user_id, record.target_user_id, EPOCH + timedelta(microseconds=record.merged_at_us))


def merge_key(merge: UserMerge) -> bytes:
    """128 bits of (source, target)."""
    return hashlib.blake2b(_encode((merge.source_user_id, merge.target_user_id)), digest_size=16).digest()


def merged_into(user_id: str, merges: Iterable[UserMerge]) -> dict[str, None]:
    """The user, and all who were merged into them, or into those, and so on."""
    sources: dict[str, list[str]] = {}
    for merge in merges:
        sources.setdefault(merge.target_user_id, []).append(merge.source_user_id)
    found = {user_id: None}
    to_look_at = [user_id]
    while to_look_at:
        new = [source for source in sources.pop(to_look_at.pop(), ()) if source not in found]
        found.update(dict.fromkeys(new))
        to_look_at += new
    return found


def event_key(event_id: str) -> bytes:
    """128 bits of an event_id: short, and no two ids of any log share one (64 bits would, past a billion)."""
    return hashlib.blake2b(event_id.encode(), digest_size=16).digest()


def cursor_of(log_id: str, position: object) -> str:
    """A place in one log. It names the log, so that no other log can take it for a place of its own."""
    return f"{log_id}:{position}"


def position_in(cursor: str, log_id: str, start: str) -> str:
    """The position that a cursor of this log names; `start` for the empty cursor.

    Raises:
        InputError: the cursor is of another log.
    """
    if not cursor:
        return start
    cursor_log, _, position = cursor.partition(":")
    if cursor_log != log_id or not position:
        raise InputError(
            f"cursor {cursor!r} is of another event log than this one ({log_id}); "
            'the store was replaced or lost. Read from the start (cursor "") to have all that this log holds'
        )
    return position
