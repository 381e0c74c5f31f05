from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from recsys.config import load_config
from recsys.errors import ConfigError, InvalidRequest
from recsys.recommender import RecommenderConfig
from recsys.reranking import Boost, ExplorationConfig, RerankConfig, SurfaceRules
from recsys.retrieval import RetrievalConfig
from recsys.surfaces import SurfaceConfig, SurfaceExperiment, Surfaces
from recsys.workspace import CONFIG_NAME, WorkspaceConfig

BASE = RecommenderConfig(
    retrieval=RetrievalConfig(ann=7, recent=8),
    rerank=RerankConfig(
        diversity=0.4,
        rules=SurfaceRules(max_per_category=3, bury=("x = 1",)),
        exploration=ExplorationConfig(explore_pool=9),
    ),
)
TOML = """
[recommender.retrieval]
ann = 10

[surfaces.home]
filter = 'attributes.adult != true'
limit = 12
exclude_seen = false
exclude_recently_served_s = 60
diversity = 0.5
max_per_category = 2
pins = { "item 7" = 0 }
bury = ["attributes.stock = 0"]
value = { p_click = 1.0, p_buy = 5.0 }
retrieval = { popular = 5 }
exploration = { explore_share = 0.1 }

[[surfaces.home.boosts]]
when = 'attributes.new = true'
multiply = 1.5

[surfaces.basket]
"""


def load(folder: Path, text: str) -> WorkspaceConfig:
    (folder / CONFIG_NAME).write_text(text, encoding="utf-8")
    return load_config(folder / CONFIG_NAME, WorkspaceConfig)


def test_a_surface_in_the_file_is_what_a_request_on_it_is_answered_with(tmp_path: Path) -> None:
    config = load(tmp_path, TOML)
    home = Surfaces.of(config.recommender, config.surfaces).resolve("home")
    assert (home.name, home.limit) == ("home", 12)
    recommender = home.recommender
    assert recommender.filter.exclude_served_s == 60
    assert recommender.filter.only == ("attributes.adult != true",)
    assert recommender.rank.value == {"p_click": 1.0, "p_buy": 5.0}
    assert {"attributes.adult != true", "attributes.new = true", "attributes.stock = 0"} <= set(home.expressions)
    assert (recommender.retrieval.ann, recommender.retrieval.popular) == (10, 5)
    assert recommender.filter.exclude_seen is False
    rerank = recommender.rerank
    assert (rerank.diversity, rerank.window) == (0.5, 200)
    assert rerank.exploration == ExplorationConfig(explore_share=0.1)
    assert rerank.rules == SurfaceRules(
        max_per_category=2,
        boosts=(Boost(when="attributes.new = true", multiply=1.5),),
        pins={"item 7": 0},
        bury=("attributes.stock = 0",),
    )


def test_what_a_surface_leaves_out_is_as_without_one() -> None:
    surfaces = Surfaces.of(BASE, {"plain": SurfaceConfig(), "one": SurfaceConfig(max_per_category=1, window=5)})
    assert surfaces.resolve(None).recommender is BASE
    assert surfaces.resolve("plain").recommender == BASE
    assert surfaces.resolve("plain").expressions == surfaces.default.expressions
    assert "x = 1" in surfaces.default.expressions
    one = surfaces.resolve("one").recommender
    assert one.rerank.rules == SurfaceRules(max_per_category=1, bury=("x = 1",))
    assert (one.rerank.diversity, one.rerank.window, one.rerank.exploration.explore_pool) == (0.4, 5, 9)
    assert (one.retrieval, one.filter) == (BASE.retrieval, BASE.filter)


def test_a_surface_may_take_a_rule_back() -> None:
    surface = SurfaceConfig.model_validate({"max_per_category": 0, "bury": []})
    assert Surfaces.of(BASE, {"all": surface}).resolve("all").recommender.rerank.rules.is_empty


def test_an_unknown_surface_is_refused_with_those_that_there_are() -> None:
    surfaces = Surfaces.of(BASE, {"home": SurfaceConfig(), "basket": SurfaceConfig()})
    with pytest.raises(InvalidRequest, match="no surface 'hom'; there are: basket, home") as refused:
        surfaces.resolve("hom")
    assert refused.value.field == "/surface"
    with pytest.raises(InvalidRequest, match=r"none: add \[surfaces\.NAME\]"):
        Surfaces.of(BASE, {}).resolve("home")


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ("[surfaces.home]\ncolour = 'red'", "surfaces.home.colour: is not a setting we know"),
        ("[surfaces.home.retrieval]\nanns = 3", "surfaces.home.retrieval.anns"),
        ("[surfaces.home]\nlimit = 0", "surfaces.home.limit"),
        ("[surfaces.'a b']\nlimit = 1", "surfaces.a b"),
        ("[surfaces.home]\npins = { a = 0, b = 0 }", "place 0 is given to two items"),
        ("[[surfaces.home.boosts]]\nmultiply = 2", "boosts.0.when"),
    ],
)
def test_a_surface_that_cannot_be_is_refused_when_it_is_read(tmp_path: Path, section: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says.replace("[", r"\[")):
        load(tmp_path, section)


def test_a_surface_that_cannot_be_together_with_the_recommender_is_refused_too(tmp_path: Path) -> None:
    text = "[recommender.rerank.rules]\npins = { a = 0 }\n[surfaces.home]\nslots = [{ position = 0, when = 'x = 1' }]"
    with pytest.raises(ConfigError, match=r"surfaces\.home: together with \[recommender\]: .*place 0"):
        load(tmp_path, text)


def variants(**settings: object) -> SurfaceExperiment:
    return SurfaceExperiment.model_validate(
        {"variants": {"control": {"weight": 0.5}, "t": {"weight": 0.5, **settings}}}
    )


def test_variants_lie_over_the_surface_and_are_laid_there_once() -> None:
    experiments = {"fewer": variants(limit=3, filter="y = 2"), "wide": variants(window=9, retrieval={"recent": 1})}
    surfaces = Surfaces.of(BASE, {"home": SurfaceConfig(limit=5, diversity=0.9, filter="z = 3")}, experiments)
    home = surfaces.resolve("home", {"fewer": "t", "wide": "t"})
    assert (home.name, home.limit) == ("home", 3)
    assert home.recommender.filter.only == (*BASE.filter.only, "z = 3", "y = 2")
    assert (home.recommender.rerank.diversity, home.recommender.rerank.window) == (0.9, 9)
    assert (home.recommender.retrieval.ann, home.recommender.retrieval.recent) == (7, 1)
    assert surfaces.resolve("home", {"wide": "t", "fewer": "t"}) is home
    assert surfaces.resolve("home", {"wide": "t"}).limit == 5
    assert surfaces.resolve(None, {"wide": "t"}).recommender.rerank.diversity == 0.4


def test_the_control_is_the_surface_itself_and_so_is_a_variant_that_is_not_there() -> None:
    surfaces = Surfaces.of(BASE, {"home": SurfaceConfig(limit=5)}, {"fewer": variants(limit=3)})
    for found in ({}, {"fewer": "control"}, {"fewer": "gone"}, {"gone": "t"}):
        assert surfaces.resolve("home", found) is surfaces.by_name["home"]
        assert surfaces.resolve(None, found) is surfaces.default


def test_everything_that_answers_requests_is_named_for_checking() -> None:
    experiments = {
        "e": variants(filter="y = 2"),
        "on_home": variants(limit=2).model_copy(update={"surfaces": ("home",)}),
    }
    surfaces = Surfaces.of(BASE, {"home": SurfaceConfig()}, experiments)
    assert [where for where, _ in surfaces.every()] == [
        "recommender",
        "surfaces.home",
        "experiments.e.variants.t",
        "experiments.e.variants.t",
        "experiments.on_home.variants.t",
    ]
    assert all("y = 2" in met.expressions for where, met in surfaces.every() if where == "experiments.e.variants.t")


OVERLAYS = {
    "filter": "y = 2",
    "limit": 3,
    "blocked_tags": ["nsfw"],
    "exclude_seen": False,
    "exclude_recently_served_s": 5,
    "retrieval": {"ann": 1},
    "diversity": 0.0,
    "window": 1,
    "max_per_category": 1,
    "caps": [{"column": "price", "max": 1}],
    "boosts": [{"when": "x = 1", "add": 1}],
    "slots": [{"position": 0, "when": "x = 1"}],
    "pins": {"a": 0},
    "bury": ["x = 2"],
    "exploration": {"explore_share": 0.5},
    "value": {"p_click": 2.0},
}


def test_settings_that_two_experiments_may_change_are_never_refused_together() -> None:
    """A request would fail where two variants, each sound alone, were not sound together."""
    assert set(OVERLAYS) == set(SurfaceConfig.model_fields)
    for one, other in combinations(OVERLAYS, 2):
        both = {"one": variants(**{one: OVERLAYS[one]}), "other": variants(**{other: OVERLAYS[other]})}
        if {one, other} == {"slots", "pins"}:
            with pytest.raises(ValueError, match="both change pins and slots"):
                Surfaces.of(BASE, {}, both)
        else:
            Surfaces.of(BASE, {}, both).resolve(None, {"one": "t", "other": "t"})
