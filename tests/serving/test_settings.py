from __future__ import annotations

from pathlib import Path

import pytest

from recsys.errors import ConfigError
from recsys.serving_config import is_loopback
from serving.settings import read_settings

KEY = "ab" * 32


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "recsys.toml").write_text("[serving]\nport = 9000\nthreads = 2\n")
    return tmp_path


def test_the_environment_overrules_the_file_and_options_overrule_both(workspace: Path) -> None:
    environment = {"RECSYS_WORKSPACE": str(workspace), "RECSYS_PORT": "9001", "RECSYS_STORE_URL": "memory://"}
    settings = read_settings(environment, {"RECSYS_PORT": "9002"})
    assert (settings.serving.port, settings.serving.threads) == (9002, 2)
    assert settings.serving.store_url == "memory://"
    assert settings.workspace == workspace.resolve()


def test_listening_beyond_loopback_without_a_key_is_refused(workspace: Path) -> None:
    variables = {"RECSYS_WORKSPACE": str(workspace), "RECSYS_HOST": "0.0.0.0"}
    with pytest.raises(ConfigError, match="RECSYS_API_KEYS_SHA256"):
        read_settings(variables)
    settings = read_settings({**variables, "RECSYS_API_KEYS_SHA256": f"{KEY}, {KEY.upper()},"})
    assert settings.serving.api_keys_sha256 == (KEY, KEY)


def test_a_key_that_is_not_hashed_is_refused_without_being_repeated(workspace: Path) -> None:
    variables = {"RECSYS_WORKSPACE": str(workspace), "RECSYS_API_KEYS_SHA256": "my-secret"}
    with pytest.raises(ConfigError, match="sha256sum") as refused:
        read_settings(variables)
    assert "my-secret" not in str(refused.value)


def test_a_memory_store_is_refused_with_several_workers(workspace: Path) -> None:
    variables = {"RECSYS_WORKSPACE": str(workspace), "RECSYS_STORE_URL": "memory://", "RECSYS_WORKERS": "2"}
    with pytest.raises(ConfigError, match="workers to 1"):
        read_settings(variables)


@pytest.mark.parametrize(("name", "value"), [("RECSYS_PORT", "tcp://10.0.0.1:80"), ("RECSYS_WORKERS", "0")])
def test_an_impossible_variable_is_named(workspace: Path, name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        read_settings({"RECSYS_WORKSPACE": str(workspace), name: value})


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="recsys init"):
        read_settings({"RECSYS_WORKSPACE": str(tmp_path)})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_only_this_machine_reaches_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "example.org", ""])
def test_what_others_may_reach_is_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_where_releases_lie_is_overruled_by_the_environment(workspace: Path) -> None:
    variables = {"RECSYS_WORKSPACE": str(workspace)}
    assert read_settings(variables).releases.url == ""
    assert read_settings({**variables, "RECSYS_RELEASES_URL": "s3://shop/a"}).releases.url == "s3://shop/a"
    with pytest.raises(ConfigError, match="releases at 'nowhere'"):
        read_settings({**variables, "RECSYS_RELEASES_URL": "nowhere"})
