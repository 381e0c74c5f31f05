"""References to bytes in memory, for jobs that read without files; counts what it is asked."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from embeddings.refused import Refused


class InMemoryReader:
    """`embeddings.reading.ContentReader` over a mapping; a Refused in it is raised.

    Attributes:
        stamps: reference → stamp; without one it has to be read each time.
        n_reads: how often contents were read.
    """

    def __init__(self, contents: Mapping[str, bytes | Refused], stamps: Mapping[str, str] | None = None) -> None:
        self.contents = dict(contents)
        self.stamps = dict(stamps or {})
        self.n_reads = 0
        self._lock = threading.Lock()

    def stamp(self, reference: str) -> str | None:
        return self.stamps.get(reference)

    def read(self, reference: str) -> bytes:
        with self._lock:
            self.n_reads += 1
        content = self.contents.get(reference)
        if content is None:
            raise Refused("not_found", f"there is no {reference}")
        if isinstance(content, Refused):
            raise content
        return content

    def close(self) -> None:
        return None
