"""Which release is current, as a chain of records of which each is created once: the highest number is the pointer.

pointers/<generation, 12 digits>.json     {"generation", "release_id", "replaced", "at"}
pointers/exclusive                        shows that the storage really refuses to create what is there

Nothing is ever overwritten, so of two who publish at once one creates the next number and the other is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from pydantic import Field, ValidationError

from recsys.config import Config
from recsys.errors import CorruptArtifact, EnvironmentProblem
from recsys.storage.remote_folder import RemoteFolder

# Older records are removed when there are more. A reader that was away for so many finds its way by a listing.
KEPT = 100
# Asking for the next number alone is a tenth of a listing's price; now and then the listing tells what was missed.
_LIST_EVERY = 60
_NAME = re.compile(r"(\d{12})\.json")
_PROBE, _PROBE_TEXT = "pointers/exclusive", b"Storage that lets this be created twice is refused.\n"


class PointerRecord(Config):
    """One move of the pointer.

    Attributes:
        generation: 1 for the first; each later one is the next number.
        release_id: what became current.
        replaced: what was current before; None for the first, and where that could not be read.
        at: when, in UTC.
    """

    generation: int = Field(ge=1)
    release_id: str = Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z_-]{0,127}$")
    replaced: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Link:
    """A record as it lies there.

    Attributes:
        generation: its number.
        data: its bytes.
    """

    generation: int
    data: bytes

    def record(self) -> PointerRecord:
        """Raises CorruptArtifact where these bytes are no record."""
        try:
            return PointerRecord.model_validate_json(self.data)
        except ValidationError:
            raise CorruptArtifact(
                f"{_name(self.generation)} names no release: publish one again (`recsys release publish`), which "
                "writes the next record"
            ) from None


class PointerChain:
    """The chain below one URL. Every method raises as `RemoteFolder` does."""

    def __init__(self, folder: RemoteFolder, clock: Callable[[], datetime]) -> None:
        self._folder, self._clock = folder, clock
        self._known: Link | None = None
        self._asked_since_listing = 0

    def latest(self) -> Link | None:
        """The highest record; None before the first. Usually one question: whether the next number is there."""
        if self._known is None or self._asked_since_listing >= _LIST_EVERY:
            return self.listed()
        self._asked_since_listing += 1
        while (following := self._read(self._known.generation + 1)) is not None:
            self._known = following
        return self._known

    def listed(self) -> Link | None:
        """The same from a listing. An old listing does not bring an old record back."""
        self._asked_since_listing = 0
        generations = self._generations()
        known = self._known
        if known is not None and (not generations or generations[-1] <= known.generation):
            self._known = self._read(known.generation)
        for generation in reversed(generations):
            if self._known is not None and self._known.generation >= generation:
                break
            self._known = self._read(generation)
        return self._known

    def follow(self, latest: Link | None, release_id: str, replaced: str | None) -> bool:
        """Create the record after `latest`; False where somebody else did so first.

        Raises:
            EnvironmentProblem: the storage lets an object be created twice, so that nothing here could be relied on.
        """
        self._require_exclusive()
        generation = 1 if latest is None else latest.generation + 1
        record = PointerRecord(generation=generation, release_id=release_id, replaced=replaced, at=self._clock())
        data = record.model_dump_json().encode() + b"\n"
        if not self._folder.create(_name(generation), data):
            return False
        generations = self._generations()
        if generations and generations[-1] - generation >= KEPT:
            # That number had been taken, and was removed as old, while this publisher stood still.
            self._folder.remove(_name(generation))
            return False
        for old in generations:
            if old <= generation - KEPT:
                self._folder.remove(_name(old))
        return True

    def _require_exclusive(self) -> None:
        if self._folder.create(_PROBE, _PROBE_TEXT) and self._folder.create(_PROBE, _PROBE_TEXT):
            raise EnvironmentProblem(
                f"{self._folder.url} cannot hold the pointer: it overwrites where it was told to create only (S3's "
                "If-None-Match), so that two who publish at once would not notice each other; use storage that keeps "
                "to it, or a newer version of this one"
            )

    def _generations(self) -> list[int]:
        found = (_NAME.fullmatch(name) for name in self._folder.names("pointers"))
        return sorted(int(match[1]) for match in found if match)

    def _read(self, generation: int) -> Link | None:
        data = self._folder.read(_name(generation))
        return None if data is None else Link(generation, data)


def _name(generation: int) -> str:
    return f"pointers/{generation:012}.json"
