"""Contents in local folders: regular files below a root, whatever links and races lead elsewhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from embeddings.refused import Refused
from embeddings.sources.os_errors import refusal
from recsys.errors import EnvironmentProblem

_PIECE_BYTES = 1 << 20


class FolderReader:
    """A ContentReader of paths relative to `base`.

    Args:
        base: what references are relative to.
        roots: the folders that files must really lie in, links followed.
        max_bytes: of one file.
    """

    def __init__(self, base: Path, roots: Sequence[Path], *, max_bytes: int) -> None:
        self._base = base
        self._roots = tuple(roots)
        self._max_bytes = max_bytes
        self._real_roots: tuple[str, ...] | None = None

    def stamp(self, reference: str) -> str | None:
        """Size, both times and number of the file: a copy that keeps the first two has other ones."""
        try:
            status = os.stat(self._base / reference)
        except (OSError, ValueError):
            return None
        return (
            f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_ino}"
            if stat.S_ISREG(status.st_mode)
            else None
        )

    def read(self, reference: str) -> bytes:
        """The whole file.

        Raises:
            Refused: `not_found`, `not_permitted`, `outside_root`, `not_readable`, `too_large`.
        """
        try:
            # O_PATH finds the file without opening it: a pipe cannot make us wait, nor a device do anything. All
            # that follows is about the file found, whatever its name leads to by then.
            found = os.open(self._base / reference, os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            raise refusal(error, reference) from None
        except ValueError:
            raise Refused("not_found", f"{reference!r} is not a path") from None
        try:
            self._check(found, reference)
            return self._read(found, reference)
        except OSError as error:
            raise refusal(error, reference) from None
        finally:
            os.close(found)

    def close(self) -> None:
        """There is nothing to let go of."""

    def _check(self, found: int, reference: str) -> None:
        try:
            real = os.readlink(f"/proc/self/fd/{found}")
        except FileNotFoundError:
            raise EnvironmentProblem("/proc is not there: files cannot be read safely without it, mount it") from None
        if not any(real.startswith(root) for root in self._allowed()):
            message = f"{reference} really lies at {real}, outside the folder: move it there, or set image_root"
            raise Refused("outside_root", f"{message} under [data]")
        status = os.fstat(found)
        if not stat.S_ISREG(status.st_mode):
            raise Refused("not_readable", f"{reference} is not a regular file")
        if status.st_size > self._max_bytes:
            raise self._too_large(reference)

    def _read(self, found: int, reference: str) -> bytes:
        descriptor = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
        with open(descriptor, "rb", buffering=0) as stream:
            content = bytearray()
            while piece := stream.read(min(_PIECE_BYTES, self._max_bytes + 1 - len(content))):
                content += piece
        if len(content) > self._max_bytes:  # it grew
            raise self._too_large(reference)
        return bytes(content)

    def _too_large(self, reference: str) -> Refused:
        return Refused("too_large", f"{reference} has more than {self._max_bytes} bytes (max_bytes under [sources])")

    def _allowed(self) -> tuple[str, ...]:
        if self._real_roots is None:
            self._real_roots = tuple(os.path.realpath(root).rstrip("/") + "/" for root in self._roots)
        return self._real_roots
