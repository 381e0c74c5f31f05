"""The `[sources]` section of recsys.toml: where pictures and sounds come from, and how politely they are fetched."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Any

from pydantic import Field, field_validator

from recsys.config import Config

MIB = 1 << 20
_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")


class HttpConfig(Config):
    """The `[sources.http]` section: fetching http and https URLs. Every process of a job has these limits for itself.

    Attributes:
        user_agent: what servers are told; a contact address in it is good manners.
        per_host: requests to one host at a time.
        total: requests to all hosts at a time; with `max_bytes` of `[sources]` this bounds the memory.
        requests_per_s: to one host; 0 = as fast as `per_host` lets.
        connect_timeout_s: resolving, connecting and TLS.
        read_timeout_s: silence between two pieces of an answer.
        total_timeout_s: one attempt, redirects included; waiting for a free place is not counted.
        retries: further attempts after a timeout, a broken connection, 429 or 5xx.
        backoff_s: the wait before the first of them; it doubles with each, and is spread from half to one and a half.
        max_wait_s: the longest wait; a host that asks for more (Retry-After) is left alone for the rest of the run.
        max_redirects: followed for one URL.
        allow_downgrade: whether a redirect may lead from https to http.
        allow_addresses: networks beside the global internet that may be connected to, such as `["10.20.0.0/16"]` for
            pictures on internal hosts. Anyone who can write to the catalogue can have any page there fetched.
    """

    user_agent: str = "recsys/0.1 (fetches the pictures of a catalogue)"
    per_host: int = Field(default=4, ge=1, le=256)
    total: int = Field(default=32, ge=1, le=4096)
    requests_per_s: float = Field(default=0.0, ge=0)
    connect_timeout_s: float = Field(default=10.0, gt=0)
    read_timeout_s: float = Field(default=20.0, gt=0)
    total_timeout_s: float = Field(default=60.0, gt=0)
    retries: int = Field(default=3, ge=0, le=20)
    backoff_s: float = Field(default=0.5, ge=0)
    max_wait_s: float = Field(default=60.0, ge=0)
    max_redirects: int = Field(default=5, ge=0, le=20)
    allow_downgrade: bool = False
    allow_addresses: tuple[str, ...] = ()

    @field_validator("allow_addresses")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            try:
                ip_network(network)
            except ValueError as error:
                raise ValueError(f"{error}; write networks like 10.20.0.0/16 or fd12:3456::/48") from None
        return networks

    @field_validator("user_agent")
    @classmethod
    def _is_a_header(cls, name: str) -> str:
        if not name.isascii() or not name.isprintable() or not name.strip():
            raise ValueError("must be one line of printable ASCII, as servers read it")
        return name


class SourcesConfig(Config):
    """The `[sources]` section.

    Attributes:
        max_bytes: of one picture or sound; more is refused unread.
        image_files: Parquet and tar files that hold pictures (or sounds), as patterns relative to the items file's
            folder: `["shards/*.tar", "pictures-*.parquet"]`.
        keep_fetched: keep the bytes of fetched URLs in the workspace, so that another encoder need not fetch again.
        storage_options: what the file system behind an `image_root` such as `s3://bucket/pictures` is opened with:
            `{ endpoint_url = "http://127.0.0.1:9000" }`. Keys belong into the environment of the job, not here.
        http: fetching of http and https URLs.
    """

    max_bytes: int = Field(default=64 * MIB, ge=1024)
    image_files: tuple[str, ...] = ()
    keep_fetched: bool = True
    storage_options: dict[str, Any] = Field(default_factory=dict)
    http: HttpConfig = HttpConfig()

    @field_validator("image_files")
    @classmethod
    def _are_local(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            if not pattern or _URL.match(pattern):
                raise ValueError(f"{pattern!r}: write a path or pattern on this machine, relative to the items file")
        return patterns
