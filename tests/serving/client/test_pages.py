"""Pages as an iterator: nothing comes twice, whatever happens between them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from serving.client import AsyncClient, Client, ItemUpsert, NewEvent, RecommendationReply


def click(item_id: str) -> NewEvent:
    return NewEvent(user_id="42", item_id=item_id, event_type="click", occurred_at=datetime.now(UTC))


def test_pages_never_repeat_an_item_while_events_and_items_come(url: str) -> None:
    seen: list[str] = []
    with Client(url) as client:
        for number, page in enumerate(client.pages(user_id="42", limit=4)):
            seen += [item.item_id for item in page.items]
            client.send_events([click(f"c{number}"), click("a1")])
            client.upsert_item(ItemUpsert(f"new{number}", title="alpha"))
    assert len(seen) == len(set(seen)) > 20


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.pages_of(client.search, "alpha", limit=7),
        lambda client: client.pages_of(client.similar, "a1", limit=7),
        lambda client: client.pages_of(client.popular, limit=7, user_id="42"),
        lambda client: client.pages(limit=7, history=[]),
    ],
    ids=["search", "similar", "popular", "recommendations"],
)
def test_every_list_has_pages(url: str, ask: Callable[[Client], Any]) -> None:
    with Client(url) as client:
        pages: list[RecommendationReply] = list(ask(client))
    seen = [item.item_id for page in pages for item in page.items]
    assert len(seen) == len(set(seen)) > 14
    assert [page.next_page_token is None for page in pages] == [False] * (len(pages) - 1) + [True]


def test_the_client_that_awaits_has_pages_too(app: FastAPI) -> None:
    async def seen() -> list[str]:
        transport = httpx.ASGITransport(app)
        async with app.router.lifespan_context(app), AsyncClient("http://service", transport=transport) as client:
            found = [item.item_id async for page in client.pages(user_id="42", limit=4) for item in page.items]
            listed = [item.item_id async for page in client.pages_of(client.popular, limit=9) for item in page.items]
            assert len(listed) == len(set(listed)) == 30
            return found

    found = asyncio.run(seen())
    assert len(found) == len(set(found)) > 20


def test_a_check_of_a_request_is_one_page(url: str) -> None:
    with Client(url) as client:
        assert [page.items for page in client.pages(validate_only=True)] == [()]
