from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from recsys.errors import ConfigError
from recsys.releases_config import ReleasesConfig
from recsys.storage.release_files import LocalReleaseStore
from recsys.storage.release_urls import open_release_store
from recsys.storage.remote_releases import RemoteReleaseStore
from recsys.workspace import Workspace, WorkspaceConfig


def test_without_a_url_releases_lie_in_the_workspace(tmp_path: Path) -> None:
    assert isinstance(open_release_store(ReleasesConfig(), root=tmp_path), LocalReleaseStore)
    assert isinstance(open_release_store(ReleasesConfig(url="s3://shop/a"), root=tmp_path), RemoteReleaseStore)
    assert list(tmp_path.iterdir()) == []  # nothing is opened before it is asked


@pytest.mark.parametrize("url", ["s3://shop/releases", "gs://shop/releases", "file:///srv/releases", ""])
def test_known_storage_is_taken(url: str) -> None:
    assert ReleasesConfig(url=url).url == url


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("abfs://shop/releases", "not known that two who publish at once"),
        ("memory://releases", "one process only"),
        ("/srv/releases", "file:///folder"),
        ("s3://", "must name a bucket"),
        ("s3://name:password@shop/a", "keys belong into the environment"),
        ("s3://shop/../other", "must not contain"),
    ],
)
def test_other_storage_is_refused_in_words(url: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        ReleasesConfig(url=url)


@pytest.mark.parametrize(
    "options",
    [
        {"key": "k"},
        {"secret": "hush"},
        {"token": {"private_key": "hush"}},
        {"client_kwargs": {"aws_secret_access_key": "hush"}},
    ],
)
def test_secrets_in_the_file_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="environment"):
        ReleasesConfig(url="s3://shop/a", storage_options=options)
    assert ReleasesConfig(url="gs://shop/a", storage_options={"token": "anon"}).storage_options == {"token": "anon"}


def test_a_url_from_elsewhere_overrules_the_file(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, WorkspaceConfig(releases=ReleasesConfig(url="s3://shop/a", keep=7)))
    assert workspace.with_releases_at(None) is workspace
    elsewhere = workspace.with_releases_at("gs://shop/b").config.releases
    assert (elsewhere.url, elsewhere.keep) == ("gs://shop/b", 7)
    with pytest.raises(ConfigError, match="ftp"):
        workspace.with_releases_at("ftp://shop/b")
