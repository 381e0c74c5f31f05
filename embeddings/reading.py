"""Where contents come from: a reference of the catalogue → the bytes that it names."""

from __future__ import annotations

from typing import Protocol


class ContentReader(Protocol):
    """Reads what references name: paths, URLs, members of Parquet and tar files.

    Safe from many threads. It can be pickled (connections are opened where they are first used), because engines send
    it to other processes and machines.
    """

    def stamp(self, reference: str) -> str | None:
        """What changes when the content does and is cheap to ask for: size and modification time, an ETag.

        None where that cannot be told: then the content has to be read. Never raises.
        """

    def read(self, reference: str) -> bytes:
        """The whole content. Raises embeddings.refused.Refused."""

    def close(self) -> None:
        """Let go of connections and files."""
