"""Surfaces: the places of a shop that show slates, each with settings of its own, edited without a client release.

A surface says only what is different from `[recommender]`, and a variant of an experiment what is different from the
surface. `Surfaces` lays one over the other, surfaces once for each load of the configuration and variants once for each
set of them that meets, so that a request looks its settings up and nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Annotated, TypeVar

from pydantic import Field, ValidationError

from recsys.config import Config
from recsys.errors import InvalidRequest
from recsys.experiments import Experiment, ExperimentConfig, Name, VariantConfig, prepared, require_sound
from recsys.filtering import BlockedTag
from recsys.recommender import RecommenderConfig
from recsys.reranking import ExplorationConfig, SurfaceRules
from recsys.retrieval import RetrievalConfig

SurfaceName = Name
MAX_MET = 1024  # sets of variants that have met on a surface, kept ready: six kilobytes each
NO_VARIANTS: Mapping[str, str] = {}
C = TypeVar("C", bound=Config)


class SurfaceConfig(SurfaceRules):
    """A `[surfaces.NAME]` section. What it leaves out is as in `[recommender]`.

    Attributes:
        filter: a filter expression that always holds here, beside the request's own.
        limit: items in a slate where the request does not say; else it is the service's default.
        blocked_tags, exclude_seen: as `[recommender.filter]`, in place of what stands there.
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
    blocked_tags: Annotated[tuple[BlockedTag, ...] | None, Field(examples=[["nsfw"]])] = None
    exclude_seen: Annotated[bool | None, Field(examples=[False])] = None
    exclude_recently_served_s: Annotated[float | None, Field(ge=0, examples=[3600])] = None
    retrieval: Annotated[RetrievalConfig, Field(examples=[{"recent": 100}])] = RetrievalConfig()
    diversity: Annotated[float | None, Field(ge=0, le=1, examples=[0.3])] = None
    window: Annotated[int | None, Field(gt=0, examples=[100])] = None
    exploration: Annotated[ExplorationConfig, Field(examples=[{"explore_share": 0.05}])] = ExplorationConfig()
    value: Annotated[dict[str, float], Field(examples=[{"p_click": 1.0, "p_buy": 5.0}])] = Field(default_factory=dict)


class SurfaceVariant(VariantConfig, SurfaceConfig):
    """A variant of an experiment: its weight, and what a `[surfaces.NAME]` section may say, laid over the surface."""

    @property
    def changes(self) -> frozenset[str]:
        """Pins and slots are one: a place is given once."""
        return frozenset("pins and slots" if name in ("pins", "slots") else name for name in super().changes)


SurfaceExperiment = ExperimentConfig[SurfaceVariant]
Changed = tuple[tuple[str, str], ...]


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
    """All surfaces, ready, and the experiments on them.

    Attributes:
        variants: by experiment and variant, those that change something.
    """

    default: ResolvedSurface
    by_name: Mapping[str, ResolvedSurface]
    experiments: tuple[Experiment, ...] = ()
    variants: Mapping[tuple[str, str], SurfaceVariant] = field(default_factory=dict)
    _met: Callable[[str | None, Changed], ResolvedSurface] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        default, by_name, variants = self.default, self.by_name, self.variants

        def met(name: str | None, changed: Changed) -> ResolvedSurface:
            surface = default if name is None else by_name[name]
            for each in changed:
                surface = _laid_over(surface, variants[each])
            return surface

        object.__setattr__(self, "_met", lru_cache(MAX_MET)(met))

    @staticmethod
    def of(
        recommender: RecommenderConfig,
        surfaces: Mapping[str, SurfaceConfig],
        experiments: Mapping[str, SurfaceExperiment] = MappingProxyType({}),
    ) -> Surfaces:
        """Raises ValueError, which names the surface or the experiment, where one is refused together with
        `[recommender]`, with a surface or with another experiment."""
        resolved = {}
        for name, surface in surfaces.items():
            with _named(f"surfaces.{name}: together with [recommender]"):
                resolved[name] = _resolved(name, surface, recommender)
        require_sound(experiments)
        for name, experiment in experiments.items():
            _require_known(name, experiment.surfaces, resolved)
        changing = {
            (name, variant): overlay
            for name, experiment in experiments.items()
            for variant, overlay in experiment.variants.items()
            if overlay.changes
        }
        made = Surfaces(ResolvedSurface(None, recommender), resolved, prepared(experiments), changing)
        for _ in made.every():  # says what is wrong with any
            pass
        return made

    def resolve(self, name: str | None, variants: Mapping[str, str] = NO_VARIANTS) -> ResolvedSurface:
        """A surface with these variants (experiment → variant) laid over it. One that is not there changes nothing.

        Raises InvalidRequest where there is no such surface; it names those that there are.
        """
        surface = self.default if name is None else self.by_name.get(name)
        if surface is None:
            known = _listed(self.by_name)
            raise InvalidRequest(f"there is no surface {str(name)[:64]!r}; there are: {known}", field="/surface")
        if variants:
            changed = tuple(sorted(each for each in variants.items() if each in self.variants))
            if changed:
                return self._met(name, changed)
        return surface

    def every(self) -> Iterator[tuple[str, ResolvedSurface]]:
        """All that a request can be answered with but for variants that meet, which change different settings; each
        with where recsys.toml says it."""
        yield "recommender", self.default
        for name, surface in self.by_name.items():
            yield f"surfaces.{name}", surface
        everywhere = (None, *self.by_name)
        on = {each.name: everywhere if each.surfaces is None else sorted(each.surfaces) for each in self.experiments}
        for experiment, variant in self.variants:
            where = f"experiments.{experiment}.variants.{variant}"
            for surface_name in on[experiment]:
                below = "[recommender]" if surface_name is None else f"surfaces.{surface_name}"
                with _named(f"{where}: together with {below}"):
                    met = self._met(surface_name, ((experiment, variant),))
                yield where, met


@contextmanager
def _named(where: str) -> Iterator[None]:
    """What is refused inside is refused in these words."""
    try:
        yield
    except ValidationError as error:
        says = "; ".join(each["msg"] for each in error.errors())
        raise ValueError(f"{where}: {says}") from None


def _require_known(experiment: str, names: tuple[str, ...], surfaces: Mapping[str, ResolvedSurface]) -> None:
    for name in names:
        if name not in surfaces:
            there_are = _listed(surfaces)
            raise ValueError(f"experiments.{experiment}.surfaces: there is no surface {name!r}; there are: {there_are}")


def _listed(surfaces: Mapping[str, ResolvedSurface]) -> str:
    return ", ".join(sorted(surfaces)) or "none: add [surfaces.NAME] to recsys.toml"


def _laid_over(surface: ResolvedSurface, variant: SurfaceVariant) -> ResolvedSurface:
    changed = _resolved(surface.name, variant, surface.recommender)
    return changed if changed.limit is not None else replace(changed, limit=surface.limit)


def _resolved(name: str | None, surface: SurfaceConfig, base: RecommenderConfig) -> ResolvedSurface:
    rerank = base.rerank
    rules = _with(rerank.rules, surface.model_dump(include=set(SurfaceRules.model_fields), exclude_unset=True))
    exploration = _with(rerank.exploration, surface.exploration.model_dump(exclude_unset=True))
    of_rerank = surface.model_dump(include={"diversity", "window"}, exclude_none=True)
    of_filter: dict[str, object] = surface.model_dump(include={"blocked_tags", "exclude_seen"}, exclude_none=True)
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
