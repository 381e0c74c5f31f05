"""A request's trace is known to the worker that answered it. On one host the workers ask each other, over a Unix
socket each in the folder that they share: one line with the recommendation_id, answered with the trace's JSON or with
nothing.

Nothing is written while requests are answered. Between hosts nobody asks: a fleet needs sticky routing for this
address, or a try on each host.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote, unquote

from serving.telemetry import log

ANSWER_S = 0.5
MAX_ANSWER_BYTES = 16 << 20
MAX_LINE_BYTES = 4096
Rendered = Callable[[str], bytes | None]


class TracePeers:
    """The workers of this host, as one of them asks for a trace."""

    def __init__(self, rendered: Rendered, folder: Path | None = None, own: Path | None = None) -> None:
        """`rendered` gives a trace that this worker knows; without `folder` there are no others."""
        self._rendered = rendered
        self._folder = folder
        self._own = own

    async def find(self, recommendation_id: str) -> bytes | None:
        """The trace's JSON from the worker that knows it; None where none does (or answers in time)."""
        found = self._rendered(recommendation_id)
        if found is not None or self._folder is None:
            return found
        others = [path for path in self._folder.glob("traces-*.sock") if path != self._own]
        answers = await asyncio.gather(*(_asked(path, recommendation_id) for path in others))
        return next((answer for answer in answers if answer), None)


@asynccontextmanager
async def answering_peers(rendered: Rendered, folder: Path | None, name: str) -> AsyncIterator[TracePeers]:
    """Inside the block this worker, known as `name`, answers the others; it can ask them with what it is given.

    Where no socket can be made (the folder's path is too long for one), it asks and answers nobody.
    """
    if folder is None:
        yield TracePeers(rendered)
        return
    own = folder / f"traces-{name}.sock"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                line = await reader.readline()
                writer.write(rendered(unquote(line.decode().strip())) or b"")
                await writer.drain()
        except (OSError, ValueError, TimeoutError):
            pass  # whoever asked has left, and asks again or not
        finally:
            writer.close()

    try:
        server = await asyncio.start_unix_server(answer, own, limit=MAX_LINE_BYTES)
    except OSError as error:
        log(logging.WARNING, "traces of other workers cannot be looked up", why=f"{type(error).__name__}: {error}")
        yield TracePeers(rendered)
        return
    try:
        yield TracePeers(rendered, folder, own)
    finally:
        server.close()
        own.unlink(missing_ok=True)


async def _asked(path: Path, recommendation_id: str) -> bytes | None:
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write(quote(recommendation_id, safe="").encode() + b"\n")
                answer = await reader.read(MAX_ANSWER_BYTES)
                while part := await reader.read(MAX_ANSWER_BYTES):
                    answer += part
                return answer
            finally:
                writer.close()
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)  # its worker was killed
    except (OSError, TimeoutError):
        pass  # it is ending, or too busy to say
    return None
