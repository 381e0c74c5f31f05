"""The service's client for Python: `Client`, and `AsyncClient` for programs that `await`.

It needs httpx and msgspec, and nothing else of the service than the structs of its API.

>>> from serving.client import Client
>>> with Client("http://127.0.0.1:8000", api_key="...") as client:
...     reply = client.recommendations(user_id="42", limit=10)
"""

from serving.client.async_client import AsyncClient
from serving.client.batches import NewEvent
from serving.client.calls import picture
from serving.client.client import Client
from serving.client.errors import (
    ClientError,
    Forbidden,
    Invalid,
    NotFound,
    RecsysProblem,
    TimedOut,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnexpectedReply,
    Unreachable,
)
from serving.client.retries import NEVER, Retries
from serving.client.sending import Manner
from serving.item_schemas import ItemObject, ItemReply, ItemTag
from serving.schemas import (
    AssignmentReply,
    ErasureReply,
    Event,
    EventBatchReply,
    EventStatusReply,
    HealthReply,
    HistoryEntry,
    ItemBatchReply,
    ItemDeletionReply,
    ItemLine,
    ItemLineStatus,
    ItemUpsert,
    ItemUpsertReply,
    RecommendationReply,
    RecommendedItem,
    Stage,
    TracedItem,
    TraceReply,
    UserBlockReply,
    UsersMergeReply,
)

__all__ = [
    "NEVER",
    "AssignmentReply",
    "AsyncClient",
    "Client",
    "ClientError",
    "ErasureReply",
    "Event",
    "EventBatchReply",
    "EventStatusReply",
    "Forbidden",
    "HealthReply",
    "HistoryEntry",
    "Invalid",
    "ItemBatchReply",
    "ItemDeletionReply",
    "ItemLine",
    "ItemLineStatus",
    "ItemObject",
    "ItemReply",
    "ItemTag",
    "ItemUpsert",
    "ItemUpsertReply",
    "Manner",
    "NewEvent",
    "NotFound",
    "RecommendationReply",
    "RecommendedItem",
    "RecsysProblem",
    "Retries",
    "Stage",
    "TimedOut",
    "TooLarge",
    "TooManyRequests",
    "TraceReply",
    "TracedItem",
    "Unauthorized",
    "Unavailable",
    "UnexpectedReply",
    "Unreachable",
    "UserBlockReply",
    "UsersMergeReply",
    "picture",
]
