"""What recsys.toml may say of experiments; each refusal says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys.config import load_config
from recsys.errors import ConfigError
from recsys.workspace import CONFIG_NAME, WorkspaceConfig

VARIANTS = "variants = { control = { weight = 0.5 }, treatment = { weight = 0.5, diversity = 0.3 } }\n"
OTHER = "variants = { control = { weight = 0.5 }, treatment = { weight = 0.5, max_per_category = 3 } }\n"


def load(folder: Path, text: str) -> WorkspaceConfig:
    (folder / CONFIG_NAME).write_text(text, encoding="utf-8")
    return load_config(folder / CONFIG_NAME, WorkspaceConfig)


def pair(one: str, two: str) -> str:
    return f"[surfaces.home]\n[surfaces.basket]\n[experiments.one]\n{one}\n[experiments.two]\n{two}"


def test_an_experiment_as_sections_is_the_same_as_inline(tmp_path: Path) -> None:
    inline = load(tmp_path, f"[experiments.e]\nstarts_at = 2026-01-01T00:00:00Z\n{VARIANTS}")
    sections = load(
        tmp_path,
        '[experiments.e]\nstarts_at = "2026-01-01T00:00:00Z"\n[experiments.e.variants.control]\nweight = 0.5\n'
        "[experiments.e.variants.treatment]\nweight = 0.5\ndiversity = 0.3\n",
    )
    assert inline == sections
    assert sections.experiments["e"].changes == {"diversity"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("variants = { treatment = { weight = 0.5 } }", "variants must hold `control`"),
        ("variants = { control = { weight = 0.5 } }", "and what it is compared with"),
        (
            "variants = { control = { weight = 0.5, limit = 3 }, t = { weight = 0.5 } }",
            "variants.control changes limit",
        ),
        ("variants = { control = { weight = 0.6 }, t = { weight = 0.5 } }", "add up to 1.1: lower them"),
        ("variants = { control = { weight = 0 }, t = { weight = 0.5 } }", "variants.control.weight"),
        ("variants = { control = { }, t = { weight = 0.5 } }", "variants.control.weight"),
        ("variants = { control = { weight = 0.5 }, t = { weight = 0.5, colour = 1 } }", "t.colour: is not a setting"),
        ("variants = { control = { weight = 0.5 }, t = { weight = 0.5, diversity = 7 } }", "t.diversity"),
        ('unit = "household"\n' + VARIANTS, "unit"),
        ('salt = "a/b"\n' + VARIANTS, "salt"),
        ("starts_at = 2026-01-01T00:00:00\n" + VARIANTS, "timezone"),
        ("starts_at = 5\n" + VARIANTS, "write a time with its zone"),
        (
            "starts_at = 2026-01-02T00:00:00Z\nends_at = 2026-01-01T00:00:00Z\n" + VARIANTS,
            "ends_at must come after starts_at",
        ),
        ("traffic = [0.0, 0.5]\n" + VARIANTS, "name the layer"),
        ('layer = "x"\ntraffic = [0.5, 0.5]\n' + VARIANTS, "the second must be the larger"),
        ('surfaces = ["hom"]\n' + VARIANTS, r"no surface 'hom'; there are: none: add \[surfaces"),
    ],
)
def test_an_experiment_that_cannot_be_is_refused_when_it_is_read(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load(tmp_path, f"[experiments.e]\n{text}")


def test_weights_that_add_up_to_1_but_for_rounding_are_taken(tmp_path: Path) -> None:
    weights = "{ control = { weight = 0.7 }, a = { weight = 0.1 }, b = { weight = 0.2 } }"
    assert len(load(tmp_path, f"[experiments.e]\nvariants = {weights}").experiments["e"].variants) == 3


def test_a_variant_that_cannot_be_together_with_a_surface_is_refused(tmp_path: Path) -> None:
    text = (
        "[surfaces.home]\npins = { a = 0 }\n[experiments.e]\n"
        "variants = { control = { weight = 0.5 }, t = { weight = 0.5, slots = [{ position = 0, when = 'x = 1' }] } }"
    )
    with pytest.raises(ConfigError, match=r"experiments\.e\.variants\.t: together with surfaces\.home: .*place 0"):
        load(tmp_path, text)
    assert load(tmp_path, text.replace("[experiments.e]\n", "[surfaces.b]\n[experiments.e]\nsurfaces = ['b']\n"))


@pytest.mark.parametrize(
    ("one", "two", "says"),
    [
        (VARIANTS, VARIANTS, "both change diversity: put them into one layer"),
        ('layer = "x"\n' + VARIANTS, 'layer = "y"\n' + VARIANTS, "both change diversity"),
        (
            VARIANTS.replace("diversity = 0.3", "pins = { a = 0 }"),
            VARIANTS.replace("diversity = 0.3", "slots = [{ position = 0, when = 'x = 1' }]"),
            "both change pins and slots",
        ),
        ('layer = "x"\n' + VARIANTS, 'layer = "x"\n' + OTHER, "share units of layer x: give each a part"),
        (
            'layer = "x"\ntraffic = [0.0, 0.6]\n' + VARIANTS,
            'layer = "x"\ntraffic = [0.5, 1.0]\n' + VARIANTS,
            "share units of layer x",
        ),
        (
            'layer = "x"\ntraffic = [0.0, 0.5]\n' + VARIANTS,
            'layer = "x"\ntraffic = [0.5, 1.0]\nunit = "session"\n' + VARIANTS,
            "by other units",
        ),
        (
            'surfaces = ["home"]\nlayer = "x"\n' + VARIANTS,
            'surfaces = ["basket"]\nlayer = "x"\n' + OTHER,
            "share units",
        ),
        ('salt = "s"\n' + VARIANTS, 'salt = "s"\n' + OTHER, "have one salt"),
    ],
)
def test_two_experiments_that_are_not_independent_are_refused(tmp_path: Path, one: str, two: str, says: str) -> None:
    with pytest.raises(ConfigError, match=f"experiments one and two .*{says}"):
        load(tmp_path, pair(one, two))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (VARIANTS, OTHER),
        ('layer = "x"\ntraffic = [0.0, 0.5]\n' + VARIANTS, 'layer = "x"\ntraffic = [0.5, 1.0]\n' + VARIANTS),
        ('surfaces = ["home"]\n' + VARIANTS, 'surfaces = ["basket"]\n' + VARIANTS),
        ("ends_at = 2026-02-01T00:00:00Z\n" + VARIANTS, "starts_at = 2026-02-01T00:00:00Z\n" + VARIANTS),
        (
            'layer = "x"\nends_at = 2026-02-01T00:00:00Z\n' + VARIANTS,
            'layer = "x"\nstarts_at = 2026-02-01T00:00:00Z\n' + VARIANTS,
        ),
    ],
)
def test_two_experiments_that_never_disturb_each_other_are_taken(tmp_path: Path, one: str, two: str) -> None:
    assert set(load(tmp_path, pair(one, two)).experiments) == {"one", "two"}
