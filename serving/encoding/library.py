"""The encoders of the releases in use: opened when first asked for, each once, and let go when newer ones came."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from embeddings.encoder import Encoder
from recsys.errors import EncoderUnavailable, RecsysError
from serving.telemetry import log

KEPT = 2
"""Releases held: the current one and the one before, while workers go over one by one."""

RETRY_S = 5.0
REMEMBERED_FAILURES = 16
ASKED_SHARE = 0.9
"""Of the time that a caller has: what it waits for encoders that are being opened, so that the refusal arrives."""


@dataclass(frozen=True)
class EncoderSource:
    """One encoder of a release, not yet opened.

    Attributes:
        key: equal for equal encoders: names the bytes of its files.
        open: verifies the files and opens them; raises ArtifactError.
    """

    key: str
    open: Callable[[], Encoder]


@dataclass(frozen=True)
class HeldRelease:
    """Encoders by modality, and the keys of their sources."""

    encoders: Mapping[str, Encoder]
    keys: Mapping[str, str]


class Library:
    """Belongs to one event loop; opening happens in a thread of its own, so that the encoders at hand go on."""

    def __init__(
        self, sources_of: Callable[[str], Mapping[str, EncoderSource]], clock: Callable[[], float], kept: int = KEPT
    ) -> None:
        """`sources_of`: release id → encoders by modality; called in the thread, raises ArtifactError."""
        self._sources_of = sources_of
        self._clock = clock
        self._kept = kept
        self._held: OrderedDict[str, HeldRelease] = OrderedDict()
        self._opening: dict[str, asyncio.Task[None]] = {}
        self._failures: OrderedDict[str, tuple[float, RecsysError]] = OrderedDict()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="open")

    @property
    def releases(self) -> tuple[str, ...]:
        """Those held, the one used last at the end."""
        return tuple(self._held)

    @property
    def n_encoders(self) -> int:
        """Encoders in memory."""
        return len({key for held in self._held.values() for key in held.keys.values()})

    def prepare(self, release_id: str) -> None:
        """Begin to open a release's encoders, where that is still to be done."""
        if release_id not in self._held and release_id not in self._opening and not self._failed_lately(release_id):
            task = asyncio.create_task(self._open(release_id))
            self._opening[release_id] = task
            task.add_done_callback(lambda _: self._opening.pop(release_id))

    async def encoders(self, release_id: str, deadline_s: float) -> Mapping[str, Encoder]:
        """The encoders of a release by modality.

        Raises:
            ArtifactError: they cannot be used; found out anew after `RETRY_S`.
            EncoderUnavailable: they are still being opened when the caller's time is nearly over.
        """
        if release_id not in self._held:
            self.prepare(release_id)
            if release_id in self._opening:
                patience_s = ASKED_SHARE * max(deadline_s - self._clock(), 0.0)
                await asyncio.wait({self._opening[release_id]}, timeout=patience_s)
            if release_id not in self._held:
                if failure := self._failed_lately(release_id):
                    raise failure.with_traceback(None)  # one error for many callers
                raise EncoderUnavailable("the release's encoders are being opened; try again in a second")
        self._held.move_to_end(release_id)
        return self._held[release_id].encoders

    async def close(self) -> None:
        """Wait for what is being opened."""
        if self._opening:
            await asyncio.wait(set(self._opening.values()))
        self._pool.shutdown(wait=False)

    async def _open(self, release_id: str) -> None:
        at_hand = {key: held.encoders[modality] for held in self._held.values() for modality, key in held.keys.items()}
        loop = asyncio.get_running_loop()
        try:
            held = await loop.run_in_executor(self._pool, _opened, self._sources_of, release_id, at_hand)
        except RecsysError as error:
            self._fail(release_id, error)
        except Exception as error:  # a bug of one release's files must not end the others' service
            log(logging.ERROR, "encoders cannot be opened", exc_info=True, release=release_id)
            self._fail(release_id, EncoderUnavailable(f"its encoders cannot be opened ({type(error).__name__})"))
        else:
            self._held[release_id] = held
            while len(self._held) > self._kept:
                self._held.popitem(last=False)
            log(logging.INFO, "encoders are open", release=release_id, modalities=sorted(held.encoders))

    def _fail(self, release_id: str, error: RecsysError) -> None:
        log(logging.ERROR, "encoders are refused", release=release_id, why=f"{type(error).__name__}: {error}")
        self._failures[release_id] = (self._clock(), error)
        self._failures.move_to_end(release_id)
        while len(self._failures) > REMEMBERED_FAILURES:
            self._failures.popitem(last=False)

    def _failed_lately(self, release_id: str) -> RecsysError | None:
        at_s, error = self._failures.get(release_id, (0.0, None))
        return error if error is not None and self._clock() - at_s < RETRY_S else None


def _opened(
    sources_of: Callable[[str], Mapping[str, EncoderSource]], release_id: str, at_hand: Mapping[str, Encoder]
) -> HeldRelease:
    """A release's encoders; those `at_hand` by key are not opened again."""
    sources = sources_of(release_id)
    return HeldRelease(
        {modality: at_hand.get(source.key) or source.open() for modality, source in sources.items()},
        {modality: source.key for modality, source in sources.items()},
    )
