from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import ValidationError

from recsys.config import Config, load_config
from recsys.errors import ConfigError


class Inner(Config):
    weight: float = 0.5
    mode: Literal["fast", "careful"] = "fast"


class Outer(Config):
    name: str = "plain"
    inner: Inner = Inner()


def write(folder: Path, text: str) -> Path:
    path = folder / "recsys.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as raised:
        load_config(path, Outer)
    assert raised.value.exit_code == 2
    return str(raised.value)


def test_what_the_file_leaves_out_has_its_default(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "[inner]\nweight = 0.25\n"), Outer)
    assert config == Outer(name="plain", inner=Inner(weight=0.25, mode="fast"))
    assert load_config(write(tmp_path, ""), Outer) == Outer()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nmae = 'x'", "nmae: is not a setting we know"),
        ("[inner]\nwieght = 1", "inner.wieght: is not a setting we know"),
        ("[inner]\nweight = 'much'", "inner.weight: "),
        ("[inner]\nmode = 'quick'", "'fast' or 'careful'"),
        ("name = 3", "name: "),
        ("inner = 3", "inner: "),
    ],
)
def test_what_is_wrong_is_named_with_its_key_and_file(tmp_path: Path, text: str, says: str) -> None:
    message = refused(write(tmp_path, text))
    assert says in message
    assert "recsys.toml" in message


def test_all_problems_are_named_at_once(tmp_path: Path) -> None:
    message = refused(write(tmp_path, "nmae = 'x'\n[inner]\nweight = 'much'\n"))
    assert "nmae" in message
    assert "inner.weight" in message


def test_a_file_that_is_not_there_says_how_to_write_one(tmp_path: Path) -> None:
    assert "recsys init" in refused(tmp_path / "recsys.toml")


def test_what_is_no_toml_is_refused(tmp_path: Path) -> None:
    assert "not valid TOML" in refused(write(tmp_path, "name = = 'x'"))
    (tmp_path / "recsys.toml").write_bytes(b"name = '\xff'")
    assert "not valid TOML" in refused(tmp_path / "recsys.toml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path)


def test_a_config_is_frozen_and_knows_its_keys() -> None:
    with pytest.raises(ValidationError):
        Outer().name = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Outer.model_validate({"colour": "red"})
