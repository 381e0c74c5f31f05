"""How a slate is chosen: diversity, a shop's own rules, exploration.

The rules apply in this order: boosts change the value; slots and pins set items aside for their places; diversity and
caps fill the others from the best; exploration swaps some of those for cold items. Buried items come last of all, and
only where nothing else is left. A pin outranks a bury, and exploration is outside of the caps.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from recsys.config import Config

Column = Annotated[str, Field(min_length=1, max_length=256)]
When = Annotated[str, Field(min_length=1, max_length=4096)]
Place = Annotated[int, Field(ge=0, lt=500)]


class Boost(Config):
    """A soft preference: it changes the value, and the value decides.

    Attributes:
        when: a filter expression: `attributes.new = true`.
        multiply: factor of the value, 1 = none; a negative value is divided by it, so more is always better.
        add: what is added to the value after that.
    """

    when: When
    multiply: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    add: Annotated[float, Field(allow_inf_nan=False)] = 0.0


class Cap(Config):
    """At most so many items of a slate with the same value of a column.

    Attributes:
        column: `categories`, a field such as `price`, or `attributes.NAME`; an item counts for each entry of a list.
        max: items with one value.
    """

    column: Column
    max: Annotated[int, Field(ge=1)]


class Slot(Config):
    """A place for the best item of a kind.

    Attributes:
        position: the place, from 0.
        when: a filter expression; where nothing that may be shown matches, the place is like all others.
    """

    position: Place
    when: When


class SurfaceRules(Config):
    """A shop's own rules.

    Attributes:
        max_per_category: items of one category in a slate, 0 = as many as there are. Where nothing else is left to
            show, caps are lifted.
        caps: the same for other columns: `[{ column = "attributes.brand", max = 2 }]`.
        boosts: preferences: `[{ when = "attributes.new = true", multiply = 1.2 }]`; of several that match
            each changes what the one before left.
        slots: places for the best item of a kind: `[{ position = 0, when = "attributes.sponsored = true" }]`.
        pins: items with a place of their own, from 0: `{ "item 7" = 0 }`; where one may not be shown it has none.
        bury: filter expressions of what comes below all others.
    """

    max_per_category: Annotated[int, Field(ge=0, examples=[3])] = 0
    caps: Annotated[tuple[Cap, ...], Field(examples=[[{"column": "attributes.brand", "max": 2}]])] = ()
    boosts: Annotated[tuple[Boost, ...], Field(examples=[[{"when": "attributes.new = true", "multiply": 1.2}]])] = ()
    slots: Annotated[tuple[Slot, ...], Field(examples=[[{"position": 1, "when": "attributes.promoted = true"}]])] = ()
    pins: Annotated[dict[str, Place], Field(examples=[{"an item's id": 0}])] = Field(default_factory=dict)
    bury: Annotated[tuple[When, ...], Field(examples=[["attributes.stock = 0"]])] = ()

    @model_validator(mode="after")
    def _has_one_item_a_place(self) -> SurfaceRules:
        places = [*self.pins.values(), *(slot.position for slot in self.slots)]
        twice = sorted({place for place in places if places.count(place) > 1})
        if twice:
            raise ValueError(f"place {twice[0]} is given to two items: pins and slots need a place each")
        return self

    @property
    def all_caps(self) -> tuple[Cap, ...]:
        by_category = (Cap(column="categories", max=self.max_per_category),) if self.max_per_category else ()
        return by_category + self.caps

    @property
    def expressions(self) -> tuple[str, ...]:
        """Every filter expression in them, for checking."""
        return (*(boost.when for boost in self.boosts), *(slot.when for slot in self.slots), *self.bury)

    @property
    def is_empty(self) -> bool:
        return not (self.max_per_category or self.caps or self.boosts or self.slots or self.pins or self.bury)


class ExplorationConfig(Config):
    """How much is tried out; every choice by chance is logged with its probability.

    Attributes:
        explore_share: the chance of each place (pins and slots apart) to be given to a cold item, all cold items of
            the pool with the same chance; 0 = off.
        explore_pool: so many cold items, the most valuable ones, take part.
        temperature: above 0 items are drawn with probability proportional to exp(score / temperature), the score in
            units of the values' 10-90 % spread: .05 changes little, 1 nearly everything. 0 = always the best.
    """

    explore_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    explore_pool: Annotated[int, Field(ge=1)] = 50
    temperature: Annotated[float, Field(ge=0, le=100)] = 0.0

    @model_validator(mode="after")
    def _is_one_policy(self) -> ExplorationConfig:
        if self.explore_share and self.temperature:
            raise ValueError("explore_share and temperature are two policies: set one of them to 0")
        return self

    @property
    def is_off(self) -> bool:
        return not (self.explore_share or self.temperature)


class RerankConfig(Config):
    """How much diversity is worth.

    Attributes:
        diversity: weight of dissimilarity against value: 0 = order of value alone, 1 = dissimilarity alone.
        window: only so many of the best candidates may be moved; what follows keeps the order of value.
    """

    diversity: Annotated[float, Field(ge=0, le=1)] = 0.1
    window: Annotated[int, Field(gt=0)] = 200
    rules: SurfaceRules = SurfaceRules()
    exploration: ExplorationConfig = ExplorationConfig()
