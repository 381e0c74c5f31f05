"""Joins the service's parts: the only place of `serving` that names concrete adapters."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from embeddings.content_encoder import OnnxContentEncoder
from recsys.index.files import open_index
from recsys.inference.ranker import OnnxRanker
from recsys.inference.towers import OnnxItemTower, OnnxQueryTower
from recsys.ports import ReleaseStore, Store
from recsys.release import LoadedRelease
from recsys.release_loading import Adapters, load_release
from recsys.storage.release_urls import open_release_store
from recsys.storage.urls import open_shared_buckets, open_store
from serving.feature_cache import KnownStates, VectorCache, with_caches
from serving.rate_leases import RateLeases
from serving.rate_limits import RateLimits
from serving.recent_traces import RecentTraces
from serving.releases import Releases
from serving.service import Service
from serving.settings import Settings
from serving.store_guard import GuardedStore
from serving.telemetry import Telemetry
from serving.transfers import log_transfer
from serving.work import Work

ADAPTERS = Adapters(
    open_index=open_index,
    open_query_tower=OnnxQueryTower,
    open_item_tower=OnnxItemTower,
    open_content_encoder=OnnxContentEncoder.open,
    open_ranker=OnnxRanker,
)


def open_service(settings: Settings, telemetry: Telemetry) -> Service:
    """The service of a workspace, not yet started.

    Raises:
        ConfigError: no such kind of store, or of storage for releases.
        StoreUnavailable: the SQLite file cannot be used (Redis may come later).
    """
    store = open_store(settings.serving.store_url, root=settings.workspace)
    release_store = open_release_store(settings.releases, root=settings.workspace, on_transfer=log_transfer)

    def load(release_id: str) -> LoadedRelease:
        return load_release(release_store, release_id, ADAPTERS)

    return service_over(store, release_store, load, settings, telemetry)


def service_over(
    store: Store,
    release_store: ReleaseStore,
    load: Callable[[str], LoadedRelease],
    settings: Settings,
    telemetry: Telemetry,
) -> Service:
    """The service over these parts; `load` gives the release of an id."""
    cache, limits = settings.serving.cache, settings.serving.limits
    query_vectors = VectorCache("query_vector", cache.query_vectors, telemetry)
    content_vectors = VectorCache("content_vector", cache.content_vectors, telemetry)
    store = GuardedStore(store)

    def load_cached(release_id: str) -> LoadedRelease:
        return with_caches(load(release_id), query_vectors, content_vectors)

    return Service(
        settings=settings,
        telemetry=telemetry,
        store=store,
        releases=Releases(release_store, load_cached, store, settings.recommender, settings.serving, telemetry),
        states=KnownStates(cache.user_state_entries, telemetry),
        traces=RecentTraces(settings.serving.traces.recent, settings.serving.traces.max_bytes),
        requests=Work("requests", threads=settings.serving.threads, max_concurrent=limits.max_concurrent),
        encoding=Work("encoding", threads=1, max_concurrent=limits.max_concurrent_items),
    )


def open_rate_leases(settings: Settings, limits: RateLimits) -> RateLeases | None:
    """What lets the rate limits hold over all workers, not yet started; None where the store cannot, or none is set."""
    shared = open_shared_buckets(settings.serving.store_url, worker=secrets.token_hex(8)) if limits.buckets else None
    return None if shared is None else RateLeases(list(limits.buckets.values()), shared)
