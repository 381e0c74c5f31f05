"""Which variant a unit gets: computed from its id alone, so it is the same in every process, after every restart, and
in any client.

    bucket(salt, unit_id) = the first 8 bytes of sha256(salt + "/" + unit_id in UTF-8), big-endian, / 2**64

Where the experiment is in a layer, a unit takes part if bucket("layer:" + layer, unit_id) is in [from, to) of its
`traffic`. Then the variant is the one whose range holds bucket(salt, unit_id). Of n variants in the order of their
names, number i (from 0) has the range of its weight from i/n on. What does not fit below (i+1)/n lies at the free ends
of the others' n-ths, filled from 1 down, in the order of names.

So a variant grows upward in an n-th that no other touches before it is full: up to a weight of 1/n, to ramp one variant
moves nobody out of another, and between two variants never, as one grows up and the other down.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Literal, Protocol

from recsys.experiments.definition import ExperimentConfig, V

BELOW_ONE = math.nextafter(1.0, 0.0)
TINY = 1e-12
Range = tuple[float, float, str]


class Asked(Protocol):
    """What of a request decides which experiments it is part of."""

    @property
    def user_id(self) -> str | None: ...
    @property
    def session_id(self) -> str | None: ...
    @property
    def surface(self) -> str | None: ...


def bucket(salt: str, unit_id: str) -> float:
    """Where a unit lies in [0, 1): evenly spread, and for two salts independently."""
    digest = sha256(f"{salt}/{unit_id}".encode()).digest()
    # The last thousand of 2**64 values would round to 1.
    return min(int.from_bytes(digest[:8], "big") / 2**64, BELOW_ONE)


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment, ready to assign.

    Attributes:
        layer_salt: None = in no layer.
        traffic: its part of the layer's units, from and to.
        surfaces: None = everywhere.
        ranges: of the variants: from, to, name; in order.
    """

    name: str
    unit: Literal["user", "session"]
    salt: str
    layer_salt: str | None
    traffic: tuple[float, float]
    starts_at: datetime | None
    ends_at: datetime | None
    surfaces: frozenset[str] | None
    ranges: tuple[Range, ...]

    @staticmethod
    def of(name: str, config: ExperimentConfig[V]) -> Experiment:
        return Experiment(
            name,
            config.unit,
            config.salt or name,
            f"layer:{config.layer}" if config.layer else None,
            config.traffic,
            config.starts_at,
            config.ends_at,
            frozenset(config.surfaces) or None,
            ranges_of({each: variant.weight for each, variant in config.variants.items()}),
        )

    def is_on(self, surface: str | None, now: datetime) -> bool:
        """Whether it runs there and then: from `starts_at` on, and before `ends_at`."""
        if self.surfaces is not None and surface not in self.surfaces:
            return False
        if self.starts_at is not None and now < self.starts_at:
            return False
        return self.ends_at is None or now < self.ends_at

    def unit_of(self, asked: Asked) -> str | None:
        """The id that decides; None where the request has none. Somebody without a user_id is known by the session."""
        if self.unit == "user" and asked.user_id is not None:
            return asked.user_id
        return asked.session_id

    def variant_of(self, unit_id: str) -> str | None:
        """The unit's variant; None where it takes no part."""
        if self.layer_salt is not None and not self.traffic[0] <= bucket(self.layer_salt, unit_id) < self.traffic[1]:
            return None
        place = bucket(self.salt, unit_id)
        for start, end, variant in self.ranges:
            if start <= place < end:
                return variant
        return None


def prepared(experiments: Mapping[str, ExperimentConfig[V]]) -> tuple[Experiment, ...]:
    """The experiments of a configuration, by name: the order in the file means nothing."""
    return tuple(Experiment.of(name, experiments[name]) for name in sorted(experiments))


def assign(experiments: Sequence[Experiment], asked: Asked, now: datetime) -> dict[str, str]:
    """Experiment → variant, of those that this request is part of."""
    variants = {}
    for experiment in experiments:
        if experiment.is_on(asked.surface, now):
            unit_id = experiment.unit_of(asked)
            variant = None if unit_id is None else experiment.variant_of(unit_id)
            if variant is not None:
                variants[experiment.name] = variant
    return variants


def ranges_of(weights: Mapping[str, float]) -> tuple[Range, ...]:
    """Ranges of [0, 1) that do not overlap, in order; those of a variant are together as wide as its weight."""
    names = sorted(weights)
    ranges: list[Range] = []
    free: list[tuple[float, float]] = []
    for i, name in enumerate(names):
        start, end = i / len(names), (i + 1) / len(names)
        own = min(start + weights[name], end)
        ranges.append((start, own, name))
        free.append((own, end))
    for name in names:
        missing = weights[name] - 1 / len(names)
        while missing > TINY and free:
            start, end = free.pop()
            taken = max(start, end - missing)
            ranges.append((taken, end, name))
            free.append((start, taken))
            missing -= end - taken
            if taken == start:
                free.pop()
    return tuple(sorted(each for each in ranges if each[0] < each[1]))
