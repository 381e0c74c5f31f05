"""An event loop in a thread of its own, so that plain threads can wait for what coroutines do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
_RESOLVING_THREADS = 32  # names resolve in threads, and one dead name server must not hold up the other names


class LoopThread:
    """Runs from its construction until `close`."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.SelectorEventLoop()  # the one whose reads go through the socket: see meter.py
        self._executor = ThreadPoolExecutor(_RESOLVING_THREADS, thread_name_prefix=f"{name}-dns")
        self._loop.set_default_executor(self._executor)
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` in the loop and wait for it, from any other thread. Raises what it raises."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """End what still runs, then the loop and its thread."""
        self.run(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._executor.shutdown(wait=False, cancel_futures=True)


async def _cancel_others() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
