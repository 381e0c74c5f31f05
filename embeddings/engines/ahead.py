"""An iterator that runs ahead of its consumer in a thread of its own, so that neither waits for the other."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")
_LOOK_UP_S = 0.2


@dataclass(frozen=True)
class _End:
    """No more comes; because of `error`, where there is one."""

    error: BaseException | None


class Ahead(Generic[T]):
    """A context manager; iterating gives what `source` gives, in order, and raises what it raises.

    Args:
        size: the most that lies ready.
    """

    def __init__(self, source: Iterable[T], size: int) -> None:
        self._source = source
        self._ready: queue.Queue[T | _End] = queue.Queue(size)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="ahead", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def __iter__(self) -> Iterator[T]:
        while True:
            each = self._ready.get()
            if isinstance(each, _End):
                if each.error is not None:
                    raise each.error
                return
            yield each

    def _work(self) -> None:
        failure: BaseException | None = None
        try:
            for each in self._source:
                if not self._put(each):
                    return
        except BaseException as error:  # raised again by the consumer
            failure = error
        self._put(_End(failure))

    def _put(self, each: T | _End) -> bool:
        """Whether anybody still wants it."""
        while not self._stopped.is_set():
            try:
                self._ready.put(each, timeout=_LOOK_UP_S)
            except queue.Full:
                continue
            return True
        return False
