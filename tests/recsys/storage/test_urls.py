from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from recsys.errors import ConfigError
from recsys.storage.urls import open_store


def test_a_relative_sqlite_path_starts_from_the_root_given(tmp_path: Path) -> None:
    open_store("sqlite:///data/store.db", root=tmp_path).close()
    assert (tmp_path / "data" / "store.db").is_file()


def test_an_absolute_sqlite_path_has_four_slashes(tmp_path: Path) -> None:
    open_store(f"sqlite:///{tmp_path}/store.db", root=Path("/nowhere")).close()
    assert (tmp_path / "store.db").is_file()


@pytest.mark.parametrize(
    "url", ["", "store.db", "sqlite://store.db", "sqlite:///", "sqlite:///:memory:", "postgres://h/db", "memory://x"]
)
def test_any_other_url_is_refused_with_the_forms_that_work(url: str) -> None:
    with pytest.raises(ConfigError, match="sqlite:///"):
        open_store(url)


def test_a_password_is_never_repeated() -> None:
    with pytest.raises(ConfigError) as raised:
        open_store("rediss://user:hunter2@host/0")
    assert "hunter2" not in str(raised.value)
    with pytest.raises(ConfigError) as raised:
        open_store("redis://user:hunter2@host/zero")
    assert "hunter2" not in str(raised.value)


def test_the_redis_client_is_loaded_only_for_redis() -> None:
    program = (
        "import sys; from recsys.storage.urls import open_store; open_store('memory://');"
        "assert 'redis' not in sys.modules; open_store('redis://127.0.0.1:1/0'); assert 'redis' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
