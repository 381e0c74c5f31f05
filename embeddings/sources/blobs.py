"""Fetched bytes on disk, named by their own hash. A cache: it may be deleted at any time."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from embeddings.item_text import bytes_hash
from recsys.errors import EnvironmentProblem
from recsys.storage.atomic import TEMPORARY_PREFIX


class BlobFolder:
    """`ab/<sha256>` for each content. Many processes may share one: the same name always means the same bytes.

    Nothing is synced to the disk, because every read checks the hash: what a power failure spoils is fetched again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, content: bytes) -> str:
        """Keep the bytes; their sha256 in hex.

        Raises:
            EnvironmentProblem: the disk is full or fails.
        """
        name = bytes_hash(content)
        path = self._path(name)
        try:
            if _size(path) == len(content):
                return name
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
            try:
                with os.fdopen(descriptor, "wb") as stream:
                    stream.write(content)
                os.chmod(temporary, 0o644)
                os.replace(temporary, path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            message = (
                f"{self._folder} cannot be written ({error.strerror}): make room there, or set keep_fetched = false"
            )
            raise EnvironmentProblem(f"{message} under [sources]") from None
        return name

    def read(self, name: str) -> bytes | None:
        """The bytes of that name; None where they are not there or not whole."""
        try:
            content = self._path(name).read_bytes()
        except OSError:
            return None
        if bytes_hash(content) != name:
            self._path(name).unlink(missing_ok=True)
            return None
        return content

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
