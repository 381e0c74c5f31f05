"""Joins the service's parts: the only place of `serving` that names concrete adapters."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from embeddings.content_encoder import OnnxContentEncoder, described_spaces
from recsys.budget import StageCosts
from recsys.errors import ConfigError, InvalidRequest
from recsys.events import Exposure
from recsys.expressions.parsing import parse
from recsys.filtering import require_judged
from recsys.history import HistoryCache
from recsys.index.files import open_index
from recsys.inference.ranker import OnnxRanker
from recsys.inference.towers import OnnxItemTower, OnnxQueryTower
from recsys.ports import ReleaseStore, StateReader, Store
from recsys.release import LoadedRelease
from recsys.release_loading import Adapters, load_release, require_value
from recsys.storage.direct_readers import DirectStateReader
from recsys.storage.drainer import Drainer
from recsys.storage.release_urls import open_release_store
from recsys.storage.spool import Spool
from recsys.storage.urls import open_shared_buckets, open_state_reader, open_store
from recsys.surfaces import Surfaces
from recsys.workspace import WorkspaceConfig
from serving.background import Repeating
from serving.encoding.bootstrap import max_frame_bytes
from serving.encoding.client import EncoderClient
from serving.encoding.local import LocalContentEncoding
from serving.encoding.remote import RemoteContentEncoder
from serving.exposures import Exposures
from serving.feature_cache import KnownStates, VectorCache, with_caches
from serving.guards import Guard, IndexGuard, OnlineRecall
from serving.live_config import ConfigWatcher
from serving.one_request import UserStates
from serving.pages import PageTokens
from serving.rate_leases import RateLeases
from serving.rate_limits import RateLimits
from serving.recent_traces import RecentTraces
from serving.releases import Releases
from serving.service import Service
from serving.settings import Settings
from serving.store_guard import GuardedStore
from serving.telemetry import CacheResult, Telemetry
from serving.transfers import log_transfer
from serving.trends import Trends
from serving.work import Work

SPOOL_FOLDER = "spool"
TRENDING_ITEMS = 500
TRENDS_EVERY_S = 5.0
RECALL_LOOK_S = 1.0
REPORT_EVERY_S = 5.0
HIT: Mapping[bool, CacheResult] = {True: "hit", False: "miss"}

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
        StoreUnavailable: the SQLite file or the spool cannot be used (Redis may come later).
    """
    url, root = settings.serving.store_url, settings.workspace
    encoder = encoder_client(settings, telemetry)
    store = open_store(url, root=root)
    release_store = open_release_store(settings.releases, root=root, on_transfer=log_transfer)
    watcher = ConfigWatcher(root, settings.config, validate=require_sound, poll_s=settings.serving.release_poll_s)

    def load(release_id: str) -> LoadedRelease:
        return load_release(release_store, release_id, adapters_of(release_id, encoder, settings))

    return service_over(
        store,
        release_store,
        load,
        settings,
        telemetry,
        reader=open_state_reader(url, store, root=root),
        exposures=open_exposures(store, settings, watcher),
        encoder=encoder,
        watcher=watcher,
    )


def open_exposures(store: Store, settings: Settings, watcher: ConfigWatcher) -> Exposures:
    """A spool beside the service, drained to the store in the background; a store in memory is written to itself."""

    def served_keep_s() -> float:
        return longest_served_s(watcher.current.surfaces)

    if settings.serving.store_url == "memory://":
        return direct_exposures(store, served_keep_s)
    spool = Spool(settings.workspace / SPOOL_FOLDER, max_bytes=int(settings.serving.spool_mib * 2**20))
    drainer = Drainer(spool, store, served_keep_s=served_keep_s)
    drainer.start()

    def drain() -> None:
        drainer.drain_now()

    def close() -> None:
        drainer.stop()
        spool.close()

    return Exposures(spool.append, drain, close, lambda: bool(drainer.done.failure))


def direct_exposures(store: Store, served_keep_s: Callable[[], float]) -> Exposures:
    """Each record goes to the store at once."""

    def append(exposure: Exposure) -> None:
        store.append_exposures([exposure], served_keep_s=served_keep_s())

    return Exposures(append)


def longest_served_s(surfaces: Surfaces) -> float:
    """How long what was served must be kept for any surface and variant, in seconds; 0 where none asks for it."""
    return max(surface.recommender.filter.exclude_served_s for _, surface in surfaces.every())


def require_sound(config: WorkspaceConfig) -> None:
    """Raises ConfigError, which says where, where an expression of the configuration is none."""
    for where, surface in config.resolved_surfaces().every():
        for text in surface.expressions:
            try:
                parse(text, field=where)
            except InvalidRequest as error:
                raise ConfigError(f"{where}: {error}") from None


def encoder_client(settings: Settings, telemetry: Telemetry) -> EncoderClient | None:
    """The way to this host's encoder process; None where the worker encodes itself. Nothing is connected yet."""
    if settings.encoder_socket is None:
        return None
    cached_texts, max_bytes = settings.serving.cache.query_texts, max_frame_bytes(settings.serving)
    return EncoderClient(settings.encoder_socket, telemetry, cached_texts=cached_texts, max_bytes=max_bytes)


def adapters_of(release_id: str, encoder: EncoderClient | None, settings: Settings) -> Adapters:
    """What opens a release's files; with an encoder process its graphs stay unread here."""
    if encoder is None:
        return ADAPTERS
    timeout_s = settings.serving.encoder.timeout_ms / 1000.0

    def open_remote(files: Mapping[str, Path]) -> RemoteContentEncoder:
        space_ids = {modality: space.space_id for modality, space in described_spaces(files).items()}
        return RemoteContentEncoder(encoder, release_id, space_ids, timeout_s=timeout_s)

    return replace(ADAPTERS, open_content_encoder=open_remote, encodes_elsewhere=True)


def service_over(
    store: Store,
    release_store: ReleaseStore,
    load: Callable[[str], LoadedRelease],
    settings: Settings,
    telemetry: Telemetry,
    *,
    reader: StateReader | None = None,
    exposures: Exposures | None = None,
    encoder: EncoderClient | None = None,
    watcher: ConfigWatcher | None = None,
) -> Service:
    """The service over these parts; `load` gives the release of an id. What is left out is made of the store, of this
    worker alone, and of the settings as they are."""
    serving = settings.serving
    cache, limits = serving.cache, serving.limits
    content_vectors = VectorCache("content_vector", cache.content_vectors, telemetry)
    guarded = GuardedStore(store)
    encoding = Work("encoding", threads=1, max_concurrent=limits.max_concurrent_items)
    local = LocalContentEncoding(encoding)
    recall = OnlineRecall(telemetry.online_recall, serving.online_recall_every_s)
    trends = Trends(lambda now_ms: guarded.trending(now_ms, serving.trending_half_life_s, TRENDING_ITEMS), telemetry)
    histories = HistoryCache(int(cache.histories_mib * 2**20), lambda hit: telemetry.cache("history", HIT[hit]))
    known = KnownStates(int(cache.user_states_mib * 2**20), telemetry)
    fixed = settings.config.resolved_surfaces(settings.recommender)

    def surfaces() -> Surfaces:
        return fixed if watcher is None else watcher.current.surfaces

    exposures = exposures or direct_exposures(store, lambda: longest_served_s(surfaces()))

    def load_cached(release_id: str) -> LoadedRelease:
        release = with_caches(load(release_id), content_vectors)
        for _, surface in fixed.every():
            require_value(release, surface.recommender.rank.value)
        if releases.view is not None:  # where none serves, surfaces that block nothing are better than none at all
            for _, surface in surfaces().every():
                require_judged(surface.recommender.filter, release)
        local.know(release_id, release.content_encoder)
        return release

    releases = Releases(release_store, load_cached, guarded, settings.recommender, serving, telemetry)

    def report() -> None:
        telemetry.cache_size("history", len(histories))
        telemetry.cache_size("user_state", len(known))

    background = [
        Repeating("trends", trends.refresh, TRENDS_EVERY_S),
        Repeating("recall", recall.measure_one, RECALL_LOOK_S),
        Repeating("cache-sizes", report, REPORT_EVERY_S),
    ]
    return Service(
        settings=settings,
        telemetry=telemetry,
        store=guarded,
        releases=releases,
        states=UserStates(reader or DirectStateReader(store), known, telemetry),
        expose=exposures.counted_by(telemetry),
        drain=exposures.drain,
        exposures_are_stuck=exposures.are_stuck,
        surfaces=surfaces,
        config_problem=(lambda: watcher.problem) if watcher is not None else (lambda: None),
        histories=histories,
        costs=StageCosts(),
        index_guard=IndexGuard(recall),
        ranker_guard=Guard(),
        trends=trends,
        tokens=PageTokens(settings.token_key),
        content=encoder or local,
        traces=RecentTraces(serving.traces.recent, serving.traces.max_bytes),
        requests=Work("requests", threads=serving.threads, max_concurrent=limits.max_concurrent_slow),
        encoding=encoding,
        background=(*background, *((watcher,) if watcher is not None else ())),
        stoppers=(exposures.close,),
    )


def open_rate_leases(settings: Settings, limits: RateLimits) -> RateLeases | None:
    """What lets the rate limits hold over all workers, not yet started; None where the store cannot, or none is set."""
    shared = open_shared_buckets(settings.serving.store_url, worker=secrets.token_hex(8)) if limits.buckets else None
    return None if shared is None else RateLeases(list(limits.buckets.values()), shared)
