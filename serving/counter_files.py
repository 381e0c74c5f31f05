"""Where the workers of one service keep their numbers, so that any of them answers a scrape for all.

Each worker writes a file of its own, whole and renamed into place. What a worker counted outlives it: its file stays,
and the next worker that starts adds the files of those that ended together in one.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from serving.counters import Labels, Snapshot

ENDED = "counters-ended.bin"
_DECODER = msgspec.msgpack.Decoder(Snapshot)


@dataclass(frozen=True)
class CounterFiles:
    """The files in `folder`, as one worker (`pid`, and a `token` that no other process with that pid had) uses them."""

    folder: Path
    pid: int
    token: str

    @property
    def _own(self) -> Path:
        return self.folder / f"counters-{self.pid}-{self.token}.bin"

    def write(self, snapshot: Snapshot) -> None:
        """Raises OSError."""
        _write(self._own, snapshot)

    def others(self) -> tuple[Sequence[Snapshot], Sequence[Snapshot]]:
        """The last numbers of the other workers: those that live, and those that ended."""
        with self._locked(fcntl.LOCK_SH):
            living: list[Snapshot] = []
            ended: list[Snapshot] = []
            for path in self._paths():
                (living if _lives(path) else ended).append(_DECODER.decode(path.read_bytes()))
            if (self.folder / ENDED).exists():
                ended.append(_DECODER.decode((self.folder / ENDED).read_bytes()))
            return living, ended

    def fold_ended(self) -> None:
        """Add up what ended workers left, so that restarts leave no files behind. Raises OSError."""
        with self._locked(fcntl.LOCK_EX):
            gone = [path for path in self._paths() if not _lives(path)]
            if not gone:
                return
            parts = [_DECODER.decode(path.read_bytes()) for path in gone]
            total = self.folder / ENDED
            if total.exists():
                parts.append(_DECODER.decode(total.read_bytes()))
            _write(total, added(parts))
            for path in gone:
                path.unlink()

    def _paths(self) -> list[Path]:
        found = self.folder.glob("counters-*-*.bin")
        return sorted(path for path in found if path not in (self._own, self.folder / ENDED))

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        """A reader must not see a file and, a moment later, the sum that holds it already."""
        with (self.folder / "counters.lock").open("ab") as lock:
            fcntl.flock(lock, kind)
            yield


def added(snapshots: Sequence[Snapshot]) -> Snapshot:
    """One snapshot with the sums of all."""
    counts: dict[str, dict[Labels, float]] = {}
    histograms: dict[str, dict[Labels, tuple[list[int], float]]] = {}
    for snapshot in snapshots:
        for name, children in snapshot.counts.items():
            sums = counts.setdefault(name, {})
            for labels, value in children:
                sums[labels] = sums.get(labels, 0) + value
        for name, observed in snapshot.histograms.items():
            all_observed = histograms.setdefault(name, {})
            for labels, buckets, total in observed:
                before, total_before = all_observed.get(labels, ([0] * len(buckets), 0.0))
                sum_of = [a + b for a, b in zip(before, buckets, strict=True)]
                all_observed[labels] = (sum_of, total_before + total)
    return Snapshot(
        {name: list(children.items()) for name, children in counts.items()},
        {name: [(labels, *each) for labels, each in children.items()] for name, children in histograms.items()},
    )


def _write(path: Path, snapshot: Snapshot) -> None:
    partial = path.with_suffix(".partial")
    partial.write_bytes(msgspec.msgpack.encode(snapshot))
    partial.replace(path)


def _lives(path: Path) -> bool:
    pid = int(path.name.split("-")[1])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
