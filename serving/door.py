"""The door: where a lane is full, a request is turned away before it is parsed, by its bytes alone.

Parsing a request and calling an application costs more than the refusal itself, and in an overload most of what comes
is refused. Only a request that is whole, alone and plain is judged here; any other goes the usual way, where the
envelope turns it away in the same words.
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
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]{1,9})(?:\r\n|$)")
_UNUSUAL = re.compile(rb"\r\n(?:transfer-encoding|expect|upgrade|connection: *(?!keep-alive(?:\r\n|$)))")
_ID = re.compile(rb"\r\n[xX]-[rR]equest-[iI][dD]: *([A-Za-z0-9._:/+=@-]{1,128})(?:\r\n|$)")
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
        if at is None or at[1].n < at[1].most or not _is_whole(data):
            return None
        telemetry = self._telemetry
        telemetry.request(at[0], 429, time.perf_counter() - started)
        telemetry.shed(429)
        named = _ID.search(data, 0, data.find(b"\r\n\r\n") + 2)
        request_id = named[1] if named else os.urandom(16).hex().encode()
        first = b"".join([b"%b: %b\r\n" % header for header in default_headers])
        return b"%b%b%bx-request-id: %b\r\n\r\n%b" % (STATUS_LINE[429], first, _HEADERS, request_id, _BODY)


def _is_whole(data: bytes) -> bool:
    """Whether this is one request, all of it and nothing after it, whose end is told by its length alone."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = data[:end].lower()
    lengths = head.count(b"\r\ncontent-length")
    if not lengths:
        return len(data) == end + 4 and not _UNUSUAL.search(head)
    length = _LENGTH.search(head)
    return lengths == 1 and length is not None and len(data) == end + 4 + int(length[1]) and not _UNUSUAL.search(head)


class Door(HttpToolsProtocol):
    """Uvicorn's protocol with a `TurnAway` before its parser, where the application's state holds one."""

    _is_between = True  # two requests: what comes next begins one

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        turn_away = self.app_state.get(TURN_AWAY)
        if turn_away is not None and self._is_between and (self.cycle is None or self.cycle.response_complete):
            reply = turn_away(data, self.server_state.default_headers)
            if reply is not None and not self.transport.is_closing():
                self.transport.write(reply)
                self._unset_keepalive_if_required()
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self._is_between = False
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._is_between = True
        super().on_message_complete()
