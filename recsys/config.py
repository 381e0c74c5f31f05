"""The base of every configuration object, and the one way to read one from a file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from recsys.errors import ConfigError


class Config(BaseModel):
    """Frozen; refuses unknown keys. A part is a `Config` beside a class that takes it."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=False)


C = TypeVar("C", bound=Config)


def load_config(path: Path, config_type: type[C]) -> C:
    """Read a TOML file into `config_type`. TOML has no null: where the default is None, "" stands for it.

    Raises:
        ConfigError: the file is absent, is not TOML, or has a key or value that `config_type` refuses;
            the message names the key.
    """
    return parse_config(read_config(path), config_type, path)


def read_config(path: Path) -> bytes:
    """The bytes of a configuration file. Raises ConfigError when it is absent or cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{path} is not there: run `recsys init` to write one") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): it must be a file that you may read") from None


def parse_config(content: bytes, config_type: type[C], path: Path) -> C:
    """`load_config` of bytes that were read already; `path` is what a problem names."""
    try:
        raw = tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        twice = "declare" in str(error) or "overwrite" in str(error)
        hint = "; that section is in the file already: put the line below it" if twice else ""
        raise ConfigError(f"{path} is not valid TOML: {error}{hint}") from None
    try:
        return config_type.model_validate(_without_unset(raw, config_type))
    except ValidationError as error:
        raise ConfigError(f"{path}: {_in_words(error)}") from None


def _without_unset(raw: dict[str, Any], config_type: type[Config]) -> dict[str, Any]:
    """The settings without those that are "" and None by default."""
    kept = {}
    for name, value in raw.items():
        field = config_type.model_fields.get(name)
        inner = field.annotation if field is not None else None
        if isinstance(value, dict) and isinstance(inner, type) and issubclass(inner, Config):
            kept[name] = _without_unset(value, inner)
        elif value != "" or field is None or field.default is not None:
            kept[name] = value
    return kept


def _in_words(error: ValidationError) -> str:
    problems = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"]) or "(the file)"
        says = "is not a setting we know" if problem["type"] == "extra_forbidden" else problem["msg"]
        problems.append(f"{key}: {says}")
    return "; ".join(problems)
