"""Contents inside Parquet and tar files: which item has one, and its bytes.

In a tar each member has its own name. An item finds its picture there by the name without extension (`123.jpg` is
item `123`'s: what webdataset calls a key, folders included), but where a `.json` of the same key says
`{"item_id": ...}`, by that alone: img2dataset numbers its members, and copies the columns it is told to into such
files. In Parquet an item finds its picture by the id column, or, where there are only paths (Hugging Face's image
folders), by the path without extension.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

from embeddings.refused import Refused
from embeddings.sources.listing import MODALITIES, Container, Listing, Modality, list_containers, matching_files
from embeddings.sources.os_errors import refusal
from embeddings.sources.parquet_rows import RowGroups
from embeddings.sources.places import Place, Places
from embeddings.sources.tar_members import pread_all

MEMBER = "member:"  # no path or URL of a catalogue begins so


class ContainerReader:
    """A ContentReader of references that `reference_for` gives. The files are listed by the first call.

    Args:
        folder: what the patterns are relative to.
        patterns: such as `shards/*.tar` and `pictures-*.parquet`; of a name given twice the first container's counts.
        max_bytes: of one content.
    """

    def __init__(self, folder: Path, patterns: Sequence[str], *, max_bytes: int) -> None:
        self._folder = folder
        self._patterns = tuple(patterns)
        self._max_bytes = max_bytes
        self._mutex = threading.Lock()
        self._listing: Listing | None = None
        self._row_groups = RowGroups()

    def __reduce__(self) -> tuple[object, ...]:
        return _made, (self._folder, self._patterns, self._max_bytes)

    def reference_for(self, item_id: str, named: str | None, modality: Modality) -> str | None:
        """The reference of the member called `named`, or without a name of the item's own; None where there is none.

        Raises:
            ConfigError: the patterns match nothing, or what cannot be a container.
        """
        listing = self.listing()
        if named is not None:
            return f"{MEMBER}name:{named}" if listing.by_name.find(named) else None
        return f"{MEMBER}{modality}:{item_id}" if listing.by_item[modality].find(item_id) else None

    def stamp(self, reference: str) -> str | None:
        """Size and modification time of the container, and the place in it."""
        try:
            listing, place = self._find(reference)
        except Exception:  # whatever it is, read will say it
            return None
        container = listing.containers[place[0]]
        return f"{container.size}-{container.mtime_ns}-{place[1]}-{place[2]}"

    def read(self, reference: str) -> bytes:
        """The bytes of one member.

        Raises:
            Refused: `not_found`, `damaged_container`, `too_large`.
            ConfigError: as `reference_for`.
        """
        listing, (number, first, second) = self._find(reference)
        container = listing.containers[number]
        if container.layout is None:
            return self._read_tar(container, first, second, reference)
        if (now := _status(container.path)) != (container.size, container.mtime_ns):
            raise _changed(container, now)
        content = self._row_groups.read(container.path, container.layout, first, second)
        if len(content) > self._max_bytes:
            raise self._too_large(reference)
        return content

    def close(self) -> None:
        """Forget the row groups that are held."""
        self._row_groups.close()

    def listing(self) -> Listing:
        """What the containers hold. Raises ConfigError as `reference_for`."""
        with self._mutex:
            if self._listing is None:
                self._listing = list_containers(matching_files(self._folder, self._patterns))
            return self._listing

    def _find(self, reference: str) -> tuple[Listing, Place]:
        listing = self.listing()
        kind, _, name = reference.removeprefix(MEMBER).partition(":")
        by_kind: dict[str, Places] = {"name": listing.by_name} | {each: listing.by_item[each] for each in MODALITIES}
        place = by_kind[kind].find(name) if kind in by_kind else None
        if place is None:
            if listing.damaged:
                raise Refused("damaged_container", f"{name} was not found, and {listing.damaged[0]}")
            raise Refused("not_found", f"no container has {name}")
        return listing, place

    def _read_tar(self, container: Container, offset: int, size: int, reference: str) -> bytes:
        if size > self._max_bytes:
            raise self._too_large(reference)
        name = container.path.name
        try:
            descriptor = os.open(container.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if (now := _status(descriptor)) != (container.size, container.mtime_ns):
                    raise _changed(container, now)
                content = pread_all(descriptor, size, offset)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise refusal(error, str(container.path)) from None
        if len(content) < size:
            raise Refused("damaged_container", f"{name} is cut off within {reference.removeprefix(MEMBER)}")
        return content

    def _too_large(self, reference: str) -> Refused:
        name = reference.removeprefix(MEMBER)
        return Refused("too_large", f"{name} has more than {self._max_bytes} bytes (max_bytes under [sources])")


def _status(file: Path | int) -> tuple[int, int] | None:
    """Size and modification time; None where it is gone."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _changed(container: Container, now: tuple[int, int] | None) -> Refused:
    happened = "has changed since it was listed: run again" if now else "is gone: put it back"
    return Refused("damaged_container", f"{container.path.name} {happened}")


def _made(folder: Path, patterns: tuple[str, ...], max_bytes: int) -> ContainerReader:
    return ContainerReader(folder, patterns, max_bytes=max_bytes)
