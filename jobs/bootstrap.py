"""Where the jobs' concrete adapters are named; everything else sees ports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embeddings.content_encoder import OnnxContentEncoder
from jobs.progress import show_transfer
from recsys.index.files import open_index
from recsys.inference.ranker import OnnxRanker
from recsys.inference.towers import OnnxItemTower, OnnxQueryTower
from recsys.live import CatalogView, view_of
from recsys.ports import LiveItem, ReleaseStore, Store
from recsys.release_loading import Adapters, load_release
from recsys.storage.release_urls import open_release_store
from recsys.storage.urls import open_store
from recsys.workspace import Workspace

ADAPTERS = Adapters(
    open_index=open_index,
    open_query_tower=OnnxQueryTower,
    open_item_tower=OnnxItemTower,
    open_content_encoder=OnnxContentEncoder.open,
    open_ranker=OnnxRanker,
)


def releases_of(workspace: Workspace) -> ReleaseStore:
    return open_release_store(workspace.config.releases, root=workspace.root, on_transfer=show_transfer)


def catalog_of(workspace: Workspace, release_id: str, live_items: Sequence[LiveItem] = ()) -> CatalogView:
    """A release as the service would hold it."""
    return view_of(load_release(releases_of(workspace), release_id, ADAPTERS), live_items)


def item_tower_of(path: Path) -> OnnxItemTower:
    """The item tower for whole catalogues; one thread, so that its outputs do not depend on the machine's cores."""
    return OnnxItemTower(path, threads=1)


def ranker_of(path: Path) -> OnnxRanker:
    """The learned ranker in a file."""
    return OnnxRanker(path)


def store_of(workspace: Workspace, url: str | None = None) -> Store:
    """The service's store; `url` overrides the configuration."""
    return open_store(url or workspace.config.serving.store_url, root=workspace.root)
