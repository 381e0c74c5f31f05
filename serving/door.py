"""The door: where a lane is full, a request is turned away before it is parsed, by its bytes alone.

Parsing a request and calling an application costs more than the refusal itself, and in an overload most of what comes
is refused. Only a request that came whole and alone, with a head that no two parsers read differently, is judged here;
any other goes the usual way, where the parser may find it malformed and the envelope turns it away in the same words.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from recsys.errors import Overloaded
from serving.errors import of_request_error
from serving.operations import Operation
from serving.telemetry import Telemetry
from serving.work import Admission

# Where the lifespan state of the application carries its `TurnAway`.
TURN_AWAY = "recsys.turn_away"
FULL = of_request_error(Overloaded("too many requests are in work or waiting; try again in a second"))

_LONGEST_LINE = 256
# A head without a line that parsers read in more than one way.
_PLAIN = re.compile(
    rb"[A-Z]+ /[A-Za-z0-9\-._~%!$&'()*+,;=:@/?]* HTTP/1\.1"
    rb"(?:\r\n[A-Za-z0-9!#$%&'*+\-.^_`|~]+:[\t\x20-\x7e\x80-\xff]*)*"
)
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*(?:\r\n|\Z)")
_UNUSUAL = re.compile(
    rb"\r\n(?:transfer-encoding|expect|upgrade|(?:proxy-)?connection:(?![ \t]*keep-alive[ \t]*(?:\r\n|\Z)))"
)
_ID = re.compile(rb"\r\nx-request-id:[ \t]*([A-Za-z0-9._:/+=@-]{1,128})[ \t]*(?:\r\n|\Z)", re.IGNORECASE)
_HEADERS = b"".join(b"%b: %b\r\n" % (name, value) for name, value in FULL.raw_headers)
_BODY = bytes(FULL.body)


class TurnAway:
    """From the bytes of a request to those of its refusal."""

    def __init__(self, operations: Iterable[Operation], admissions: Mapping[str, Admission], telemetry: Telemetry):
        """`operations`: at plain paths; those without a lane in `admissions` are never turned away."""
        self._telemetry = telemetry
        self._lanes = {
            f"{each.method} {each.path}".encode(): (each.path, admissions[each.lane])
            for each in operations
            if each.lane in admissions
        }

    def __call__(self, data: bytes, default_headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
        """429 for a request whose lane is full; None where there is room, or where `data` is not one whole plain
        request. `default_headers` begin the reply."""
        started = time.perf_counter()
        target = data[: data.find(b" HTTP/1.1\r\n", 0, _LONGEST_LINE)]
        at = self._lanes.get(target.partition(b"?")[0])
        if at is None or at[1].n < at[1].most:
            return None
        head = data[: data.find(b"\r\n\r\n")]
        if not _is_whole(head, len(data)):
            return None
        telemetry = self._telemetry
        telemetry.request(at[0], 429, time.perf_counter() - started)
        telemetry.shed(429)
        named = _ID.search(head)
        request_id = named[1] if named else os.urandom(16).hex().encode()
        first = b"".join([b"%b: %b\r\n" % header for header in default_headers])
        return b"%b%b%bx-request-id: %b\r\n\r\n%b" % (STATUS_LINE[429], first, _HEADERS, request_id, _BODY)


def _is_whole(head: bytes, n_bytes: int) -> bool:
    """Whether this many bytes are one request with this head, all of it and nothing after it, whose end is told by its
    length alone."""
    low = head.lower()
    if not _PLAIN.fullmatch(head) or _UNUSUAL.search(low):
        return False
    n_lengths, length = low.count(b"\r\ncontent-length"), _LENGTH.search(low)
    if not n_lengths:
        return n_bytes == len(head) + 4
    return n_lengths == 1 and length is not None and n_bytes == len(head) + 4 + int(length[1])


class Door(HttpToolsProtocol):
    """Uvicorn's protocol with a `TurnAway` before its parser, where the application's state holds one."""

    _is_between = True  # two requests: what comes next begins one

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        turn_away = self.app_state.get(TURN_AWAY)
        if turn_away is not None and self._begins():
            reply = turn_away(data, self.server_state.default_headers)
            if reply is not None:
                self.transport.write(reply)
                self._unset_keepalive_if_required()
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )
                return
        super().data_received(data)

    def _begins(self) -> bool:
        """Whether what comes now begins a request, on a connection that takes its reply at once."""
        is_answered = self.cycle is None or self.cycle.response_complete
        return self._is_between and is_answered and not self.flow.write_paused and not self.transport.is_closing()

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self._is_between = False
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._is_between = True
        super().on_message_complete()
