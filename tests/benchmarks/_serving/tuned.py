"""A tuned FastAPI stack: msgspec in and out, packed values by GET and one MGET, the tower in ONNX Runtime, a scalar
quantizer's 8-bit index, numpy throughout, one thread."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import faiss
import msgspec
import numpy as np
import onnxruntime as ort
import redis.asyncio
from fastapi import FastAPI
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from tests.benchmarks._serving.peer_keys import AVAILABLE_AT, PACKED_ITEM, POPULARITY_AT, tuned_item, tuned_user
from tests.benchmarks._serving.world import LIMIT, N_CANDIDATES, PATH, item_id

POPULARITY_WEIGHT = np.float32(0.02)
BYTES_OF_AN_EVENT = 5
REASONS = ("close to what you chose",)


class RecommendationRequest(msgspec.Struct):
    """What is asked."""

    user_id: str
    limit: int = LIMIT


class RecommendedItem(msgspec.Struct):
    """One item."""

    item_id: str
    value: float
    source: str
    reasons: tuple[str, ...]
    position: int


class RecommendationReply(msgspec.Struct):
    """A slate."""

    recommendation_id: str
    items: list[RecommendedItem]
    release: str
    degraded: tuple[str, ...]


DECODER = msgspec.json.Decoder(RecommendationRequest)
ENCODER = msgspec.json.Encoder()


def load_tower(folder: Path) -> ort.InferenceSession:
    """The query tower, one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(str(folder / "query_tower.onnx"), options, providers=["CPUExecutionProvider"])


def load_index(item_vectors: NDArray[np.float32]) -> faiss.IndexScalarQuantizer:
    """8 bits a number, inner product."""
    faiss.omp_set_num_threads(1)
    dim = item_vectors.shape[1]
    index = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    index.train(item_vectors)
    index.add(item_vectors)
    return index


class Tuned:
    """All that a request needs, in memory."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.item_vectors = np.load(folder / "item_vectors.npy")
        self.item_ids = [item_id(row) for row in range(len(self.item_vectors))]
        self.item_keys = [tuned_item(row) for row in range(len(self.item_vectors))]
        self.index, self.tower = load_index(self.item_vectors), load_tower(folder)
        self.redis = redis.asyncio.Redis.from_url(redis_url)

    async def recommend(self, request: Request) -> Response:
        """One slate."""
        asked = DECODER.decode(await request.body())
        packed = await self.redis.get(tuned_user(asked.user_id)) or b""
        n = len(packed) // BYTES_OF_AN_EVENT
        rows = np.frombuffer(packed, "<i4", n)
        types = np.frombuffer(packed, np.uint8, n, offset=4 * n).astype(np.int64)
        inputs = {"history": self.item_vectors[rows][None], "event_types": types[None], "lengths": np.array([n])}
        similarity, nearest = self.index.search(self.tower.run(None, inputs)[0], N_CANDIDATES + n)
        unseen = ~np.isin(nearest[0], rows)
        candidates, scores = nearest[0][unseen][:N_CANDIDATES], similarity[0][unseen][:N_CANDIDATES]
        packed_items = await self.redis.mget([self.item_keys[row] for row in candidates.tolist()])
        features = np.frombuffer(b"".join(packed_items), "<f4").reshape(-1, PACKED_ITEM.size // 4)
        values = scores + POPULARITY_WEIGHT * features[:, POPULARITY_AT]
        values[features[:, AVAILABLE_AT] != 1] = -np.inf
        best = np.argsort(-values, kind="stable")[: asked.limit]
        chosen = zip(candidates[best].tolist(), values[best].tolist(), strict=True)
        items = [
            RecommendedItem(self.item_ids[row], value, "ann", REASONS, position)
            for position, (row, value) in enumerate(chosen)
        ]
        reply = RecommendationReply(uuid.uuid4().hex, items, "1", ())
        return Response(ENCODER.encode(reply), media_type="application/json")


def create_app(folder: Path, redis_url: str) -> FastAPI:
    """The application over the files of `folder`."""
    stack = Tuned(folder, redis_url)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await stack.redis.aclose()

    async def readyz(request: Request) -> Response:
        return Response(b'{"status":"ready"}', media_type="application/json")

    app = FastAPI(lifespan=lifespan)
    app.add_route("/readyz", readyz, methods=["GET"])
    app.add_route(PATH, stack.recommend, methods=["POST"])
    return app
