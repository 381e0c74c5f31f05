"""From the spool to the store: in batches, each once, also when the process is killed between two steps.

The store keeps, with each batch, up to which byte it has a spool; a batch that it has already is not stored again. A
file is removed when the store has it whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from threading import Event, Lock, Thread
from time import thread_time

from recsys.errors import StoreUnavailable
from recsys.events import Exposure, SpoolRange
from recsys.ports import EventLog
from recsys.storage.atomic import TEMPORARY_PREFIX
from recsys.storage.records import unpack_exposure
from recsys.storage.spool import Spool, SpoolFile, left_files, read_records

INTERVAL_S = 0.25
_MAX_PAUSE_S = 1.0
BATCH = 25
PAUSES = 9.0
"""Times what a batch took of the processor, between two in the background: requests wait for one batch at most."""
HURRY_BYTES = 8 * 2**20
"""So much waits in this spool after the store was away: then without pauses."""


@dataclass(frozen=True, slots=True)
class Drained:
    """What a drainer has done so far.

    Attributes:
        n_stored: exposures that the store took.
        n_dropped: exposures of users who were erased after them.
        n_torn: records cut off by the end of their process, and those that no version of ours wrote.
        failure: why the last try failed; "" when it did not.
    """

    n_stored: int = 0
    n_dropped: int = 0
    n_torn: int = 0
    failure: str = ""


class Drainer:
    """Takes a process's spool to the store, and the spools of processes that have ended."""

    def __init__(
        self,
        spool: Spool,
        store: EventLog,
        *,
        interval_s: float = INTERVAL_S,
        served_keep_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """
        Args:
            interval_s: between two rounds. An exposure is in the store after about that and the round's own time,
                which is ten times what it takes of the processor.
            served_keep_s: as it is now; see `EventLog.append_exposures`.
        """
        self._spool, self._store = spool, store
        self._interval_s, self._served_keep_s = interval_s, served_keep_s
        self._until = 0  # of this process's spool
        self._done = Drained()
        self._turn = Lock()
        self._stopping = Event()
        self._n_waiting, self._somebody_waits, self._counting = 0, Event(), Lock()
        self._thread: Thread | None = None

    @property
    def done(self) -> Drained:
        """What was done so far; a snapshot."""
        return self._done

    def start(self) -> None:
        """Drain in a thread, until `stop`."""
        self._thread = Thread(target=self.run, name="spool-drainer", daemon=True)
        self._thread.start()

    def run(self) -> None:
        """Drain every `interval_s`, less often while the store is away, until `stop`."""
        pause_s = self._interval_s
        while not self._stopping.wait(pause_s):
            try:
                self._drain(is_paced=True)
                pause_s = self._interval_s
            except StoreUnavailable:
                pause_s = min(2 * pause_s, _MAX_PAUSE_S)

    def stop(self) -> None:
        """End the thread and try once more; what the store does not take stays in the spool."""
        self._stopping.set()
        with self._hurried():
            if self._thread is not None:
                self._thread.join()
            with suppress(StoreUnavailable):  # `done` names it
                self.drain_now()

    def drain_now(self) -> Drained:
        """Take all that is spooled now to the store, without pauses.

        Raises:
            StoreUnavailable: the store, or the disk, does not answer; nothing is lost.
        """
        with self._hurried():
            return self._drain(is_paced=False)

    @contextmanager
    def _hurried(self) -> Iterator[None]:
        """A round that is under way makes no pauses meanwhile."""
        with self._counting:
            self._n_waiting += 1
            self._somebody_waits.set()
        try:
            yield
        finally:
            with self._counting:
                self._n_waiting -= 1
                if not self._n_waiting:
                    self._somebody_waits.clear()

    def _drain(self, *, is_paced: bool) -> Drained:
        with self._turn:
            try:
                self._spool.look_at_others()
                self._drain_own(is_paced)
                self._drain_left(all_files=not is_paced)
            except (StoreUnavailable, OSError) as error:
                self._done = replace(self._done, failure=str(error))
                if isinstance(error, OSError):
                    raise StoreUnavailable(f"the spool {self._spool.folder}: {error}. See its disk") from error
                raise
            self._done = replace(self._done, failure="")
            return self._done

    def _drain_own(self, is_paced: bool) -> None:
        files = self._spool.files()
        end = files[-1].end if files else 0
        for file in files:
            hurry_until = end - HURRY_BYTES if is_paced else end
            at = self._until - file.start
            self._until = max(self._until, self._drain_file(self._spool.spool_id, file, at, hurry_until))
            self._spool.forget(self._until)

    def _drain_left(self, *, all_files: bool) -> None:
        """What processes left that have ended: all of it, or one file, so that what is new does not wait for long."""
        for folder in self._spool.folder.iterdir():
            if folder.name == self._spool.spool_id or folder.name.startswith(TEMPORARY_PREFIX):
                continue
            with left_files(folder) as files:
                for file in files or ():
                    self._drain_file(folder.name, file, 0, file.end)
                    file.path.unlink()
                    if not all_files:
                        return
                if files is not None:
                    with suppress(OSError):  # somebody removed it first, or keeps other files there
                        folder.rmdir()

    def _drain_file(self, spool_id: str, file: SpoolFile, at: int, hurry_until: int) -> int:
        """From byte `at` of the file to its end; the byte of the spool up to which the store has it then. Pauses begin
        at byte `hurry_until` of the spool."""
        at = max(at, 0)
        while at < file.size:
            began_s = thread_time()
            records = read_records(file, at, BATCH)
            if records.torn:
                self._count(n_torn=1)
                return file.end
            exposures = self._unpacked(records.payloads)
            place = SpoolRange(spool_id, file.start + at, file.start + records.end)
            stored = self._store.append_exposures(exposures, place, served_keep_s=self._served_keep_s())
            self._count(n_stored=stored.n_stored, n_dropped=stored.n_dropped)
            at = min(stored.until - file.start, file.size)
            if file.start + at > hurry_until:
                self._somebody_waits.wait(PAUSES * (thread_time() - began_s))
        return file.end

    def _unpacked(self, payloads: tuple[bytes, ...]) -> list[Exposure]:
        exposures = []
        for payload in payloads:
            try:
                exposures.append(unpack_exposure(payload))
            except StoreUnavailable:  # whole, and yet no exposure: it would stand in the way for ever
                self._count(n_torn=1)
        return exposures

    def _count(self, *, n_stored: int = 0, n_dropped: int = 0, n_torn: int = 0) -> None:
        done = self._done
        self._done = replace(
            done, n_stored=done.n_stored + n_stored, n_dropped=done.n_dropped + n_dropped, n_torn=done.n_torn + n_torn
        )
