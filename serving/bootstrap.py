"""Joins the service's parts: the only place of `serving` that names concrete adapters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from embeddings.content_encoder import OnnxContentEncoder, described_spaces
from recsys.index.files import open_index
from recsys.inference.towers import OnnxItemTower, OnnxQueryTower
from recsys.ports import ReleaseStore, Store
from recsys.release import LoadedRelease
from recsys.release_loading import Adapters, load_release
from recsys.storage.release_files import LocalReleaseStore
from recsys.storage.urls import open_store
from serving.encoding.bootstrap import max_frame_bytes
from serving.encoding.client import EncoderClient
from serving.encoding.local import LocalContentEncoding
from serving.encoding.remote import RemoteContentEncoder
from serving.feature_cache import KnownStates, VectorCache, with_caches
from serving.releases import Releases
from serving.service import Service
from serving.settings import Settings
from serving.store_guard import GuardedStore
from serving.telemetry import Telemetry
from serving.work import Work

ADAPTERS = Adapters(
    open_index=open_index,
    open_query_tower=OnnxQueryTower,
    open_item_tower=OnnxItemTower,
    open_content_encoder=OnnxContentEncoder.open,
)


def open_service(settings: Settings, telemetry: Telemetry) -> Service:
    """The service of a workspace, not yet started.

    Raises:
        ConfigError: no such kind of store.
        StoreUnavailable: the SQLite file cannot be used (Redis may come later).
    """
    encoder = encoder_client(settings, telemetry)
    store = open_store(settings.serving.store_url, root=settings.workspace)
    release_store = LocalReleaseStore(settings.workspace)

    def load(release_id: str) -> LoadedRelease:
        return load_release(release_store, release_id, adapters_of(release_id, encoder, settings))

    return service_over(store, release_store, load, settings, telemetry, encoder)


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
    encoder: EncoderClient | None = None,
) -> Service:
    """The service over these parts; `load` gives the release of an id, `encoder` encodes queries for it."""
    cache, limits = settings.serving.cache, settings.serving.limits
    query_vectors = VectorCache("query_vector", cache.query_vectors, telemetry)
    content_vectors = VectorCache("content_vector", cache.content_vectors, telemetry)
    store = GuardedStore(store)
    encoding = Work("encoding", threads=1, max_concurrent=limits.max_concurrent_items)
    local = LocalContentEncoding(encoding)

    def load_cached(release_id: str) -> LoadedRelease:
        release = with_caches(load(release_id), query_vectors, content_vectors)
        local.know(release_id, release.content_encoder)
        return release

    return Service(
        settings=settings,
        telemetry=telemetry,
        store=store,
        releases=Releases(release_store, load_cached, store, settings.recommender, settings.serving, telemetry),
        states=KnownStates(cache.user_state_entries, telemetry),
        requests=Work("requests", threads=settings.serving.threads, max_concurrent=limits.max_concurrent),
        encoding=encoding,
        content=encoder or local,
    )
