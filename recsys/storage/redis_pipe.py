"""One connection to Redis for one event loop, kept open: many questions under way at once, answered in order.

Redis answers in the order it was asked, so an answer belongs to the oldest question without one. That must hold
whatever callers do: a question that was cancelled or ran out of time keeps its place, and its answer is dropped. And it
must hold when something on the way loses bytes: behind each question goes an ECHO of its number, and an answer counts
once that number has come back. What breaks the order (another number, an answer nobody asked for, half an answer,
silence) ends the connection and everything waiting on it, and a new connection starts with nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, cast

import hiredis

from recsys.errors import StoreUnavailable
from recsys.storage.redis_address import START_IT, RedisAddress, advice_on

CONNECT_TIMEOUT_S = 0.25  # for the connection, and again for the first answers on it
FIRST_BACKOFF_S = 0.02
MAX_BACKOFF_S = 0.5
MAX_WAITING = 4096
_STEADY_S = 1.0  # a connection that lived shorter is followed by a pause, as a failed one is
_TICK_S = 0.25
_SILENT_TICKS = 3  # in a row, each with questions waiting and no answer since the last: over 0.5 s of silence
_MORE = object()
_LISTEN_S = 0.001  # beyond a time limit: at least one more look at what has come

# The words of one command as bytes to send. (hiredis's own stub knows commands of one word only.)
pack_command: Callable[[tuple[str | bytes, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]


class RedisPipe:
    """Asks one server over one connection, which is opened at the first question and replaced when it breaks."""

    def __init__(self, address: RedisAddress) -> None:
        """Asks nothing yet; belongs to the event loop that asks first."""
        self._address = address
        self._link: _Link | None = None
        self._failure: StoreUnavailable | None = None  # of the last attempt to connect
        self._attempted = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._closed = False

    def ask(self, command: bytes, timeout_s: float) -> Awaitable[Any]:
        """The reply to one packed command (`pack_command`), as hiredis reads it.

        While the server is known to be away this fails at once; while a first attempt to reach it is under way, it
        waits for that.

        Raises:
            StoreUnavailable: no answer in time, no connection, or the server's own error.
        """
        link = self._link
        if link is not None:
            return link.ask(command, timeout_s)
        return self._ask_when_linked(command, timeout_s)

    async def _ask_when_linked(self, command: bytes, timeout_s: float) -> Any:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        if self._closed:
            raise StoreUnavailable(f"the connection to Redis at {self._address} was closed; open it again")
        if self._keeper is None:
            self._keeper = loop.create_task(self._keep())
        if self._failure is None:
            try:
                await asyncio.wait_for(self._attempted.wait(), timeout_s)
            except TimeoutError:
                raise _too_slow(self._address, timeout_s) from None
        link = self._link
        if link is None:
            raise _again(self._failure, self._address)
        return await link.ask(command, deadline - loop.time())

    async def _keep(self) -> None:
        """Connect, and connect again whenever the connection is lost, until closed."""
        loop = asyncio.get_running_loop()
        backoff_s = FIRST_BACKOFF_S
        while True:
            try:
                link = await self._connect()
            except StoreUnavailable as error:
                self._failure = error
                self._attempted.set()
            else:
                self._failure, self._link = None, link
                self._attempted.set()
                since = loop.time()
                await link.lost
                self._link = None
                self._attempted.clear()
                if loop.time() - since >= _STEADY_S:
                    backoff_s = FIRST_BACKOFF_S
                    continue
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)

    async def _connect(self) -> _Link:
        """A connection that has answered. Raises StoreUnavailable."""
        loop = asyncio.get_running_loop()
        address = self._address
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                if address.unix_path:
                    _, link = await loop.create_unix_connection(lambda: _Link(loop, address), address.unix_path)
                else:
                    _, link = await loop.create_connection(lambda: _Link(loop, address), address.host, address.port)
        except TimeoutError:
            raise _too_slow(address, CONNECT_TIMEOUT_S) from None
        except (OSError, UnicodeError) as error:
            raise StoreUnavailable(f"Redis at {address}: {error}. {START_IT}") from error
        try:
            await asyncio.gather(*(link.ask(command, CONNECT_TIMEOUT_S) for command in _greeting(address)))
        except BaseException:
            link.abort("it did not take our greeting")
            raise
        return link

    async def close(self) -> None:
        """End the connection; whoever waits gets StoreUnavailable."""
        self._closed = True
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
        link, self._link = self._link, None
        if link is not None:
            link.abort("it was closed here")
        self._failure = self._failure or StoreUnavailable(f"the connection to Redis at {self._address} was closed")
        self._attempted.set()


class _Link(asyncio.Protocol):
    """One connection while it lives.

    Attributes:
        lost: done when the connection is of no more use.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, address: RedisAddress) -> None:
        self.lost: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._address = address
        self._waiting: deque[tuple[asyncio.Future[Any], asyncio.TimerHandle, bytes]] = deque()
        self._held: Any = _MORE  # an answer whose number has not come yet
        self._n_questions = 0
        self._reader = hiredis.Reader(notEnoughData=_MORE)
        self._transport: asyncio.Transport | None = None
        self._broken: StoreUnavailable | None = None
        self._choked = False
        self._n_answers = 0
        self._n_answers_at_tick = 0
        self._silent_ticks = 0
        self._tick: asyncio.TimerHandle | None = None

    def ask(self, command: bytes, timeout_s: float) -> asyncio.Future[Any]:
        """See `RedisPipe.ask`."""
        if self._broken is not None or self._transport is None:
            raise _again(self._broken, self._address)
        if self._choked or len(self._waiting) >= MAX_WAITING:
            raise StoreUnavailable(f"Redis at {self._address} is behind with {len(self._waiting)} answers; ask less")
        future: asyncio.Future[Any] = self._loop.create_future()
        timer = self._loop.call_later(timeout_s, self._expire, future, timeout_s)
        self._n_questions += 1
        number = b"%d" % self._n_questions
        self._waiting.append((future, timer, number))
        if self._tick is None:
            self._n_answers_at_tick, self._silent_ticks = self._n_answers, 0
            self._tick = self._loop.call_later(_TICK_S, self._on_tick)
        self._transport.write(b"%b*2\r\n$4\r\nECHO\r\n$%d\r\n%b\r\n" % (command, len(number), number))
        return future

    def _expire(self, future: asyncio.Future[Any], timeout_s: float) -> None:
        # A busy loop looks at its timers before it listens: the answer may be here already.
        if not future.done():
            self._loop.call_later(_LISTEN_S, self._give_up, future, timeout_s)

    def _give_up(self, future: asyncio.Future[Any], timeout_s: float) -> None:
        if not future.done():  # its place in the line stays, for the answer that is still to come
            future.set_exception(_too_slow(self._address, timeout_s))

    def _on_tick(self) -> None:
        """Counted in ticks, not by the clock: a loop that stalled itself has not listened meanwhile."""
        self._tick = None
        if not self._waiting or self._broken is not None:
            return
        silent = self._n_answers == self._n_answers_at_tick
        self._silent_ticks = self._silent_ticks + 1 if silent else 0
        self._n_answers_at_tick = self._n_answers
        if self._silent_ticks >= _SILENT_TICKS:
            self.abort(f"it has not answered for over {(_SILENT_TICKS - 1) * _TICK_S:g} s")
            return
        self._tick = self._loop.call_later(_TICK_S, self._on_tick)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        if self._broken is not None:
            return
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _MORE:
                if not self._waiting:
                    self.abort("it answered what nobody asked")
                    return
                if self._held is _MORE:
                    self._held = reply
                    continue
                answer, self._held = self._held, _MORE
                if not self._answer(answer, reply):
                    self.abort("it answers another question than the one that was asked")
                    return
        except hiredis.ProtocolError as error:
            self.abort(f"its answer is not whole ({error})")

    def _answer(self, answer: Any, echo: Any) -> bool:
        """Hand the oldest question its answer; False where it is another question's. Errors are like for all."""
        future, timer, number = self._waiting[0]
        error = next((each for each in (answer, echo) if isinstance(each, hiredis.ReplyError)), None)
        if echo != number and not isinstance(echo, hiredis.ReplyError):
            return False
        self._waiting.popleft()
        timer.cancel()
        self._n_answers += 1
        if future.done():
            return True
        if error is None:
            future.set_result(answer)
        else:
            words = str(error).rstrip(".")
            future.set_exception(StoreUnavailable(f"Redis at {self._address}: {words}. {advice_on(words)}"))
        return True

    def pause_writing(self) -> None:
        """Called by the loop: the server takes nothing more for now."""
        self._choked = True

    def resume_writing(self) -> None:
        """Called by the loop."""
        self._choked = False

    def eof_received(self) -> None:
        """Called by the loop, which then closes."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self._end(f"it ended the connection ({exc or 'without a word'})")

    def abort(self, why: str) -> None:
        """End it now; everything waiting gets StoreUnavailable."""
        self._end(why)
        if self._transport is not None:
            self._transport.abort()

    def _end(self, why: str) -> None:
        if self._broken is not None:
            return
        self._broken = StoreUnavailable(f"Redis at {self._address}: {why}. {START_IT}")
        if self._tick is not None:
            self._tick.cancel()
        for future, timer, _ in self._waiting:
            timer.cancel()
            if not future.done():
                future.set_exception(_again(self._broken, self._address))
        self._waiting.clear()
        if not self.lost.done():
            self.lost.set_result(None)


def _greeting(address: RedisAddress) -> list[bytes]:
    """Log in, choose the database, and hear an answer: who accepts connections may still be a hole."""
    commands: list[tuple[str | bytes, ...]] = []
    if address.password is not None:
        login = (address.username, address.password) if address.username else (address.password,)
        commands.append(("AUTH", *login))
    if address.database:
        commands.append(("SELECT", str(address.database)))
    commands.append(("GET", f"{address.namespace}:log-id"))  # unlike PING, refused while the data is being read
    return [pack_command(command) for command in commands]


def _too_slow(address: RedisAddress, timeout_s: float) -> StoreUnavailable:
    return StoreUnavailable(
        f"Redis at {address} did not answer in {timeout_s:.3g} s; see whether it is stuck, swapping or far away"
    )


def _again(failure: StoreUnavailable | None, address: RedisAddress) -> StoreUnavailable:
    """An error of its own for each caller: a raised one grows a traceback with every raise."""
    return StoreUnavailable(str(failure) if failure is not None else f"Redis at {address} is being reconnected")
