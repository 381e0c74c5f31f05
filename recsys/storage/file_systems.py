"""Opening the file systems that fsspec knows. Its libraries are imported when one is opened."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from recsys.errors import ConfigError, EnvironmentProblem

_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}


def open_file_system(scheme: str, options: Mapping[str, Any], *, settings: str) -> Any:
    """An fsspec file system.

    Args:
        options: what it is opened with.
        settings: where both were said, for the errors.

    Raises:
        EnvironmentProblem: the library that it needs is not installed.
        ConfigError: there is no such scheme, or the options are not its own.
    """
    try:
        fsspec = importlib.import_module("fsspec")
        # Its own cache of listings grows without bounds, and would show what was there before.
        kind = fsspec.get_filesystem_class(scheme)
        return kind(**{"use_listings_cache": False, **options})
    except ImportError as error:
        package = _PACKAGES.get(scheme, error.name or scheme)
        raise EnvironmentProblem(f"{scheme}:// needs a library that is missing: pip install {package}") from None
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{scheme}:// cannot be opened ({error}): see {settings}") from None
