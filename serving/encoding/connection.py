"""One pipelined connection to the encoder process: made when first needed, and anew after it broke."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import msgspec

from recsys.errors import EncoderUnavailable
from serving.encoding.breaker import HangBreaker
from serving.encoding.protocol import Cancel, Reply, Request, framed, read_frame, reply_in

MAX_UNSENT_BYTES = 32 << 20
"""What the process has not read yet; more is refused rather than kept."""

MAX_REPLY_BYTES = 1 << 20
CONNECT_AGAIN_S = 0.05


class Connection:
    """Belongs to one event loop, whose clock is the monotonic one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._breaker = HangBreaker(time.monotonic)
        self._ids = count(1)
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._listener: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()

    async def ask(self, request: Callable[[int], Request], deadline_s: float, *, patient: bool) -> Reply:
        """The reply to the request that `request` makes with an id.

        Args:
            deadline_s: on the monotonic clock.
            patient: where nobody listens, try again until then; else say so at once.

        Raises:
            EncoderUnavailable: there is no process, it ended, or it said nothing in time.
        """
        self._breaker.require_open()
        started_s = time.monotonic()
        request_id = next(self._ids)
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout_at(deadline_s):
                await self._connect(patient=patient)
                self._waiting[request_id] = answer
                self._send(request(request_id))
                return await answer
        except TimeoutError:
            waited_s = time.monotonic() - started_s
            self._breaker.note_wait_in_vain(waited_s)
            self._give_up(request_id)
            raise EncoderUnavailable(f"the encoder process gave no answer in {waited_s * 1000:.0f} ms") from None
        except asyncio.CancelledError:
            self._give_up(request_id)
            raise
        finally:
            self._waiting.pop(request_id, None)

    async def tell(self, request: Request, deadline_s: float) -> None:
        """Send what has no reply, once somebody listens. Raises EncoderUnavailable."""
        try:
            async with asyncio.timeout_at(deadline_s):
                await self._connect(patient=True)
        except TimeoutError:
            raise EncoderUnavailable("the encoder process does not listen") from None
        self._send(request)

    async def close(self) -> None:
        """Who still waits is told that there is no process."""
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.wait({self._listener})

    async def _connect(self, *, patient: bool) -> None:
        while self._writer is None:
            async with self._connecting:
                if self._writer is not None:
                    return
                try:
                    reader, self._writer = await asyncio.open_unix_connection(self._path)
                    self._listener = asyncio.create_task(self._listen(reader, self._writer))
                    return
                except OSError as error:
                    if not patient:
                        raise EncoderUnavailable(
                            "no encoder process listens now; the service starts it again by itself"
                        ) from error
            await asyncio.sleep(CONNECT_AGAIN_S)

    def _send(self, request: Request) -> None:
        writer = self._writer
        if writer is None:
            raise EncoderUnavailable("the encoder process ended; the service starts it again by itself")
        if writer.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            raise EncoderUnavailable("the encoder process does not read what it is sent")
        writer.write(framed(request))

    def _give_up(self, request_id: int) -> None:
        if request_id in self._waiting and self._writer is not None:
            self._writer.write(framed(Cancel(request_id)))

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (message := await read_frame(reader, MAX_REPLY_BYTES)) is not None:
                self._breaker.note_sign_of_life()
                reply = reply_in(message)
                answer = self._waiting.get(reply.id)
                if answer is not None and not answer.done():
                    answer.set_result(reply)
        except (ValueError, msgspec.MsgspecError):
            pass  # what answers there is not ours: as good as none
        finally:
            self._writer = None
            writer.close()
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(EncoderUnavailable("the encoder process ended while it was asked; try again"))
