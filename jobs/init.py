"""`recsys init`: a workspace with a recsys.toml in which every setting stands, commented, with its default."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from jobs.progress import console
from recsys.storage.atomic import write_atomic
from recsys.workspace import CONFIG_NAME, WorkspaceConfig

HEADER = """\
# All of this recommender's configuration. Settings that are commented stand at their default.
# Unknown keys are refused, so a spelling mistake never passes for a setting.
"""


def init_workspace(root: Path) -> tuple[dict[str, Any], int]:
    """Make the folders and write recsys.toml; an existing one is left as it is."""
    for folder in ("data", "artifacts", "releases"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    path = root / CONFIG_NAME
    is_new = not path.exists()
    if is_new:
        write_atomic(path, render_config().encode())
    console.print(f"{'wrote' if is_new else 'kept'} {path}")
    console.print("next: put items.* and interactions.* into data/, then `recsys validate`")
    return {"config": str(path), "written": is_new}, 0


def render_config() -> str:
    """recsys.toml with every section and key, each with what its class says of it."""
    return "\n".join([HEADER, *_section(WorkspaceConfig(), ())])


def _section(config: BaseModel, path: tuple[str, ...]) -> list[str]:
    lines: list[str] = []
    if path:
        lines.append(f"[{'.'.join(path)}]")
    says = _attribute_docs(type(config))
    nested: list[str] = []
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            nested += _section(value, (*path, name))
        else:
            if name in says:
                lines.append(f"# {says[name]}")
            lines.append(f"# {name} = {_toml(value)}")
    return [*lines, "", *nested] if path else [*lines, *nested]


def _attribute_docs(config_type: type[BaseModel]) -> dict[str, str]:
    """name → text, from the "Attributes:" part of a class's docstring."""
    docs: dict[str, str] = {}
    text = inspect.getdoc(config_type) or ""
    if "Attributes:" not in text:
        return docs
    name = ""
    for line in text.split("Attributes:", 1)[1].splitlines():
        found = re.match(r" {4}([\w, ]+?): (.*)", line)
        if found:
            names = [each.strip() for each in found[1].split(",")]
            name = names[0]
            docs.update(dict.fromkeys(names, found[2].strip()))
        elif name and line.strip():
            docs[name] += " " + line.strip()
    return docs


def _toml(value: Any) -> str:
    """A default as TOML; None becomes an empty string, for the reader to fill."""
    if value is None:
        return '""'
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + " }" if value else "{}"
    if isinstance(value, tuple | list | frozenset | set):
        return "[" + ", ".join(_toml(each) for each in value) + "]"
    if isinstance(value, Path):
        return json.dumps(str(value))
    return json.dumps(value)
