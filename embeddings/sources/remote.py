"""Contents in object stores and other file systems that fsspec knows, below one root URL."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from embeddings.refused import Reason, Refused
from recsys.references import url_below, url_scheme
from recsys.storage import file_systems

# A folder is listed once that many of its files have been asked for: one request for 1,000 files, instead of each one.
_ASKED_BEFORE_LISTING = 3
_STAMPS_KEPT = 1_000_000
_NEVER_AGAIN = -1 << 60  # a folder that had to be forgotten: listing it again and again would cost more than asking
_STAMPS = ("ETag", "etag", "md5Hash", "content_md5", "generation", "mtime", "LastModified", "last_modified", "updated")
_CREATED = "created"  # memory:// has nothing better


class RemoteReader:
    """A ContentReader of paths relative to `root` and of URLs below it. Connections are opened by the first call.

    Args:
        root: such as `s3://bucket/pictures`, normal (`recsys.references.normal_root`).
        options: what fsspec opens the file system with, such as `{"endpoint_url": ...}`.
        max_bytes: of one content.
    """

    def __init__(self, root: str, options: Mapping[str, Any], *, max_bytes: int) -> None:
        self._root = root
        self._options = dict(options)
        self._max_bytes = max_bytes
        self._mutex = threading.Lock()
        self._listing_mutex = threading.Lock()
        self._file_system: Any = None
        self._asked: Counter[str] = Counter()
        self._folders: OrderedDict[str, dict[str, str | None]] = OrderedDict()
        self._n_stamps = 0

    def __reduce__(self) -> tuple[object, ...]:
        return _made, (self._root, self._options, self._max_bytes)

    def stamp(self, reference: str) -> str | None:
        """The ETag, or size and modification time; from the folder's listing where several are asked for."""
        try:
            path = self._path(reference)
            folder = path.rpartition("/")[0]
            with self._mutex:
                listed = self._folders.get(folder)
                if listed is None:
                    self._asked[folder] += 1
                    listing_is_due = self._asked[folder] > _ASKED_BEFORE_LISTING
            if listed is None and listing_is_due:
                listed = self._list(folder)
            return (listed or {}).get(path) or _stamp_of(self._opened().info(path))
        except Exception:  # whatever it is, read will say it
            return None

    def read(self, reference: str) -> bytes:
        """The whole object.

        Raises:
            Refused: `outside_root`, `not_found`, `not_permitted`, `too_large`, `timeout`, `no_connection`,
                `not_readable`.
            EnvironmentProblem: the library for this kind of storage is missing.
            ConfigError: `storage_options` or the kind of storage is not understood.
        """
        path, file_system = self._path(reference), self._opened()
        try:
            content = bytes(_up_to(file_system, path, self._max_bytes + 1))
        except Exception as error:
            raise _refusal(error, reference) from None
        if len(content) > self._max_bytes:
            raise Refused("too_large", f"{reference} has more than {self._max_bytes} bytes (max_bytes under [sources])")
        return content

    def close(self) -> None:
        """Forget the listings; fsspec keeps connections for the process."""
        with self._mutex:
            self._folders.clear()
            self._asked.clear()
            self._n_stamps = 0
            self._file_system = None

    def _path(self, reference: str) -> str:
        url = url_below(reference, self._root)
        if url is None:
            raise Refused("outside_root", f"{reference} lies outside {self._root} (image_root under [data])")
        return url.partition("://")[2]

    def _opened(self) -> Any:
        with self._mutex:
            if self._file_system is None:
                self._file_system = open_file_system(url_scheme(self._root) or "", self._options)
            return self._file_system

    def _list(self, folder: str) -> dict[str, str | None]:
        with self._listing_mutex:  # it takes long, and every thread would ask for the same
            with self._mutex:
                if (listed := self._folders.get(folder)) is not None:
                    return listed
            listed = _listed(self._opened(), folder)
            with self._mutex:
                self._folders[folder] = listed
                self._n_stamps += len(listed)
                while self._n_stamps > _STAMPS_KEPT and len(self._folders) > 1:
                    forgotten, stamps = self._folders.popitem(last=False)
                    self._n_stamps -= len(stamps)
                    self._asked[forgotten] = _NEVER_AGAIN
            return listed


def _listed(file_system: Any, folder: str) -> dict[str, str | None]:
    """path → stamp of the files in a folder; nothing where it may not be listed.

    Only stamps are kept: entries with all that a store says of them would take ten times the memory.
    """
    try:
        entries = file_system.ls(folder, detail=True)
    except Exception:
        return {}
    start = "/" if folder.startswith("/") else ""  # memory:// writes one where the URL has none
    return {start + entry["name"].lstrip("/"): _stamp_of(entry) for entry in entries if entry.get("type") == "file"}


def open_file_system(scheme: str, options: Mapping[str, Any]) -> Any:
    """An fsspec file system; raises as `recsys.storage.file_systems.open_file_system` does."""
    return file_systems.open_file_system(scheme, options, settings="image_root and storage_options")


def _up_to(file_system: Any, path: str, n_bytes: int) -> bytes:
    try:
        return bytes(file_system.cat_file(path, start=0, end=n_bytes))
    except Exception:
        # Stores refuse a range of what is empty (416), each with an error of its own.
        if file_system.info(path).get("size") == 0:
            return b""
        raise


def _stamp_of(entry: Mapping[str, Any]) -> str | None:
    for name in (*_STAMPS, _CREATED):
        if value := entry.get(name):
            # Asking for one file and listing a folder must say the same, and libraries write times and ETags otherwise.
            value = value.timestamp() if isinstance(value, datetime) else value
            value = f"{value:.6f}" if isinstance(value, float) else str(value).strip('"')
            return f"{value}-{entry.get('size')}"
    return None


def _refusal(error: Exception, reference: str) -> Refused:
    """Every store's library has errors of its own; their names say what the standard ones do not."""
    name = type(error).__name__
    reason: Reason = "not_readable"
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        reason = "not_found"
    elif isinstance(error, PermissionError) or "Credential" in name or "Auth" in name:
        reason = "not_permitted"
    elif isinstance(error, TimeoutError) or "Timeout" in name:
        reason = "timeout"
    elif isinstance(error, ConnectionError) or "Connect" in name:
        reason = "no_connection"
    return Refused(reason, f"{reference}: {name}: {error}"[:500])


def _made(root: str, options: Mapping[str, Any], max_bytes: int) -> RemoteReader:
    return RemoteReader(root, options, max_bytes=max_bytes)
