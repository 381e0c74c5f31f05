"""The `[serving]` section of recsys.toml: how the service listens, what it accepts, and how it keeps up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from recsys.config import Config
from recsys.errors import ConfigError

MIB = 1 << 20
SHA256_OF_NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
SHA256_HEX = re.compile(r"[0-9a-f]{64}")
# As a browser sends it: no path, no slash at the end; so "*" and "null" are none.
ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?")
KEY_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
UNNAMED = "unnamed-"
COMPACT_KEY = "name:scope+scope:sha256[:rate_per_s[:burst]]"

Scope = Literal["read", "events", "admin"]
ALL_SCOPES: tuple[Scope, ...] = ("read", "events", "admin")


class LimitsConfig(Config):
    """The `[serving.limits]` section: more than this is refused, with 413, 422 or 429.

    Attributes:
        max_request_bytes: body of a request for recommendations.
        max_history: session history items in one request.
        max_exclude: `exclude_item_ids` in one request.
        max_events: events in one batch.
        max_events_bytes: body of one batch.
        max_item_bytes: body of one item upsert, its picture in base64 included.
        max_items: lines of one batch of items.
        max_items_bytes: body of one batch of items.
        max_image_bytes: a picture's file, decoded from base64.
        max_limit: items in one slate.
        max_concurrent: answers of one worker in work or waiting; one more request is answered with 429 at once.
        max_concurrent_slow: the same for what waits for others: searches, events, users, similar items.
        max_concurrent_items: the same for item upserts, which wait for an encoder.
    """

    max_request_bytes: int = Field(default=MIB, ge=1024)
    max_history: int = Field(default=1000, ge=1)
    max_exclude: int = Field(default=10_000, ge=1)
    max_events: int = Field(default=1000, ge=1)
    max_events_bytes: int = Field(default=MIB, ge=1024)
    max_item_bytes: int = Field(default=8 * MIB, ge=1024)
    max_items: int = Field(default=1000, ge=1)
    max_items_bytes: int = Field(default=32 * MIB, ge=1024)
    max_image_bytes: int = Field(default=5 * MIB, ge=1024)
    max_limit: int = Field(default=500, ge=1, le=500)
    max_concurrent: int = Field(default=24, ge=1)
    max_concurrent_slow: int = Field(default=64, ge=1)
    max_concurrent_items: int = Field(default=16, ge=1)


class CacheConfig(Config):
    """The `[serving.cache]` section. Caches hold copies only: dropping one loses nothing; 0 switches it off.

    Attributes:
        histories_mib: users' histories in rows with their query vectors, by the version of the user's state and the
            release: an event makes another version, so a hit is never old.
        content_vectors: text and image vectors of upserted items, by content.
        query_texts: vectors of search texts, by text, in front of the encoder process.
        user_states_mib: the last known states of users, used only while the store does not answer.
    """

    histories_mib: float = Field(default=192, ge=0)
    content_vectors: int = Field(default=4_096, ge=0)
    query_texts: int = Field(default=4_096, ge=0)
    user_states_mib: float = Field(default=64, ge=0)


class BudgetsConfig(Config):
    """The `[serving.budgets]` section: how long an answer may take. A stage that would overrun is left out, and named
    in `degraded`.

    Attributes:
        recommendations_ms: recommendations, similar items, ranking, lists.
        search_ms: search and refine, which wait for an encoder.
        explain_ms: recommendations with `explain`, which run the towers several times.
    """

    recommendations_ms: float = Field(default=50.0, gt=0)
    search_ms: float = Field(default=250.0, gt=0)
    explain_ms: float = Field(default=1000.0, gt=0)


class TracesConfig(Config):
    """The `[serving.traces]` section: what `GET /v1/recommendations/{id}/trace` still knows, in each worker.

    Attributes:
        recent: requests whose traces are kept; 0 keeps none.
        max_bytes: about what they may hold of memory.
    """

    recent: int = Field(default=1000, ge=0)
    max_bytes: int = Field(default=16 * MIB, ge=0)


class TracingConfig(Config):
    """The `[serving.tracing]` section: OpenTelemetry traces, sent by OTLP over HTTP.

    Attributes:
        endpoint: base address of a collector, such as `http://127.0.0.1:4318`; `/v1/traces` is added to it. "" sends
            nothing and loads nothing.
        sample_share: of the requests that no caller decided on; a `traceparent` header decides for its own.
        timeout_s: of one export, which runs in the background.
    """

    endpoint: str = ""
    sample_share: float = Field(default=0.01, ge=0, le=1)
    timeout_s: float = Field(default=2.0, gt=0)

    @field_validator("endpoint")
    @classmethod
    def _an_address(cls, endpoint: str) -> str:
        if endpoint and not re.match(r"https?://[^/]", endpoint):
            raise ValueError("write an address such as http://127.0.0.1:4318")
        return endpoint.rstrip("/")


class ApiKeyConfig(Config):
    """One API key, in `[serving] api_keys`.

    Attributes:
        name: what logs call it.
        sha256: of the key, in hex; never the key itself.
        scopes: `read` (recommendations and what is like them), `events`, `admin` (everything).
        rate_per_s: requests a second, over all workers where the store is Redis; 0 = no limit.
        burst: requests at once after a pause; 0 = those of one second.
    """

    name: str
    sha256: str
    scopes: tuple[Scope, ...] = Field(min_length=1)
    rate_per_s: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    burst: int = Field(default=0, ge=0)

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not KEY_NAME.fullmatch(name):
            raise ValueError("a key's name is 1 to 64 letters, digits, '.', '_' and '-'")
        return name

    @field_validator("sha256")
    @classmethod
    def _hashed(cls, digest: str) -> str:
        return _digest(digest)


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
        host: the address it listens on; beyond loopback it wants `api_keys`.
        port: 0 takes a free one.
        store_url: `sqlite:///file` (relative to the workspace), `redis://host:port/db` or `memory://`.
        workers: processes; about one a core.
        threads: threads of one process that answer requests.
        api_keys: who may call, each `{name = "shop", sha256 = "...", scopes = ["read"], rate_per_s = 200, burst = 400}`
            with the hex sha256 of the key; none here and below = no key is asked for.
        api_keys_sha256: hex sha256 of further keys, with all scopes and without a limit.
        cors_origins: web pages that may call from a browser, each exactly as in its `Origin` header; none by default.
        live_poll_s: how often other workers' item upserts are looked for.
        release_poll_s: how often `releases/current` is looked at.
        stale_after_s: when upserts could not be read for this long, replies say `degraded: ["live_items"]`.
        retry_refused_release_s: when a release that was refused is tried again.
        spool_mib: slates' records that may wait beside the service while the store is away; more are not kept, and the
            slates say so.
        trending_half_life_s: after so many seconds an event counts half for what is trending.
        online_recall_every_s: a query in so many seconds, of each worker, is repeated with exact search in the
            background; 0 measures none.
        access_log: one log line for each request; problems are logged always.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    store_url: str = "sqlite:///store.sqlite3"
    workers: int = Field(default=1, ge=1, le=256)
    threads: int = Field(default=4, ge=1, le=256)
    api_keys: tuple[ApiKeyConfig, ...] = ()
    api_keys_sha256: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    live_poll_s: float = Field(default=1.0, gt=0)
    release_poll_s: float = Field(default=1.0, gt=0)
    stale_after_s: float = Field(default=10.0, gt=0)
    retry_refused_release_s: float = Field(default=30.0, gt=0)
    spool_mib: float = Field(default=64.0, gt=0)
    trending_half_life_s: float = Field(default=3600.0, gt=0)
    online_recall_every_s: float = Field(default=10.0, ge=0)
    access_log: bool = False
    limits: LimitsConfig = LimitsConfig()
    cache: CacheConfig = CacheConfig()
    budgets: BudgetsConfig = BudgetsConfig()
    traces: TracesConfig = TracesConfig()
    tracing: TracingConfig = TracingConfig()
    encoder: EncoderProcessConfig = EncoderProcessConfig()

    @field_validator("api_keys", mode="before")
    @classmethod
    def _from_compact(cls, keys: Any) -> Any:
        if not isinstance(keys, list | tuple):
            return keys
        return [compact_key(key) if isinstance(key, str) else key for key in keys]

    @field_validator("api_keys_sha256")
    @classmethod
    def _hashed(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_digest(key) for key in keys)

    @field_validator("cors_origins")
    @classmethod
    def _exact(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not ORIGIN.fullmatch(origin):
                raise ValueError('name exact origins such as "https://shop.example": no path, no final /, no *')
        return origins

    @model_validator(mode="after")
    def _told_apart(self) -> ServingConfig:
        names, digests = [key.name for key in self.api_keys], [key.sha256 for key in self.api_keys]
        if not (_are_unique(names) and _are_unique(digests)):
            raise ValueError("api_keys: two entries have the same name or the same sha256; each key stands there once")
        if any(name.startswith(UNNAMED) for name in names):
            raise ValueError(f"api_keys: names that begin with {UNNAMED} are those of api_keys_sha256")
        return self

    @property
    def all_keys(self) -> tuple[ApiKeyConfig, ...]:
        """`api_keys`, then those of `api_keys_sha256` that are not among them."""
        named = {key.sha256 for key in self.api_keys}
        more = [digest for digest in dict.fromkeys(self.api_keys_sha256) if digest not in named]
        unnamed = (ApiKeyConfig(name=f"{UNNAMED}{n}", sha256=each, scopes=ALL_SCOPES) for n, each in enumerate(more, 1))
        return (*self.api_keys, *unnamed)


def compact_key(text: str) -> dict[str, Any]:
    """An API key's settings from the form `COMPACT_KEY`, for the environment.

    Raises ValueError, which does not repeat it.
    """
    parts = text.strip().split(":")
    if not 3 <= len(parts) <= 5:
        raise ValueError(f"write each key as {COMPACT_KEY}, several with commas between them")
    scopes = [scope.strip() for scope in parts[1].split("+")]
    rates = dict(zip(("rate_per_s", "burst"), parts[3:], strict=False))
    return {"name": parts[0].strip(), "scopes": scopes, "sha256": parts[2], **rates}


def _digest(text: str) -> str:
    digest = text.strip().lower()
    if not SHA256_HEX.fullmatch(digest):
        raise ValueError(
            'each entry is the sha256 of a key in 64 hex digits, never the key itself: printf %s "$KEY" | sha256sum'
        )
    if digest == SHA256_OF_NOTHING:
        raise ValueError("that is the sha256 of an empty key, which everybody has: set KEY first")
    return digest


def _are_unique(values: Sequence[str]) -> bool:
    return len(set(values)) == len(values)


def require_safe(config: ServingConfig) -> None:
    """What the file and the environment together must hold before the service starts.

    Raises:
        ConfigError: others could reach the service without a key, or workers would not see each other's writes.
    """
    if not config.all_keys and not is_loopback(config.host):
        raise ConfigError(
            f"listening on {config.host} would open the service to others without a key; set RECSYS_API_KEYS (or "
            "[serving] api_keys; RECSYS_API_KEYS_SHA256 for keys with all scopes) to the sha256 of an API key, or the "
            "host to 127.0.0.1"
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
