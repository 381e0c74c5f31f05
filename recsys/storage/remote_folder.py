"""Files below one URL, as the release store needs them: whole objects, listings, and objects created only where there
are none. Over fsspec, with the two things it does not promise everywhere done here: an upload is seen whole or not at
all, and `create` is exclusive.

s3, gs     one request each; the condition is If-None-Match, or ifGenerationMatch = 0
file       a temporary file, renamed into place (upload) or hard-linked to its name (create)
memory     one process only, for tests; `create` takes a lock
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from recsys.errors import ConfigError, EnvironmentProblem, StoreUnavailable
from recsys.references import normal_root, url_scheme
from recsys.releases_config import SCHEMES
from recsys.storage.atomic import TEMPORARY_PREFIX, fsync_folder, place_file, write_atomic
from recsys.storage.file_systems import open_file_system

_BLOCK_BYTES = 16 << 20
_IN_MEMORY = Lock()
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
# What S3 answers, and its library raises, where a condition does not hold (412) or another writes the same key (409).
_REFUSED = frozenset({errno.EINVAL, errno.EBUSY, errno.EEXIST})
# Its library waits a minute for a host that is not there, times fifteen attempts.
_PATIENCE: Mapping[str, Any] = {"connect_timeout": 5, "read_timeout": 30, "retries": {"max_attempts": 2}}

OnBytes = Callable[[int], None]


class RemoteFolder:
    """Names are relative, with slashes. The connection is opened by the first call.

    Every method raises StoreUnavailable when the storage does not answer or says no, EnvironmentProblem when its
    library is missing, and ConfigError when its options are not understood.
    """

    def __init__(self, url: str, options: Mapping[str, Any] | None = None, *, timeout_s: float = 10.0) -> None:
        """
        Args:
            url: such as `s3://bucket/releases`.
            options: what fsspec opens the file system with.
            timeout_s: of one question; not of an upload or download.

        Raises:
            ConfigError: of the URL's kind of storage it is not known that it can create exclusively.
        """
        scheme = url_scheme(url)
        if scheme is None or scheme not in SCHEMES:
            raise ConfigError(f"releases cannot lie in {url}: see url under [releases]")
        self.url = normal_root(url)
        self._scheme = scheme
        self._is_s3 = scheme in ("s3", "s3a")
        self._options = dict(options or {})
        if self._is_s3:
            self._options["config_kwargs"] = {**_PATIENCE, **self._options.get("config_kwargs", {})}
        self._timeout_s = timeout_s
        self._opening = Lock()
        self._file_system: Any = None

    def read(self, name: str) -> bytes | None:
        """The whole object; None where there is none."""
        path = self._path(name)
        one_request = {"max_concurrency": 1} if self._is_s3 else {}  # else it asks for the size first
        data: bytes | None = self._asked(
            f"read {name}", lambda files: files.cat_file(path, **one_request, **self._in_time(files))
        )
        return data

    def size(self, name: str) -> int | None:
        """In bytes; None where there is none."""
        found = self._asked(f"look at {name}", lambda files: files.info(self._path(name), **self._in_time(files)))
        return None if found is None or found.get("type") == "directory" else int(found["size"])

    def sha256(self, name: str, size_bytes: int) -> str:
        """Of the object as it lies there, read in pieces."""
        digest = hashlib.sha256()
        for start in range(0, size_bytes, _BLOCK_BYTES):
            digest.update(self._part(name, start, min(start + _BLOCK_BYTES, size_bytes)))
        return digest.hexdigest()

    def _part(self, name: str, start: int, end: int) -> bytes:
        return (
            self._asked(f"read {name}", lambda files: bytes(files.cat_file(self._path(name), start=start, end=end)))
            or b""
        )

    def names(self, folder: str) -> list[str]:
        """What lies directly in a folder, sorted; nothing where there is no such folder."""
        path = self._path(folder)
        found = self._asked(f"list {folder}", lambda files: files.ls(path, detail=False, **self._in_time(files)))
        return sorted(name.rstrip("/").rpartition("/")[2] for name in found or () if name.strip("/") != path.strip("/"))

    def below(self, folder: str) -> list[str]:
        """All objects anywhere below a folder, relative to it, sorted."""
        path = self._path(folder)
        found = self._asked(f"list {folder}", lambda files: files.find(path, **self._in_time(files)))
        return sorted(name.strip("/").removeprefix(path.strip("/") + "/") for name in found or ())

    def write(self, name: str, data: bytes) -> None:
        """Put bytes there, over what is there. A kill leaves the old object or the new one."""
        path = self._path(name)
        if self._scheme == "file":
            self._asked(f"write {name}", lambda _: _written(Path(path), data), missing_is_none=False)
        else:
            self._asked(
                f"write {name}",
                lambda files: files.pipe_file(path, data, **self._in_time(files)),
                missing_is_none=False,
            )

    def upload(self, source: Path, name: str) -> None:
        """Put a file there, over what is there. A kill leaves the old object or the new one."""
        path = self._path(name)
        if self._scheme == "file":
            self._asked(f"write {name}", lambda _: _placed(source, Path(path)), missing_is_none=False)
        elif self._scheme == "memory":
            self.write(name, source.read_bytes())
        else:
            self._asked(f"write {name}", lambda files: files.put_file(str(source), path), missing_is_none=False)

    def download(self, name: str, target: Path, on_bytes: OnBytes) -> bool:
        """Write the object to a new file; False where there is none. `on_bytes` is told how many came so far.

        Raises:
            EnvironmentProblem: there is no room here.
        """

        def pull(files: Any) -> bool:
            if self._scheme == "memory":  # its open files share one position
                target.write_bytes(files.cat_file(self._path(name)))
            else:
                files.get_file(self._path(name), str(target), callback=_counting(on_bytes))
            return True

        return bool(self._asked(f"read {name}", pull))

    def create(self, name: str, data: bytes) -> bool:
        """Write an object where there is none, whole; False, and nothing is changed, where there is one."""
        path = self._path(name)
        if self._scheme == "file":
            return bool(self._asked(f"write {name}", lambda _: _linked_new(Path(path), data), missing_is_none=False))

        def create(files: Any) -> bool:
            try:
                files.pipe_file(path, data, mode="create", **self._in_time(files))
            except FileExistsError:
                return False
            except OSError as error:
                if self._is_s3 and error.errno in _REFUSED and files.exists(path):
                    return False
                raise
            return True

        if self._scheme != "memory":
            return bool(self._asked(f"write {name}", create, missing_is_none=False))
        with _IN_MEMORY:
            return bool(self._asked(f"write {name}", create, missing_is_none=False))

    def remove(self, name: str) -> None:
        """Nothing happens where there is none."""
        self._asked(f"remove {name}", lambda files: files.rm_file(self._path(name)))

    def _asked(self, what: str, ask: Callable[[Any], Any], *, missing_is_none: bool = True) -> Any:
        files = self._opened()
        try:
            return ask(files)
        except Exception as error:
            if missing_is_none and isinstance(error, FileNotFoundError | NotADirectoryError):
                return None
            if isinstance(error, OSError) and error.errno in _DISK_FULL:
                raise EnvironmentProblem(f"cannot {what}: {error.strerror}; make room, and try again") from None
            raise StoreUnavailable(
                f"{self.url} does not let us {what} ({type(error).__name__}: {str(error)[:300]}): check url under "
                "[releases], the network, and the credentials in the environment"
            ) from None

    def _opened(self) -> Any:
        with self._opening:
            if self._file_system is None:
                self._file_system = open_file_system(
                    self._scheme, self._options, settings="url and storage_options under [releases]"
                )
                self._root = str(self._file_system._strip_protocol(self.url)).rstrip("/")
            return self._file_system

    def _path(self, name: str) -> str:
        self._opened()
        return f"{self._root}/{name}"

    def _in_time(self, files: Any) -> dict[str, Any]:
        """What limits the time of a call, where its file system is asynchronous: fsspec itself takes `timeout`."""
        return {"timeout": self._timeout_s} if files.async_impl else {}


def _placed(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    place_file(source, target)


def _written(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, data)


def _linked_new(path: Path, data: bytes) -> bool:
    """A file that appears whole, and only where there is none: the kernel lets one of several linkers through."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.link(name, path)
    except FileExistsError:
        return False
    finally:
        Path(name).unlink(missing_ok=True)
    fsync_folder(path.parent)
    return True


def _counting(on_bytes: OnBytes) -> Any:
    from fsspec.callbacks import Callback

    return Callback(hooks={"bytes": lambda size, value, **_: on_bytes(value)})
