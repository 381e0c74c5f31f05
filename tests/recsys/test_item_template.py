"""Templates of item texts: their parts, and what is wrong with one that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys.config import load_config
from recsys.errors import ConfigError
from recsys.item_template import DEFAULT_TEMPLATE, Part, parse_template
from recsys.release import ServingSchema
from recsys.workspace import WorkspaceConfig


def test_words_between_two_fields_go_with_the_one_behind_and_closing_brackets_with_the_one_before() -> None:
    assert parse_template("{title} ({attributes.year}), {description}.") == (
        Part("", "title"),
        Part(" (", "attributes", "year", behind=")"),
        Part(", ", "description"),
        Part(".", None),
    )


def test_doubled_braces_stand_for_themselves() -> None:
    assert parse_template("{{new}} {title}{{!}}") == (Part("{new} ", "title"), Part("{!}", None))


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{titel}. {description}", "'titel'; its fields are {title}, {description}, {categories}, {attributes}, and"),
        ("{attributes.}", "{attributes.colour} for one attribute"),
        ("{}", "its fields are"),
        ("no field", "names no field"),
        ("", "names no field"),
        ("{title", "braces"),
        ("title}", "braces"),
        ("{title!r}", "without a format"),
        ("{title:>9}", "without a format"),
    ],
)
def test_what_is_wrong_is_said_when_the_configuration_is_read(template: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_template(template)
    assert said in str(refused.value)
    (tmp_path / "recsys.toml").write_text(f'[encoders]\ntext_template = "{template}"\n')
    with pytest.raises(ConfigError, match=r"encoders\.text_template"):
        load_config(tmp_path / "recsys.toml", WorkspaceConfig)


def test_the_default_is_a_template_and_says_everything() -> None:
    fields = [part.field for part in parse_template(DEFAULT_TEMPLATE)]
    assert fields == ["title", "categories", "attributes", "description", None]
    assert WorkspaceConfig().encoders.text_template == DEFAULT_TEMPLATE


def test_a_release_from_before_there_were_templates_has_the_words_that_it_was_made_with() -> None:
    assert ServingSchema.model_fields["text_template"].default == "{title}. {categories}. {description}."
