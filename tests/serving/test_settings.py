from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from recsys.errors import ConfigError
from recsys.serving_config import is_loopback
from serving.settings import read_settings

KEY, OTHER = "ab" * 32, "cd" * 32


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


def test_keys_with_scopes_and_rates_come_from_the_file_or_in_a_compact_form(workspace: Path) -> None:
    variables = {
        "RECSYS_WORKSPACE": str(workspace),
        "RECSYS_API_KEYS": f"shop:read+events:{KEY}:200:400, ops:admin:{OTHER}",
    }
    shop, ops = read_settings(variables).serving.all_keys
    assert (shop.name, shop.scopes, shop.rate_per_s, shop.burst) == ("shop", ("read", "events"), 200, 400)
    assert (ops.name, ops.scopes, ops.rate_per_s) == ("ops", ("admin",), 0)
    with (workspace / "recsys.toml").open("a") as file:
        file.write(f'[[serving.api_keys]]\nname = "toml"\nsha256 = "{KEY}"\nscopes = ["read"]\n')
    assert [key.name for key in read_settings({"RECSYS_WORKSPACE": str(workspace)}).serving.all_keys] == ["toml"]
    both = {"RECSYS_WORKSPACE": str(workspace), "RECSYS_API_KEYS_SHA256": f"{KEY},{OTHER}", "RECSYS_HOST": "0.0.0.0"}
    keys = read_settings(both).serving.all_keys
    assert [(key.name, key.scopes) for key in keys] == [("toml", ("read",)), ("unnamed-1", ("read", "events", "admin"))]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("my-secret", "name:scope"),
        ("shop:read:my-secret", "sha256sum"),
        (f"shop:everything:{KEY}", "'read'"),
        (f"shop::{KEY}", "'read'"),
        (f"my secret:read:{KEY}", "letters"),
        (f"shop:read:{KEY}:fast", "number"),
        (f"shop:read:{KEY},shop:read:{OTHER}", "same name"),
        (f"shop:read:{KEY},ops:admin:{KEY}", "same sha256"),
        (f"unnamed-1:read:{KEY}", "unnamed-"),
        ("shop:read:" + hashlib.sha256(b"").hexdigest(), "empty key"),
    ],
)
def test_a_key_that_is_not_written_right_is_refused_without_being_repeated(
    workspace: Path, value: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as refused:
        read_settings({"RECSYS_WORKSPACE": str(workspace), "RECSYS_API_KEYS": value})
    assert "secret" not in str(refused.value)


def test_a_clear_key_in_the_file_is_refused_without_being_repeated(workspace: Path) -> None:
    with (workspace / "recsys.toml").open("a") as file:
        file.write('api_keys = [{name = "shop", sha256 = "my-secret", scopes = ["read"]}]\n')
    with pytest.raises(ConfigError, match=r"api_keys\.0\.sha256") as refused:
        read_settings({"RECSYS_WORKSPACE": str(workspace)})
    assert "my-secret" not in str(refused.value)


def test_the_collector_is_found_where_opentelemetry_looks_for_it(workspace: Path) -> None:
    variables = {"RECSYS_WORKSPACE": str(workspace), "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318/"}
    assert read_settings(variables).serving.tracing.endpoint == "http://127.0.0.1:4318"
    with pytest.raises(ConfigError, match="OTEL_EXPORTER_OTLP_ENDPOINT"):
        read_settings({**variables, "OTEL_EXPORTER_OTLP_ENDPOINT": "collector"})


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
