"""The textbook stack: FastAPI with a response model, redis-py's asyncio pipeline of HGETALL, the tower in PyTorch,
`IndexFlatIP`. Written as its tutorials do, and without mistakes: one read of the user, one round trip for all items, no
gradients, one thread."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import redis.asyncio
import torch
from fastapi import FastAPI
from pydantic import BaseModel, Field
from safetensors.torch import load_file

from recsys.models.config import ModelConfig
from recsys.models.query_tower import QueryTower
from tests.benchmarks._serving.peer_keys import textbook_item, textbook_user
from tests.benchmarks._serving.world import EVENT_TYPES, LIMIT, N_CANDIDATES, PATH, item_id

POPULARITY_WEIGHT = 0.02


class RecommendationRequest(BaseModel):
    """What is asked."""

    user_id: str = Field(max_length=256)
    limit: int = Field(default=LIMIT, ge=1, le=500)


class RecommendedItem(BaseModel):
    """One item."""

    item_id: str
    value: float
    source: str
    reasons: list[str]
    position: int


class RecommendationReply(BaseModel):
    """A slate."""

    recommendation_id: str
    items: list[RecommendedItem]
    release: str
    degraded: list[str]


def load_tower(folder: Path) -> QueryTower:
    """The query tower with the release's weights."""
    config = ModelConfig.model_validate_json((folder / "query_tower.json").read_bytes())
    tower = QueryTower(config, len(EVENT_TYPES), 0)
    tower.load_state_dict(load_file(folder / "query_tower.safetensors"))
    return tower.eval()


class Textbook:
    """All that a request needs, in memory."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        torch.set_num_threads(1)
        faiss.omp_set_num_threads(1)
        item_vectors = np.load(folder / "item_vectors.npy")
        self.item_ids = [item_id(row) for row in range(len(item_vectors))]
        self.row_of = {name: row for row, name in enumerate(self.item_ids)}
        self.type_code = {name: code for code, name in enumerate(EVENT_TYPES)}
        self.vectors = torch.from_numpy(item_vectors)
        self.index = faiss.IndexFlatIP(item_vectors.shape[1])
        self.index.add(item_vectors)
        self.tower = load_tower(folder)
        self.redis = redis.asyncio.Redis.from_url(redis_url, decode_responses=True)

    async def recommend(self, request: RecommendationRequest) -> RecommendationReply:
        """One slate."""
        history = json.loads(await self.redis.get(textbook_user(request.user_id)) or "[]")
        candidates = self.retrieve([entry for entry in history if entry["item_id"] in self.row_of])
        pipeline = self.redis.pipeline(transaction=False)
        for row, _ in candidates:
            pipeline.hgetall(textbook_item(self.item_ids[row]))
        features = await pipeline.execute()
        popularity = np.array([float(each["popularity"]) for each in features], np.float32)
        available = np.array([each["available"] == "1" for each in features])
        values = np.array([score for _, score in candidates], np.float32) + POPULARITY_WEIGHT * popularity
        values[~available] = -np.inf
        best = np.argsort(-values, kind="stable")[: request.limit]
        items = [
            RecommendedItem(
                item_id=self.item_ids[candidates[place][0]],
                value=float(values[place]),
                source="ann",
                reasons=["close to what you chose"],
                position=position,
            )
            for position, place in enumerate(best.tolist())
        ]
        return RecommendationReply(recommendation_id=uuid.uuid4().hex, items=items, release="1", degraded=[])

    def retrieve(self, history: list[dict[str, Any]]) -> list[tuple[int, float]]:
        """The nearest unseen items: (row, similarity)."""
        rows = [self.row_of[entry["item_id"]] for entry in history]
        types = [self.type_code[entry["event_type"]] for entry in history]
        with torch.no_grad():
            query = self.tower(self.vectors[rows][None], torch.tensor([types]), torch.tensor([len(rows)])).numpy()
        similarity, nearest = self.index.search(query, N_CANDIDATES + len(rows))
        seen = set(rows)
        found = zip(nearest[0].tolist(), similarity[0].tolist(), strict=True)
        return [(row, score) for row, score in found if row not in seen][:N_CANDIDATES]


def create_app(folder: Path, redis_url: str) -> FastAPI:
    """The application over the files of `folder`."""
    stack = Textbook(folder, redis_url)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await stack.redis.aclose()

    app = FastAPI(lifespan=lifespan)

    @app.get("/readyz")
    async def readyz() -> dict[str, str]:
        return {"status": "ready"}

    @app.post(PATH, response_model=RecommendationReply)
    async def recommend(request: RecommendationRequest) -> Any:
        return await stack.recommend(request)

    return app
