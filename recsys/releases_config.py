"""The `[releases]` section of recsys.toml: where releases lie, for jobs that publish and services that follow."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from recsys.config import Config
from recsys.references import normal_root, url_scheme

# Schemes whose file systems can create an object only where there is none: two publishers never overwrite each other.
SCHEMES = ("s3", "s3a", "gs", "gcs", "file", "memory")
_SECRETS = ("key", "secret", "password", "aws_access_key_id", "aws_secret_access_key", "aws_session_token")
_TOKENS = ("google_default", "cloud", "cache", "anon", "browser")  # of gcsfs: names of ways, not secrets


class ReleasesConfig(Config):
    """The `[releases]` section.

    Attributes:
        url: "" keeps releases in this workspace. Where several hosts serve, they lie in one place that all of them
            reach: `s3://bucket/prefix`, `gs://bucket/prefix`, or `file:///folder` on a shared disk. The environment's
            RECSYS_RELEASES_URL overrules it, for the service and for the jobs.
        cache_dir: where a host keeps what it pulled from `url`, relative to the workspace. It may be deleted; with it a
            service starts without a network.
        keep: releases whose copies stay there; the current one, the one before it and those in use always do.
        timeout_s: how long one question to `url` may take; pulling a file may take longer.
        storage_options: such as `{ endpoint_url = "http://127.0.0.1:9000" }`: what the file system is opened with.
            Keys belong into the environment (AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS, a role), not here.
    """

    url: str = ""
    cache_dir: str = "artifacts/release_cache"
    keep: int = Field(default=3, ge=1)
    timeout_s: float = Field(default=10.0, gt=0)
    storage_options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("url")
    @classmethod
    def _is_known(cls, url: str) -> str:
        if not url:
            return url
        if url_scheme(url) == "memory":
            raise ValueError("memory:// is seen by one process only; write file:///folder")
        if url_scheme(url) not in SCHEMES:
            raise ValueError(
                f"{url!r}: write s3://bucket/prefix, gs://bucket/prefix or file:///folder; of other file systems it is "
                "not known that two who publish at once cannot overwrite each other"
            )
        return normal_root(url)

    @field_validator("storage_options")
    @classmethod
    def _holds_no_secrets(cls, options: dict[str, Any]) -> dict[str, Any]:
        found = _secrets_in(options)
        if found:
            raise ValueError(
                f"{', '.join(found)} does not belong into a file: give it in the environment, as the storage's own "
                "tools read it (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, GOOGLE_APPLICATION_CREDENTIALS)"
            )
        return options


def _secrets_in(options: dict[str, Any]) -> list[str]:
    """The names of what is secret in them, at any depth."""
    found = [name for name in _SECRETS if name in options]
    found += ["token"] if options.get("token", "anon") not in _TOKENS else []
    return found + [name for inner in options.values() if isinstance(inner, dict) for name in _secrets_in(inner)]
