"""The client for programs that `await`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, Unpack

from serving.client import batches, calls
from serving.client.calls import Asked, Listed
from serving.client.sending import AsyncSender
from serving.item_schemas import ItemReply
from serving.schemas import (
    AssignmentReply,
    ErasureReply,
    Event,
    EventBatchReply,
    HealthReply,
    ItemBatchReply,
    ItemDeletionReply,
    ItemUpsert,
    ItemUpsertReply,
    RecommendationReply,
    TraceReply,
    UserBlockReply,
    UsersMergeReply,
)


class AsyncClient(AsyncSender):
    """`Client` for programs that `await`.

    >>> async with AsyncClient("http://127.0.0.1:8000") as client:
    ...     reply = await client.recommendations(user_id="42", limit=10)
    """

    async def recommendations(self, *, timeout_s: float | None = None, **asked: Unpack[Asked]) -> RecommendationReply:
        """A slate for a user, a session, or nobody in particular.

        >>> reply = await client.recommendations(user_id="42", limit=10, filter='categories has "Comedy"')
        >>> item_ids = [item.item_id for item in reply.items]
        """
        return await self._send(calls.recommendations(**asked), timeout_s)

    async def rank(
        self, item_ids: Sequence[str], *, timeout_s: float | None = None, **asked: Unpack[Asked]
    ) -> RecommendationReply:
        """Given items, best first. Those that may not be shown are left out.

        >>> reply = await client.rank(["1270", "318", "593"], user_id="42")
        """
        return await self._send(calls.rank(item_ids, **asked), timeout_s)

    async def similar(
        self,
        item_id: str,
        *,
        object_number: int | None = None,
        timeout_s: float | None = None,
        **listed: Unpack[Listed],
    ) -> RecommendationReply:
        """Items like one item; with `object_number`, like that object in its picture (`get_item` lists them).

        >>> reply = await client.similar("1270", limit=5, user_id="42")
        """
        return await self._send(calls.similar(item_id, object_number, **listed), timeout_s)

    async def popular(
        self, category: str | None = None, *, timeout_s: float | None = None, **listed: Unpack[Listed]
    ) -> RecommendationReply:
        """What most people took, of one category or of all.

        >>> reply = await client.popular("Comedy", limit=5)
        """
        return await self._send(calls.popular(category, **listed), timeout_s)

    async def trending(self, *, timeout_s: float | None = None, **listed: Unpack[Listed]) -> RecommendationReply:
        """What is taken most just now.

        >>> reply = await client.trending(limit=5)
        """
        return await self._send(calls.trending(**listed), timeout_s)

    async def search(
        self,
        text: str | None = None,
        *,
        image: bytes | None = None,
        item_id: str | None = None,
        vector: Sequence[float] | None = None,
        modality: str = "text",
        personalise: float | None = None,
        timeout_s: float | None = None,
        **asked: Unpack[Asked],
    ) -> RecommendationReply:
        """Items that match exactly one of: words, a picture (the bytes of a PNG, JPEG or WebP file), an item, or a
        vector of `modality`'s embedding space. `personalise` in [0, 1] is the person's share in the value.

        >>> reply = await client.search("a space adventure", user_id="42", personalise=0.3, limit=5)

        Raises:
            ValueError: none of the four is given, or several.
        """
        call = calls.search(
            text,
            image=image,
            item_id=item_id,
            vector=vector,
            modality=modality,
            personalise=personalise,
            **asked,
        )
        return await self._send(call, timeout_s)

    async def refine(
        self,
        item_id: str,
        text: str,
        *,
        weight: float = 0.5,
        personalise: float | None = None,
        timeout_s: float | None = None,
        **asked: Unpack[Asked],
    ) -> RecommendationReply:
        """Items like one item, but as the words say, which weigh `weight` in [0, 1] against it.

        >>> reply = await client.refine("1270", "newer and darker", user_id="42")
        """
        call = calls.refine(item_id, text, weight=weight, personalise=personalise, **asked)
        return await self._send(call, timeout_s)

    async def pages(
        self, *, timeout_s: float | None = None, **asked: Unpack[Asked]
    ) -> AsyncIterator[RecommendationReply]:
        """Recommendations page by page, until there are no more. No item comes twice.

        >>> async for page in client.pages(user_id="42", limit=10):
        ...     item_ids = [item.item_id for item in page.items]
        """
        async for page in self.pages_of(self.recommendations, timeout_s=timeout_s, **asked):
            yield page

    async def pages_of(
        self, ask: Callable[..., Awaitable[RecommendationReply]], *given: Any, **asked: Any
    ) -> AsyncIterator[RecommendationReply]:
        """The pages of any method that answers with a slate.

        >>> async for page in client.pages_of(client.search, "a space adventure", limit=10):
        ...     item_ids = [item.item_id for item in page.items]
        """
        while True:
            reply = await ask(*given, **asked)
            yield reply
            if reply.next_page_token is None:
                return
            asked["page_token"] = reply.next_page_token

    async def send_events(self, events: Iterable[Event], *, timeout_s: float | None = None) -> EventBatchReply:
        """Takes what users did, any number of it, in batches of at most 1,000 and 1 MiB; a status for each, in order.

        When a batch fails, those before it were taken. Send the same events again: what was taken is a duplicate then.

        >>> from datetime import UTC, datetime
        >>> from serving.client import NewEvent
        >>> click = NewEvent(user_id="42", item_id="1270", event_type="click", occurred_at=datetime.now(UTC))
        >>> reply = await client.send_events([click])
        >>> rejected = [each for each in reply.statuses if each.status == "rejected"]
        """
        return batches.events_together([await self._send(call, timeout_s) for call in batches.event_calls(events)])

    async def upsert_item(self, item: ItemUpsert, *, timeout_s: float | None = None) -> ItemUpsertReply:
        """A new or changed item, recommendable at once. Fields left out stay what they were, None clears one.

        >>> from serving.client import ItemUpsert
        >>> new = ItemUpsert("new-1", title="Alien: Romulus (2024)", categories=["Horror", "Sci-Fi"])
        >>> reply = await client.upsert_item(new)

        Its picture goes with it as `image_base64=picture(Path("cover.jpg").read_bytes())`.
        """
        return await self._send(calls.upsert_item(item), timeout_s)

    async def upsert_items(self, items: Iterable[ItemUpsert], *, timeout_s: float | None = None) -> ItemBatchReply:
        """Any number of items, in batches of at most 1,000 and 32 MiB; a status for each, in order. An
        `ItemLine(item_id, delete=True)` deletes one.

        When a batch fails, those before it were taken; all may be sent again.

        >>> from serving.client import ItemLine, ItemUpsert
        >>> reply = await client.upsert_items([ItemUpsert("new-2", price=9.5), ItemLine("new-3", delete=True)])
        """
        return batches.items_together([await self._send(call, timeout_s) for call in batches.item_calls(items)])

    async def get_item(self, item_id: str, surface: str | None = None, *, timeout_s: float | None = None) -> ItemReply:
        """An item as it is now, with its tags and who says so.

        >>> item = await client.get_item("new-2")
        >>> tags = {tag.tag: tag.confidence for tag in item.tags if tag.verdict == "yes"}

        Raises:
            NotFound: there is none, or none that this key may see.
        """
        return await self._send(calls.get_item(item_id, surface), timeout_s)

    async def delete_items(self, item_ids: Sequence[str], *, timeout_s: float | None = None) -> ItemDeletionReply:
        """Takes items (at most 1,000) off everything.

        >>> reply = await client.delete_items(["new-1"])
        """
        return await self._send(calls.delete_items(item_ids), timeout_s)

    async def merge_users(
        self, source_user_id: str, target_user_id: str, *, timeout_s: float | None = None
    ) -> UsersMergeReply:
        """Somebody who was anonymous is known now: their history goes to the target. Never made twice by itself.

        >>> reply = await client.merge_users("session-8f3a", "42")
        """
        return await self._send(calls.merge_users(source_user_id, target_user_id), timeout_s)

    async def block_items(
        self, user_id: str, item_ids: Sequence[str], *, timeout_s: float | None = None
    ) -> UserBlockReply:
        """Never show these items (at most 1,000) to this user again.

        >>> reply = await client.block_items("42", ["1270"])
        """
        return await self._send(calls.block_items(user_id, item_ids), timeout_s)

    async def unblock_items(
        self, user_id: str, item_ids: Sequence[str], *, timeout_s: float | None = None
    ) -> UserBlockReply:
        """Show them again.

        >>> reply = await client.unblock_items("42", ["1270"])
        """
        return await self._send(calls.unblock_items(user_id, item_ids), timeout_s)

    async def erase_user(self, user_id: str, *, timeout_s: float | None = None) -> ErasureReply:
        """Forget a user; the reply is the receipt. Never made twice by itself: a second receipt counts nothing.

        >>> receipt = await client.erase_user("42", timeout_s=60)
        """
        return await self._send(calls.erase_user(user_id), timeout_s)

    async def trace(self, recommendation_id: str, *, timeout_s: float | None = None) -> TraceReply:
        """What became of one of the last recommendations.

        >>> reply = await client.recommendations(user_id="42")
        >>> trace = await client.trace(reply.recommendation_id)
        """
        return await self._send(calls.trace(recommendation_id), timeout_s)

    async def variants(
        self,
        user_id: str | None = None,
        *,
        session_id: str | None = None,
        surface: str | None = None,
        timeout_s: float | None = None,
    ) -> AssignmentReply:
        """The variants of the experiments that a user or a session is part of, for what a page draws itself.

        >>> reply = await client.variants("42")
        >>> reply.variants
        {}
        """
        return await self._send(calls.variants(user_id, session_id, surface), timeout_s)

    async def health(self, *, timeout_s: float | None = None) -> HealthReply:
        """Whether the process lives.

        >>> (await client.health()).status
        'ok'
        """
        return await self._send(calls.health(), timeout_s)

    async def ready(self, *, timeout_s: float | None = None) -> HealthReply:
        """Whether it answers queries; raises `Unavailable` while it does not.

        >>> (await client.ready()).status
        'ready'
        """
        return await self._send(calls.ready(), timeout_s)

    async def metrics(self, *, timeout_s: float | None = None) -> str:
        """Prometheus' text.

        >>> lines = (await client.metrics()).splitlines()
        """
        return await self._send(calls.metrics(), timeout_s)
