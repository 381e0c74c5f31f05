"""The routes that answer with items, each with something to ask that the whole shop could answer."""

from __future__ import annotations

from typing import Any

from tests.serving.asking import event, ids, send
from tests.serving.shop import Shop

EVERYTHING = tuple(f"{letter}{number}" for letter in "abc" for number in range(10))
# name → method, path, what is asked
ROUTES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "recommendations": ("POST", "/v1/recommendations", {}),
    "search_text": ("POST", "/v1/search", {"text": "gamma"}),
    "search_item": ("POST", "/v1/search", {"item_id": "b3"}),
    "search_vector": ("POST", "/v1/search", {"vector": [1.0] * 8, "modality": "item"}),
    "search_title": ("POST", "/v1/search", {"text": "title of"}),
    "refine": ("POST", "/v1/refine", {"item_id": "b9", "text": "alpha"}),
    "rank": ("POST", "/v1/rank", {"item_ids": list(EVERYTHING)}),
    "similar": ("GET", "/v1/items/b3/similar", {}),
    "similar_by_query": ("GET", "/v1/similar", {"item_id": "b3"}),
    "popular": ("GET", "/v1/popular", {}),
    "trending": ("GET", "/v1/trending", {}),
}
BODIES = tuple(name for name, (method, _, _) in ROUTES.items() if method == "POST")


def asked(shop: Shop, route: str, **more: Any) -> Any:
    method, path, what = ROUTES[route]
    return (shop.get if method == "GET" else shop.post)(path, **{**what, **more})


def reply_of(shop: Shop, route: str, **more: Any) -> dict[str, Any]:
    response = asked(shop, route, **more)
    assert response.status_code == 200, response.text
    return dict(response.json())


def slate_of(shop: Shop, route: str, **more: Any) -> list[str]:
    return ids(reply_of(shop, route, **more))


def everybody_takes_everything(shop: Shop, *more: str) -> None:
    """So that all of it is trending, a0 the most."""
    for at, item_id in enumerate((*EVERYTHING, *more)):
        n_times = 3 if at == 0 else 1
        send(shop.client, *[event(f"other {n} {item_id}", item_id) for n in range(n_times)])
    shop.service.trends.refresh()
