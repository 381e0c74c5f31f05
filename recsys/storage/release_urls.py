"""Where the releases of a workspace lie: in its folder, or below the URL of `[releases]`."""

from __future__ import annotations

from pathlib import Path

from recsys.ports import ReleaseStore
from recsys.releases_config import ReleasesConfig
from recsys.storage.release_files import LocalReleaseStore
from recsys.storage.remote_releases import RemoteReleaseStore
from recsys.storage.transfers import OnTransfer


def open_release_store(
    config: ReleasesConfig, *, root: Path, on_transfer: OnTransfer = lambda transfer: None
) -> ReleaseStore:
    """The release store of a workspace.

    Args:
        root: the workspace folder, which `cache_dir` is relative to.
        on_transfer: told of files that are pulled or uploaded.

    Raises:
        ConfigError: that kind of storage cannot hold releases.
    """
    if not config.url:
        return LocalReleaseStore(root)
    return RemoteReleaseStore(
        config.url,
        root / config.cache_dir,
        options=config.storage_options,
        keep=config.keep,
        timeout_s=config.timeout_s,
        on_transfer=on_transfer,
    )
