"""Joins the parts of the encoder process: the only module of it that names concrete adapters."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from embeddings.content_encoder import MODALITIES, files_of, open_encoder
from embeddings.encoder import Encoder
from recsys.errors import ConfigError, StoreUnavailable
from recsys.manifest import ReleaseManifest, fingerprint
from recsys.ports import ReleaseFiles, ReleaseStore
from recsys.releases_config import ReleasesConfig
from recsys.serving_config import ServingConfig
from recsys.storage.release_urls import open_release_store
from serving.encoding.decoding import IsolatedDecoder
from serving.encoding.engine import Engine
from serving.encoding.library import EncoderSource, Library
from serving.encoding.protocol import OVERHEAD_BYTES
from serving.encoding.server import EncoderServer
from serving.transfers import log_transfer

ENCODER_FOLDER = "encoders/"
MIN_FRAME_BYTES = 2 << 20
"""The longest text of an item, with room to spare."""


def open_server(workspace: Path, releases_url: str = "") -> tuple[EncoderServer, Engine, ReleaseStore]:
    """The encoder process of a workspace, not yet started; `releases_url` overrules the file. Raises ConfigError."""
    config, lie = _config(workspace, releases_url)
    releases = open_release_store(lie, root=workspace, on_transfer=log_transfer)
    library = Library(partial(sources_of, releases, threads=config.encoder.threads), time.monotonic)
    max_bytes = max_frame_bytes(config)
    engine = Engine(library, IsolatedDecoder(max_bytes), config.encoder, time.monotonic)
    return EncoderServer(engine, max_bytes + OVERHEAD_BYTES), engine, releases


def sources_of(store: ReleaseFiles, release_id: str, *, threads: int) -> Mapping[str, EncoderSource]:
    """The encoders of a release by modality, their files not yet looked at. Raises ArtifactError."""
    manifest = store.manifest(release_id)
    names = [name.removeprefix(ENCODER_FOLDER) for name in manifest.files if name.startswith(ENCODER_FOLDER)]
    described = {modality: files_of(modality, names) for modality in MODALITIES}
    return {
        modality: EncoderSource(
            key=fingerprint([[role, manifest.files[ENCODER_FOLDER + name].sha256] for role, name in roles.items()]),
            open=partial(_open, store, manifest, roles, threads=threads),
        )
        for modality, roles in described.items()
        if roles
    }


def max_frame_bytes(config: ServingConfig) -> int:
    """The longest content that a worker sends."""
    return max(config.limits.max_image_bytes, MIN_FRAME_BYTES)


def current_of(store: ReleaseStore) -> str | None:
    """The release that is current, or was when this host last could ask. Raises CorruptArtifact."""
    try:
        return store.current()
    except StoreUnavailable:
        return store.last_known()


def has_encoders(workspace: Path, releases: ReleasesConfig) -> bool:
    """Whether the current release carries encoders. Raises ArtifactError or StoreUnavailable."""
    store = open_release_store(releases, root=workspace)
    current = current_of(store)
    return current is not None and any(name.startswith(ENCODER_FOLDER) for name in store.manifest(current).files)


def _open(store: ReleaseFiles, manifest: ReleaseManifest, roles: Mapping[str, str], *, threads: int) -> Encoder:
    files = {role: store.open(manifest, ENCODER_FOLDER + name) for role, name in roles.items()}
    encoder = open_encoder(files, threads=threads)
    if encoder.space.modality == "text":
        encoder.encode(["first"])  # what a runtime sets up late is not counted to the first query
    return encoder


def _config(workspace: Path, releases_url: str) -> tuple[ServingConfig, ReleasesConfig]:
    """`[serving]` and `[releases]` alone: the service has checked the rest, whose classes bring libraries that are not
    needed here."""
    path = workspace / "recsys.toml"
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        releases = {**raw.get("releases", {}), **({"url": releases_url} if releases_url else {})}
        return ServingConfig.model_validate(raw.get("serving", {})), ReleasesConfig.model_validate(releases)
    except (OSError, ValueError, ValidationError) as error:
        raise ConfigError(f"{path} cannot be used: {error}") from None
