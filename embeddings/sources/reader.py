"""One reader for a whole catalogue: each reference goes to the source that its form names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embeddings.reading import ContentReader
from embeddings.refused import Refused
from embeddings.sources.containers import MEMBER, ContainerReader
from embeddings.sources.folder import FolderReader
from embeddings.sources.http import HttpReader
from embeddings.sources.listing import Modality
from embeddings.sources.remote import RemoteReader
from recsys.references import WEB_SCHEMES, is_web, normal_root, url_below, url_scheme
from recsys.sources_config import SourcesConfig

_LOCAL_SCHEMES = ("file", "local")


class CatalogueReader:
    """A ContentReader of everything that a catalogue's `image` and `audio` may name.

    Args:
        root: `image_root` where it is a URL, else None.
        files: local paths (below the root, where that is a `file://` URL).
        web: http and https URLs.
        remote: what lies below the root, where that is another URL.
        containers: members of tar and Parquet files, where the configuration names any.
    """

    def __init__(
        self,
        root: str | None,
        *,
        files: FolderReader,
        web: HttpReader,
        remote: RemoteReader | None,
        containers: ContainerReader | None,
    ) -> None:
        self._root = root
        self._root_scheme = url_scheme(root) if root else None
        self._files = files
        self._web = web
        self._remote = remote
        self._containers = containers

    def reference_for(self, item_id: str, named: str | None, modality: Modality = "image") -> str | None:
        """What to read for an item whose `image` (or `audio`) is `named`; None where it has nothing.

        An item without one gets the member of a container that belongs to its item_id, and a path that is a member's
        name means that member.

        Raises:
            ConfigError: the containers cannot be used.
        """
        if self._containers is None or (named is not None and url_scheme(named)):
            return named
        return self._containers.reference_for(item_id, named, modality) or named

    def stamp(self, reference: str) -> str | None:
        try:
            reader, reference = self._route(reference)
        except Refused:
            return None
        return reader.stamp(reference)

    def read(self, reference: str) -> bytes:
        """The content.

        Raises:
            Refused: with any reason of those that say that a content could not be had.
            EnvironmentProblem, ConfigError: no content could be had from that source; the job should end.
        """
        reader, reference = self._route(reference)
        return reader.read(reference)

    def close(self) -> None:
        for reader in (self._files, self._web, self._remote, self._containers):
            if reader is not None:
                reader.close()

    def findings(self) -> tuple[str, ...]:
        """What a report should say of the sources beside the refusals: damaged containers and duplicate names."""
        if self._containers is None:
            return ()
        listing = self._containers.listing()
        n_duplicates = listing.by_name.n_duplicates
        doubled = f"{n_duplicates} members have the name of an earlier one and are not used"
        return (*listing.damaged, *((doubled,) if n_duplicates else ()))

    def _route(self, reference: str) -> tuple[ContentReader, str]:
        """The source, and the reference as it knows it."""
        if reference.startswith(MEMBER):
            if self._containers is None:
                raise Refused("not_found", f"{reference} is in no container: image_files under [sources] names none")
            return self._containers, reference
        if is_web(reference):
            return self._web, reference
        scheme = url_scheme(reference)
        if scheme is not None and scheme != self._root_scheme:
            message = f"{scheme}:// is read only below an image_root of that kind (under [data])"
            raise Refused("unsupported_scheme", message)
        if self._root is None:
            return self._files, reference
        if self._remote is not None:
            return self._remote, reference
        url = url_below(reference, self._root)
        if url is None:
            raise Refused("outside_root", f"{reference} lies outside {self._root} (image_root under [data])")
        return (self._web, url) if is_web(url) else (self._files, url[len(self._root) + 1 :])


def open_reader(
    config: SourcesConfig,
    *,
    items_folder: Path,
    image_root: str,
    cache_folder: Path,
    retry_failed: bool = False,
) -> CatalogueReader:
    """The reader of a workspace's catalogue. Nothing is opened, listed or connected to yet.

    Args:
        items_folder: where the items file lies; paths and patterns are relative to it.
        image_root: of `[data]`: one folder more that paths may lie in, or the URL that references are relative to.
        cache_folder: where fetched bytes and their ledger are kept.
        retry_failed: whether URLs that failed in earlier runs are asked for once more.
    """
    root = normal_root(image_root) if url_scheme(image_root) else None
    scheme = url_scheme(root) if root else None
    base, roots = items_folder, _folders(items_folder, image_root)
    remote = None
    if root and scheme in _LOCAL_SCHEMES:
        base = Path(root.partition("://")[2])
        roots = [base]
    elif root and scheme not in WEB_SCHEMES:
        remote = RemoteReader(root, config.storage_options, max_bytes=config.max_bytes)
    patterns, cap = config.image_files, config.max_bytes
    return CatalogueReader(
        root,
        files=FolderReader(base, roots, max_bytes=cap),
        web=HttpReader(config, cache_folder, retry_failed=retry_failed),
        remote=remote,
        containers=ContainerReader(items_folder, patterns, max_bytes=cap) if patterns else None,
    )


def _folders(items_folder: Path, image_root: str) -> Sequence[Path]:
    return [items_folder] if url_scheme(image_root) else [items_folder, items_folder / image_root]
