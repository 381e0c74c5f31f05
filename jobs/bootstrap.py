"""Where the jobs' concrete adapters are named; everything else sees ports."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embeddings.encoder import Encoder
from recsys.errors import ConfigError
from recsys.inference.towers import OnnxItemTower, OnnxQueryTower
from recsys.live import CatalogView, view_of
from recsys.ports import ContentEncoder, ItemIndex, Store
from recsys.release_loading import Adapters, load_release
from recsys.storage.release_files import LocalReleaseStore
from recsys.storage.urls import open_store
from recsys.workspace import Workspace


def release_store(workspace: Workspace) -> LocalReleaseStore:
    return LocalReleaseStore(workspace.root)


def adapters() -> Adapters:
    """What reads the files of a release in a job: one thread each, as in the service."""
    return Adapters(
        open_index=_open_index,
        open_query_tower=OnnxQueryTower,
        open_item_tower=OnnxItemTower,
        open_content_encoder=_open_content_encoder,
    )


def catalog_of(workspace: Workspace, release_id: str) -> CatalogView:
    """A release as the service would hold it, without any upserts."""
    return view_of(load_release(release_store(workspace), release_id, adapters()))
