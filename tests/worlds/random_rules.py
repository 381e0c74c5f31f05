"""Filter expressions and a shop's rules drawn at random, and what an expression says of one item in plain Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recsys.catalog import CatalogItem
from recsys.expressions.parsing import parse
from recsys.filtering import OUT_OF_STOCK, FilterConfig
from recsys.reranking import ExplorationConfig, RerankConfig, SurfaceRules
from recsys.reranking.config import Boost, Cap, Slot
from tests.worlds.random_expressions import is_true
from tests.worlds.random_tags import blocked_tags

TESTS = (
    "attributes.stock <= 0",
    "attributes.in_stock = false",
    "attributes.adult = true",
    "attributes.adult is null",
    "attributes.nobody = 1",
    "price < 2",
    "price is null",
    'categories has "a"',
    'categories has any ("b", "c")',
    'tags has "x"',
    'title contains "1"',
    "hidden = true",
)


class Told:
    """Items as `is_true` looks at them, by their place."""

    def __init__(self, items: Sequence[CatalogItem]) -> None:
        self._items = items

    def item_id(self, row: int) -> str:
        return self._items[row].item_id

    def fields(self, row: int) -> Mapping[str, Any]:
        return self._items[row].to_json()


def says(text: str, item: CatalogItem) -> bool:
    """Whether an expression is true of an item; "" is true of all."""
    return not text or is_true(parse(text).root, Told([item]), 0)


def expression(rng: np.random.Generator) -> str:
    """One test, or a few of them joined."""
    some = [f"{'not ' * int(rng.random() < 0.3)}{each}" for each in rng.choice(TESTS, int(rng.integers(1, 4)))]
    return f" {rng.choice(['and', 'or'])} ".join(f"({each})" for each in some)


def expressions(rng: np.random.Generator, share: float) -> tuple[str, ...]:
    """None most often; `share` says how often there are some."""
    return tuple(expression(rng) for _ in range(int(rng.integers(1, 3)))) if rng.random() < share else ()


def filter_config(rng: np.random.Generator, **given: Any) -> FilterConfig:
    return FilterConfig(
        out_of_stock=str(rng.choice([OUT_OF_STOCK, "", "attributes.stock = 2"])),
        never=expressions(rng, 0.3),
        only=expressions(rng, 0.2),
        blocked_tags=blocked_tags(rng),
        **given,
    )


def rerank_config(rng: np.random.Generator, item_ids: Sequence[str], *, has_rules: bool) -> RerankConfig:
    """Diversity, and where they are wanted pins, slots, boosts, caps and buried items; one policy of exploration."""
    diversity, window = float(rng.choice([0, 0.1, 0.9])), int(rng.choice([1, 5, 200]))
    if not has_rules:
        return RerankConfig(diversity=diversity, window=window)
    places = [int(place) for place in rng.permutation(12)[:5]]
    pinned = [item_ids[at] for at in rng.permutation(len(item_ids))[:3]]
    rules = SurfaceRules(
        max_per_category=int(rng.choice([0, 1, 2])),
        caps=(Cap(column="attributes.stock", max=1),) if rng.random() < 0.3 else (),
        boosts=tuple(
            Boost(when=when, multiply=float(rng.choice([0.5, 1, 3])), add=float(rng.choice([-2, 0, 5])))
            for when in expressions(rng, 0.5)
        ),
        slots=tuple(
            Slot(position=place, when=when) for place, when in zip(places[3:], expressions(rng, 0.5), strict=False)
        ),
        pins=dict(zip(pinned, places[:3], strict=False)) if rng.random() < 0.6 else {},
        bury=expressions(rng, 0.4),
    )
    explore_share, temperature = ((0.0, 0.0), (0.5, 0.0), (1.0, 0.0), (0.0, 0.3))[int(rng.integers(4))]
    exploration = ExplorationConfig(
        explore_share=explore_share, explore_pool=int(rng.choice([1, 50])), temperature=temperature
    )
    return RerankConfig(diversity=diversity, window=window, rules=rules, exploration=exploration)
