"""`recsys init` writes every setting there is, and writing it down changes nothing."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_origin

import pytest
from pydantic import BaseModel

from jobs.init import described, init_workspace, render_config
from recsys.config import load_config
from recsys.surfaces import SurfaceConfig, SurfaceExperiment
from recsys.workspace import CONFIG_NAME, Workspace, WorkspaceConfig


def config_classes(config_type: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield config_type
    for field in config_type.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from config_classes(field.annotation)


def settings_of(config_type: type[BaseModel]) -> list[str]:
    nested = {each.__name__ for each in config_classes(config_type)}
    return [
        name
        for name, field in config_type.model_fields.items()
        if getattr(field.annotation, "__name__", None) not in nested and not is_section_of_sections(field.annotation)
    ]


def is_section_of_sections(annotation: object) -> bool:
    last = (get_args(annotation) or (None,))[-1]
    return isinstance(last, type) and issubclass(last, BaseModel) and get_origin(annotation) is dict


def uncommented(text: str) -> str:
    return re.sub(r"^#(?=\w)", "", text, flags=re.MULTILINE)


def test_a_workspace_has_folders_and_a_configuration_at_its_defaults(tmp_path: Path) -> None:
    result, exit_code = init_workspace(tmp_path / "new")
    assert exit_code == 0
    assert result == {"config": str(tmp_path / "new" / CONFIG_NAME), "written": True}
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"data", "artifacts", "releases", CONFIG_NAME}
    assert Workspace.open(tmp_path / "new").config == WorkspaceConfig()


def test_every_setting_uncommented_is_the_same_configuration(tmp_path: Path) -> None:
    written = uncommented(render_config())
    (tmp_path / CONFIG_NAME).write_text(written, encoding="utf-8")
    assert load_config(tmp_path / CONFIG_NAME, WorkspaceConfig) == WorkspaceConfig()
    n_settings = sum(len(settings_of(each)) for each in config_classes(WorkspaceConfig))
    assert len(re.findall(r"^\w+ = ", written, flags=re.MULTILINE)) == n_settings > 70


def test_every_section_stands_in_the_file() -> None:
    sections = tomllib.loads(render_config())
    assert set(sections) == set(WorkspaceConfig.model_fields)
    assert set(sections["serving"]) == {"limits", "cache", "budgets", "traces", "tracing", "encoder"}


@pytest.mark.parametrize(
    ("section", "name", "config_type"),
    [("surfaces", "home", SurfaceConfig), ("experiments", "newer_first", SurfaceExperiment)],
)
def test_the_commented_example_of_a_section_holds_every_setting_and_is_valid(
    tmp_path: Path, section: str, name: str, config_type: type[BaseModel]
) -> None:
    before, _, rest = render_config().partition(f"\n[{section}]\n")
    example, _, after = rest.partition("\n[")
    uncommented_example = re.sub(r"^# (?=\[|\w+ = )", "", example, flags=re.MULTILINE)
    text = f"{before}\n[{section}]\n{uncommented_example}\n[{after}"
    (tmp_path / CONFIG_NAME).write_text(text, encoding="utf-8")
    config = load_config(tmp_path / CONFIG_NAME, WorkspaceConfig)
    assert list(getattr(config, section)) == [name]
    assert getattr(config, section)[name].model_fields_set == set(config_type.model_fields)
    assert config.model_copy(update={section: {}}) == WorkspaceConfig()


SECTIONS = [*list(config_classes(WorkspaceConfig))[1:], SurfaceConfig, SurfaceExperiment]


@pytest.mark.parametrize("config_type", SECTIONS, ids=lambda each: each.__name__)
def test_every_setting_is_described(config_type: type[BaseModel]) -> None:
    says = described(config_type)
    assert [name for name in settings_of(config_type) if not says.get(name)] == []
    assert set(says) <= set(config_type.model_fields), "a description of a setting that there is not"


def test_a_description_goes_on_over_lines_for_each_of_the_names_it_is_of() -> None:
    class Part(BaseModel):
        """A part.

        Attributes:
            low, high: the bounds,
                both of them.
            name: what it is called.
        """

        low: int = 0
        high: int = 1
        name: str = ""

    both = "the bounds, both of them."
    assert described(Part) == {"low": both, "high": both, "name": "what it is called."}


def test_the_choices_of_a_setting_are_named() -> None:
    assert re.search(r'One of "rfc3339", "epoch_s", "epoch_ms"\.\n#time_format = "rfc3339"', render_config())


def test_an_existing_configuration_is_kept(tmp_path: Path) -> None:
    (tmp_path / CONFIG_NAME).write_text('[encoders]\ntext = "fake"\n')
    result, _ = init_workspace(tmp_path)
    assert result["written"] is False
    assert Workspace.open(tmp_path).config.encoders.text == "fake"
