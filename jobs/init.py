"""`recsys init`: a workspace with a recsys.toml in which every setting stands, commented, with its default."""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from inspect import isclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from jobs.progress import console
from recsys.storage.atomic import write_atomic
from recsys.workspace import CONFIG_NAME, WorkspaceConfig

HEADER = """\
# All of this recommender's configuration. `#name = value` is a setting at its default: take the # away to change it.
# Unknown names are refused, so a spelling mistake never passes for a setting. "" where nothing is set means: none.
"""
WIDTH = 118
EXAMPLE_NAMES = {"surfaces": "home", "experiments": "newer_first"}


def init_workspace(root: Path) -> tuple[dict[str, Any], int]:
    """Make the folders and write recsys.toml; an existing one is left as it is."""
    for folder in ("data", "artifacts", "releases"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    path = root / CONFIG_NAME
    is_new = not path.exists()
    if is_new:
        write_atomic(path, render_config().encode())
    console.print("wrote" if is_new else "kept", path, soft_wrap=True, markup=False)
    console.print("next: put items.* and interactions.* into data/, then `recsys validate`")
    return {"config": str(path), "written": is_new}, 0


def render_config() -> str:
    """recsys.toml with every section and setting, each with what its class says of it."""
    return "\n".join([HEADER, *_section(WorkspaceConfig(), ())])


def described(config_type: type[BaseModel]) -> dict[str, str]:
    """name → text, from the "Attributes:" part of a configuration class's docstring."""
    docs: dict[str, str] = {}
    _, _, attributes = (inspect.getdoc(config_type) or "").partition("Attributes:\n")
    names: list[str] = []
    for line in attributes.splitlines():
        found = re.match(r" {4}(\w+(?:, \w+)*): (.*)", line)
        if found:
            names = found[1].split(", ")
            docs |= dict.fromkeys(names, found[2].strip())
        elif line.strip():
            docs |= {name: f"{docs[name]} {line.strip()}" for name in names}
    return docs


def _section(config: BaseModel, path: tuple[str, ...]) -> list[str]:
    """The lines of one section, then those of the sections inside it."""
    says = described(type(config))
    lines, nested = [f"[{'.'.join(path)}]"] if path else [], []
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        each_type = _named_sections(field)
        if isinstance(value, BaseModel):
            nested += _section(value, (*path, name))
        elif each_type is not None:
            nested += _example(each_type, (*path, name), says.get(name, ""))
        else:
            lines += [*_prose(says.get(name, ""), field), f"#{name} = {_toml(value)}"]
    return [*lines, "", *nested] if lines else nested


def _named_sections(field: FieldInfo) -> type[BaseModel] | None:
    """The class of the sections in a mapping from names to sections, None where the field is none."""
    last = (get_args(field.annotation) or (None,))[-1]
    return last if get_origin(field.annotation) is dict and isclass(last) and issubclass(last, BaseModel) else None


def _example(config_type: type[BaseModel], path: tuple[str, ...], text: str) -> list[str]:
    """A section of sections, empty, and as a comment what one of them may hold, at the fields' examples."""
    says = described(config_type)
    lines = [f"# {line}" for line in textwrap.wrap(text, WIDTH)]
    lines += [f"[{'.'.join(path)}]", f"# [{'.'.join((*path, EXAMPLE_NAMES[path[-1]]))}]"]
    for name, field in config_type.model_fields.items():
        example = (field.examples or [field.get_default(call_default_factory=True)])[0]
        lines += [*_prose(says.get(name, ""), field), f"# {name} = {_toml(example)}"]
    return [*lines, ""]


def _prose(text: str, field: FieldInfo) -> list[str]:
    choices = [json.dumps(choice) for choice in _choices(field.annotation)]
    if choices:
        text = f"{text} One of {', '.join(choices)}."
    return [f"# {line}" for line in textwrap.wrap(text, WIDTH)]


def _choices(annotation: Any) -> Iterator[str]:
    """The values of a Literal, wherever in the annotation it stands."""
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
        return
    for part in get_args(annotation):
        yield from _choices(part)


def _toml(value: Any) -> str:
    """A default as TOML; "" stands for None (see `recsys.config.load_config`)."""
    if value is None:
        return '""'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, tuple | list | frozenset | set):
        return "[" + ", ".join(_toml(each) for each in value) + "]"
    return json.dumps(value)
