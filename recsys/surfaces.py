"""Surfaces: the places of a shop that show slates, each with settings of its own, edited without a client release.

A surface says only what is different from `[recommender]`. `Surfaces` lays one over the other, once for each load of
the configuration, so that a request looks its surface up and nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, TypeVar

from pydantic import Field, ValidationError

from recsys.config import Config
from recsys.errors import InvalidRequest
from recsys.recommender import RecommenderConfig
from recsys.reranking import ExplorationConfig, SurfaceRules
from recsys.retrieval import RetrievalConfig

SurfaceName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]
C = TypeVar("C", bound=Config)


class SurfaceConfig(SurfaceRules):
    """A `[surfaces.NAME]` section. What it leaves out is as in `[recommender]`.

    Attributes:
        filter: a filter expression that always holds here, beside the request's own.
        limit: items in a slate where the request does not say; else it is the service's default.
        exclude_seen: as `[recommender.filter]`.
        exclude_recently_served_s: what this user was shown so many seconds ago or less does not come again; 0 = may.
        retrieval: quotas, as `[recommender.retrieval]`.
        diversity, window: as `[recommender.rerank]`.
        max_per_category: items of one category in a slate, 0 = as many as there are. Where nothing else is left to
            show, caps are lifted.
        caps: the same for other columns.
        boosts: preferences that change the value, in order; also as `[[surfaces.NAME.boosts]]`.
        slots: places for the best item of a kind.
        pins: items with a place of their own, from 0; where one may not be shown it has none.
        bury: filter expressions of what comes below all others.
        exploration: as `[recommender.rerank.exploration]`.
        value: what each of the learned ranker's probabilities is worth here, as `[recommender.rank] value`.
    """

    filter: Annotated[str, Field(max_length=4096, examples=["not attributes.adult = true"])] = ""
    limit: Annotated[int | None, Field(ge=1, le=500, examples=[12])] = None
    exclude_seen: Annotated[bool | None, Field(examples=[False])] = None
    exclude_recently_served_s: Annotated[float | None, Field(ge=0, examples=[3600])] = None
    retrieval: Annotated[RetrievalConfig, Field(examples=[{"recent": 100}])] = RetrievalConfig()
    diversity: Annotated[float | None, Field(ge=0, le=1, examples=[0.3])] = None
    window: Annotated[int | None, Field(gt=0, examples=[100])] = None
    exploration: Annotated[ExplorationConfig, Field(examples=[{"explore_share": 0.05}])] = ExplorationConfig()
    value: Annotated[dict[str, float], Field(examples=[{"p_click": 1.0, "p_buy": 5.0}])] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ResolvedSurface:
    """What a request on one surface is answered with.

    Attributes:
        name: None for requests that name no surface.
        recommender: `[recommender]` with what the surface changes.
        limit: None = the service's default.
    """

    name: str | None
    recommender: RecommenderConfig
    limit: int | None = None

    @property
    def expressions(self) -> tuple[str, ...]:
        """Every filter expression of this surface, for checking before it serves."""
        return self.recommender.filter.expressions + self.recommender.rerank.rules.expressions


@dataclass(frozen=True, slots=True)
class Surfaces:
    """All surfaces, ready."""

    default: ResolvedSurface
    by_name: Mapping[str, ResolvedSurface]

    @staticmethod
    def of(recommender: RecommenderConfig, surfaces: Mapping[str, SurfaceConfig]) -> Surfaces:
        """Raises ValueError, which names the surface, where one and `[recommender]` together are refused."""
        resolved = {}
        for name, surface in surfaces.items():
            try:
                resolved[name] = _resolved(name, surface, recommender)
            except ValidationError as error:
                says = "; ".join(each["msg"] for each in error.errors())
                raise ValueError(f"surfaces.{name}: together with [recommender]: {says}") from None
        return Surfaces(ResolvedSurface(None, recommender), resolved)

    def resolve(self, name: str | None) -> ResolvedSurface:
        """Raises InvalidRequest where there is no such surface; it names those that there are."""
        if name is None:
            return self.default
        surface = self.by_name.get(name)
        if surface is None:
            known = ", ".join(sorted(self.by_name)) or "none: add [surfaces.NAME] to recsys.toml"
            raise InvalidRequest(f"there is no surface {name[:64]!r}; there are: {known}", field="/surface")
        return surface


def _resolved(name: str, surface: SurfaceConfig, base: RecommenderConfig) -> ResolvedSurface:
    rerank = base.rerank
    rules = _with(rerank.rules, surface.model_dump(include=set(SurfaceRules.model_fields), exclude_unset=True))
    exploration = _with(rerank.exploration, surface.exploration.model_dump(exclude_unset=True))
    of_rerank = surface.model_dump(include={"diversity", "window"}, exclude_none=True)
    of_filter: dict[str, object] = surface.model_dump(include={"exclude_seen"}, exclude_none=True)
    if surface.exclude_recently_served_s is not None:
        of_filter["exclude_served_s"] = surface.exclude_recently_served_s
    if surface.filter:
        of_filter["only"] = (*base.filter.only, surface.filter)
    changes = {
        "retrieval": _with(base.retrieval, surface.retrieval.model_dump(exclude_unset=True)),
        "filter": _with(base.filter, of_filter),
        "rank": _with(base.rank, {"value": surface.value} if surface.value else {}),
        "rerank": _with(rerank, of_rerank).model_copy(update={"rules": rules, "exploration": exploration}),
    }
    return ResolvedSurface(
        name=name,
        recommender=base.model_copy(update=changes),
        limit=surface.limit,
    )


def _with(base: C, changes: Mapping[str, object]) -> C:
    """The same settings with these in place of its own, checked again together."""
    return type(base).model_validate({**base.model_dump(), **changes})
