"""The `[serving]` section of recsys.toml: how the service listens, what it accepts, and how it keeps up."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Literal

from pydantic import Field, field_validator

from recsys.config import Config
from recsys.errors import ConfigError

MIB = 1 << 20
SHA256_HEX = re.compile(r"[0-9a-f]{64}")


class LimitsConfig(Config):
    """The `[serving.limits]` section: more than this is refused, with 413, 422 or 429.

    Attributes:
        max_request_bytes: body of a request for recommendations.
        max_history: session history items in one request.
        max_exclude: `exclude_item_ids` in one request.
        max_events: events in one batch.
        max_events_bytes: body of one batch.
        max_item_bytes: body of one item upsert, its picture in base64 included.
        max_image_bytes: a picture's file, decoded from base64.
        max_limit: items in one slate.
        max_concurrent: requests in work or waiting; one more is answered with 429.
        max_concurrent_items: the same for item upserts, which wait for an encoder.
    """

    max_request_bytes: int = Field(default=MIB, ge=1024)
    max_history: int = Field(default=1000, ge=1)
    max_exclude: int = Field(default=10_000, ge=1)
    max_events: int = Field(default=1000, ge=1)
    max_events_bytes: int = Field(default=MIB, ge=1024)
    max_item_bytes: int = Field(default=8 * MIB, ge=1024)
    max_image_bytes: int = Field(default=5 * MIB, ge=1024)
    max_limit: int = Field(default=500, ge=1, le=500)
    max_concurrent: int = Field(default=128, ge=1)
    max_concurrent_items: int = Field(default=16, ge=1)


class CacheConfig(Config):
    """The `[serving.cache]` section. Caches hold copies only: dropping one loses nothing; 0 switches it off.

    Attributes:
        query_vectors: vectors of the query tower, by the exact history that went in.
        content_vectors: text and image vectors of upserted items, by content.
        query_texts: vectors of search texts, by text, in front of the encoder process.
        user_state_entries: the last known states of users, in history items and seen marks all users together;
            used only while the store does not answer.
    """

    query_vectors: int = Field(default=20_000, ge=0)
    content_vectors: int = Field(default=4_096, ge=0)
    query_texts: int = Field(default=4_096, ge=0)
    user_state_entries: int = Field(default=500_000, ge=0)


class EncoderProcessConfig(Config):
    """The `[serving.encoder]` section: the one process of this host that turns words, pictures and sounds into vectors.

    Attributes:
        process: `auto` starts it once the current release has encoders, `own` always; `off` lets every worker hold
            the encoders itself, which costs their size once for each.
        queue: requests that it works on or keeps waiting; one more is refused at once.
        threads: cores of one forward pass.
        cached_texts: vectors of texts that it keeps, 2 kB each at 512 dimensions.
        cached_images: the same for pictures and sounds.
        timeout_ms: how long the upsert of an item waits for its vectors.
    """

    process: Literal["auto", "own", "off"] = "auto"
    queue: int = Field(default=64, ge=1)
    threads: int = Field(default=1, ge=1)
    cached_texts: int = Field(default=20_000, ge=0)
    cached_images: int = Field(default=2_000, ge=0)
    timeout_ms: int = Field(default=5_000, ge=1)


class ServingConfig(Config):
    """How the service runs.

    Attributes:
        host: the address it listens on; beyond loopback it wants `api_keys_sha256`.
        port: 0 takes a free one.
        store_url: `sqlite:///file` (relative to the workspace), `redis://host:port/db` or `memory://`.
        workers: processes; about one a core.
        threads: threads of one process that answer requests.
        api_keys_sha256: hex sha256 of each API key; empty = no key is asked for.
        live_poll_s: how often other workers' item upserts are looked for.
        release_poll_s: how often `releases/current` is looked at.
        stale_after_s: when upserts could not be read for this long, replies say `degraded: ["live_items"]`.
        retry_refused_release_s: when a release that was refused is tried again.
        access_log: one log line for each request; problems are logged always.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    store_url: str = "sqlite:///store.sqlite3"
    workers: int = Field(default=1, ge=1, le=256)
    threads: int = Field(default=4, ge=1, le=256)
    api_keys_sha256: tuple[str, ...] = ()
    live_poll_s: float = Field(default=1.0, gt=0)
    release_poll_s: float = Field(default=1.0, gt=0)
    stale_after_s: float = Field(default=10.0, gt=0)
    retry_refused_release_s: float = Field(default=30.0, gt=0)
    access_log: bool = False
    limits: LimitsConfig = LimitsConfig()
    cache: CacheConfig = CacheConfig()
    encoder: EncoderProcessConfig = EncoderProcessConfig()

    @field_validator("api_keys_sha256")
    @classmethod
    def _hashed(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        keys = tuple(key.strip().lower() for key in keys)
        for key in keys:
            if not SHA256_HEX.fullmatch(key):
                raise ValueError(
                    "each entry is the sha256 of a key in 64 hex digits, never the key itself: "
                    'printf %s "$KEY" | sha256sum'
                )
        return keys


def require_safe(config: ServingConfig) -> None:
    """What the file and the environment together must hold before the service starts.

    Raises:
        ConfigError: others could reach the service without a key, or workers would not see each other's writes.
    """
    if not config.api_keys_sha256 and not is_loopback(config.host):
        raise ConfigError(
            f"listening on {config.host} would open the service to others without a key; set RECSYS_API_KEYS_SHA256 "
            "(or [serving] api_keys_sha256) to the sha256 of an API key, or the host to 127.0.0.1"
        )
    if config.workers > 1 and config.store_url.startswith("memory:"):
        raise ConfigError(
            "memory:// is seen by one process only; set workers to 1, or store_url to sqlite:///store.sqlite3 "
            "or redis://127.0.0.1:6379/0"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
