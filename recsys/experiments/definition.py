"""What an experiment compares, as recsys.toml says it, and which experiments can run beside each other.

Two experiments that may meet in one request must be independent: they have salts of their own, and change different
settings. Those that would not be are put into one layer. The experiments of a layer each have a part of its units,
`traffic`, and the parts of those that run at one time do not overlap, so a unit is in at most one of them. The parts
are written down instead of computed from each other: to widen, end or take away one experiment moves nobody in another.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from itertools import combinations
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import AwareDatetime, Field, field_validator, model_validator

from recsys.config import Config

CONTROL = "control"
ROUNDING = 1e-9  # weights such as .1 + .2 + .7 add up to 1 and a little
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]
Salt = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9_.-]*$")]
Layer = Salt
Part = Annotated[float, Field(ge=0, le=1)]
EXAMPLE = {
    "control": {"weight": 0.5},
    "treatment": {"weight": 0.5, "boosts": [{"when": "attributes.new = true", "multiply": 1.2}]},
}


class VariantConfig(Config):
    """One of the things compared; a subclass says what can be different in it.

    Attributes:
        weight: the share of the experiment's units that get it.
    """

    weight: Annotated[float, Field(gt=0, le=1)]

    @property
    def changes(self) -> frozenset[str]:
        """Names of the settings that are different, for telling whether two experiments would change the same."""
        return frozenset(self.model_fields_set - {"weight"})


V = TypeVar("V", bound=VariantConfig)


class ExperimentConfig(Config, Generic[V]):
    """An `[experiments.NAME]` section.

    Attributes:
        unit: who is given a variant and keeps it: a user, where a request names none its session; or a session.
        salt: what the shares are drawn by; "" = the experiment's name. Another salt is another draw.
        layer: experiments of one layer never have the same unit; "" = in none.
        traffic: the part of the layer's units that are this experiment's, from and to; those of one layer that run
            at one time must not overlap.
        starts_at: no unit takes part before; RFC 3339 with a zone, without one it runs at once.
        ends_at: no unit takes part from then on.
        surfaces: where it runs; [] = everywhere, also where a request names no surface.
        variants: what is compared, by name: `control`, which changes nothing, and others, which say what a surface
            section may say. Each weight is a share of the units, the rest takes no part. A weight may grow to 1 / the
            number of variants (with two variants, to anything) without moving anybody out of a variant.
    """

    unit: Annotated[Literal["user", "session"], Field(examples=["user"])] = "user"
    salt: Annotated[Salt, Field(examples=["autumn"])] = ""
    layer: Annotated[Layer, Field(examples=["ranking"])] = ""
    traffic: Annotated[tuple[Part, Part], Field(examples=[[0.0, 0.5]])] = (0.0, 1.0)
    starts_at: Annotated[AwareDatetime | None, Field(examples=["2026-01-01T00:00:00Z"])] = None
    ends_at: Annotated[AwareDatetime | None, Field(examples=["2026-02-01T00:00:00Z"])] = None
    surfaces: Annotated[tuple[Name, ...], Field(examples=[[]])] = ()
    variants: Annotated[dict[Name, V], Field(examples=[EXAMPLE])]

    @field_validator("starts_at", "ends_at", mode="before")
    @classmethod
    def _is_a_moment(cls, value: object) -> object:
        if value is not None and not isinstance(value, str | datetime):
            raise ValueError("write a time with its zone, such as 2026-01-01T00:00:00Z")
        return value or None

    @model_validator(mode="after")
    def _is_a_comparison(self) -> ExperimentConfig[V]:
        control = self.variants.get(CONTROL)
        if control is None or len(self.variants) < 2:
            raise ValueError(
                "variants must hold `control` and what it is compared with: "
                "variants = { control = { weight = 0.5 }, treatment = { weight = 0.5, diversity = 0.3 } }"
            )
        if control.changes:
            named = ", ".join(sorted(control.changes))
            raise ValueError(f"variants.control changes {named}: it has a weight alone; give these to another variant")
        total = sum(variant.weight for variant in self.variants.values())
        if total > 1 + ROUNDING:
            raise ValueError(f"the weights of variants add up to {total:g}: lower them to 1 or less")
        return self

    @model_validator(mode="after")
    def _has_some_traffic(self) -> ExperimentConfig[V]:
        if self.starts_at is not None and self.ends_at is not None and self.starts_at >= self.ends_at:
            raise ValueError("ends_at must come after starts_at")
        if self.traffic[0] >= self.traffic[1]:
            raise ValueError("traffic is a part from and to, such as [0.0, 0.5]: the second must be the larger")
        if self.traffic != (0.0, 1.0) and not self.layer:
            raise ValueError("traffic is a part of a layer's units: name the layer, or lower the variants' weights")
        return self

    @property
    def changes(self) -> frozenset[str]:
        """Names of the settings that any of the variants changes."""
        return frozenset().union(*(variant.changes for variant in self.variants.values()))


def require_sound(experiments: Mapping[str, ExperimentConfig[V]]) -> None:
    """Raises ValueError, which says what to change, where two experiments cannot run beside each other."""
    for (name, one), (other_name, other) in combinations(experiments.items(), 2):
        if not _at_one_time(one, other):
            continue
        both = f"experiments {name} and {other_name}"
        if one.layer and one.layer == other.layer:
            _require_apart(one, other, both)
        elif _on_one_surface(one, other):
            _require_independent(one, other, both)
            if (one.salt or name) == (other.salt or other_name):
                raise ValueError(f"{both} have one salt, so they would have the same units: give one of them another")


def _require_apart(one: ExperimentConfig[V], other: ExperimentConfig[V], both: str) -> None:
    """In one layer: whatever the surface, a unit that is in one of them is not in the other."""
    if one.unit != other.unit:
        raise ValueError(f"{both} are in layer {one.layer} by other units: give both the same unit, or two layers")
    if max(one.traffic[0], other.traffic[0]) < min(one.traffic[1], other.traffic[1]):
        raise ValueError(
            f"{both} share units of layer {one.layer}: give each a part of its own, such as traffic = [0.0, 0.5] "
            "and traffic = [0.5, 1.0], or let one end before the other starts"
        )


def _require_independent(one: ExperimentConfig[V], other: ExperimentConfig[V], both: str) -> None:
    common = sorted(one.changes & other.changes)
    if common:
        raise ValueError(
            f"{both} may meet in a request and both change {', '.join(common)}: put them into one layer, each with "
            "traffic of its own, or on surfaces of their own"
        )


def _at_one_time(one: ExperimentConfig[V], other: ExperimentConfig[V]) -> bool:
    return not (_is_over_before(one, other) or _is_over_before(other, one))


def _is_over_before(one: ExperimentConfig[V], other: ExperimentConfig[V]) -> bool:
    return one.ends_at is not None and other.starts_at is not None and one.ends_at <= other.starts_at


def _on_one_surface(one: ExperimentConfig[V], other: ExperimentConfig[V]) -> bool:
    return not one.surfaces or not other.surfaces or not set(one.surfaces).isdisjoint(other.surfaces)
