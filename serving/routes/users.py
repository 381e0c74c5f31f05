"""What is asked about users themselves: merging, blocking, erasing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

import msgspec
from starlette.requests import Request

from recsys.errors import InvalidRequest, StoreUnavailable
from recsys.fields import parse_id
from serving.bodies import Reply, decode, json_reply, read_body
from serving.operations import Operation
from serving.schemas import (
    ID_SCHEMA,
    ErasureReply,
    UserBlock,
    UserBlockReply,
    UserErase,
    UsersMerge,
    UsersMergeReply,
)
from serving.service import Service, service_of

T = TypeVar("T")
PROBLEMS = (408, 413, 415, 422, 429, 500, 503)
_MERGE, _ERASE = msgspec.json.Decoder(UsersMerge), msgspec.json.Decoder(UserErase)
_BLOCK = msgspec.json.Decoder(UserBlock)


async def merge_users(request: Request) -> Reply:
    """Somebody who was anonymous is known now."""
    service = service_of(request)
    asked = decode(_MERGE, await read_body(request, service.settings.serving.limits.max_request_bytes))
    source, target = parse_id(asked.source_user_id, "source_user_id"), parse_id(asked.target_user_id, "target_user_id")
    if source == target:
        raise InvalidRequest("source and target are the same user", field="/target_user_id")

    def merge() -> UsersMergeReply:
        state = service.store.merge_users(source, target, now=datetime.now(UTC))
        service.states.known.forget(source)
        return UsersMergeReply(target, len(state.history))

    return json_reply(await _written(service, "merge_users", merge))


async def erase_user(request: Request) -> Reply:
    """Forgets the user in the path."""
    service = service_of(request)
    return await _erased(service, parse_id(request.path_params["user_id"], "user_id"))


async def erase_user_by_body(request: Request) -> Reply:
    """Forgets the user in the body, for ids that a path cannot hold."""
    service = service_of(request)
    body = await read_body(request, service.settings.serving.limits.max_request_bytes)
    return await _erased(service, parse_id(decode(_ERASE, body).user_id, "user_id"))


async def _erased(service: Service, user_id: str) -> Reply:
    def erase() -> ErasureReply:
        service.drain()  # exposures that wait for the store would come after the erasure
        receipt = service.store.erase_user(user_id, now=datetime.now(UTC))
        service.states.known.forget(user_id)
        service.histories.clear()  # keyed by user and version; few, and cheap to make again
        service.traces.clear()
        erased = {
            "states": receipt.n_states,
            "served": receipt.n_served,
            "events": receipt.n_events,
            "exposures": receipt.n_exposures,
            "merges": receipt.n_merges,
        }
        return ErasureReply(receipt.user_hash, receipt.erased_at, erased, (*receipt.not_erased, *REMAINS))

    return json_reply(await _written(service, "erase_user", erase))


REMAINS = (
    "data/events/*.parquet of earlier exports: delete the user's rows there, or the files, before the next training",
    "the published release and its model, trained before: until the next `recsys refresh`",
    "caches of other workers: 64 MiB of last states, used while the store is down, and the last traces; until they are "
    "pushed out or the worker restarts",
)


async def block_items(request: Request) -> Reply:
    """Never show these items to this user again."""
    service = service_of(request)
    asked = await _block_asked(request, service)

    def block() -> UserBlockReply:
        service.store.block(asked.user_id, asked.item_ids)
        return UserBlockReply(len(service.store.user_state(asked.user_id).blocked))

    return json_reply(await _written(service, "block", block))


async def unblock_items(request: Request) -> Reply:
    """Show these items to this user again."""
    service = service_of(request)
    asked = await _block_asked(request, service)

    def unblock() -> UserBlockReply:
        service.store.unblock(asked.user_id, asked.item_ids)
        return UserBlockReply(len(service.store.user_state(asked.user_id).blocked))

    return json_reply(await _written(service, "unblock", unblock))


async def _block_asked(request: Request, service: Service) -> UserBlock:
    asked = decode(_BLOCK, await read_body(request, service.settings.serving.limits.max_request_bytes))
    return UserBlock(
        parse_id(asked.user_id, "user_id"), tuple(parse_id(item_id, "item_ids") for item_id in asked.item_ids)
    )


async def _written(service: Service, call: str, write: Callable[[], T]) -> T:
    try:
        return await service.requests.run(write)
    except StoreUnavailable:
        service.telemetry.store_error(call)
        raise


OPERATIONS = (
    Operation(
        "POST",
        "/v1/users:merge",
        merge_users,
        "An anonymous user's history goes to a known one",
        scope="events",
        lane="slow",
        body=UsersMerge,
        reply=UsersMergeReply,
        problems=PROBLEMS,
        example={"source_user_id": "session-8f3a", "target_user_id": "42"},
    ),
    Operation(
        "POST",
        "/v1/users:block",
        block_items,
        "Never show items to a user again",
        scope="events",
        lane="slow",
        body=UserBlock,
        reply=UserBlockReply,
        problems=PROBLEMS,
        example={"user_id": "42", "item_ids": ["1270"]},
    ),
    Operation(
        "POST",
        "/v1/users:unblock",
        unblock_items,
        "Show items to a user again",
        scope="events",
        lane="slow",
        body=UserBlock,
        reply=UserBlockReply,
        problems=PROBLEMS,
        example={"user_id": "42", "item_ids": ["1270"]},
    ),
    Operation(
        "POST",
        "/v1/users:erase",
        erase_user_by_body,
        "Forget a user, with a receipt",
        scope="admin",
        lane="slow",
        body=UserErase,
        reply=ErasureReply,
        problems=PROBLEMS,
        example={"user_id": "42"},
    ),
    Operation(
        "DELETE",
        "/v1/users/{user_id}",
        erase_user,
        "Forget a user, with a receipt",
        scope="admin",
        lane="slow",
        reply=ErasureReply,
        parameters=({"name": "user_id", "in": "path", "required": True, "schema": ID_SCHEMA},),
        problems=(422, 429, 500, 503),
    ),
)
