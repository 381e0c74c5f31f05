"""A server on loopback that answers as a script says, and notes what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

from serving.schemas import EventBatchReply, RecommendationReply, UsersMergeReply

ECHO = "the request's own"
SLATE = msgspec.json.encode(RecommendationReply("r", (), "r1", {}, (), (), None))
TAKEN = msgspec.json.encode(EventBatchReply([], 0, 0, 0, ()))
MERGED = msgspec.json.encode(UsersMergeReply("42", 0))


@dataclass(frozen=True)
class Says:
    """One reply. `request_id` ECHO: as a service does; None: no such header; `breaks`: it ends in the middle."""

    status: int = 200
    body: bytes = SLATE
    headers: Mapping[str, str] = field(default_factory=dict)
    request_id: str | None = ECHO
    breaks: bool = False
    waits: threading.Event | None = None


@dataclass
class Stub:
    """`script` holds the replies still to give; `asked` (method, path, headers, body) what came."""

    script: list[Says]
    url: str = ""
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)


def busy(status: int = 503, **headers: str) -> Says:
    """A refusal as the service writes it."""
    problem = {"type": "urn:recsys:problem:busy", "title": "Busy", "status": status, "detail": "come back"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Says(status, msgspec.json.encode(problem), {"Content-Type": "application/problem+json", **named})


@contextmanager
def serving(*script: Says, port: int = 0) -> Iterator[Stub]:
    stub = Stub(list(script))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            stub.asked.append((self.command, self.path, headers, body))
            _say(self, stub.script.pop(0), headers.get("x-request-id", ""))

        do_GET = do_POST = answer

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing is printed."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that has gone before its reply is what some tests are about."""

    server = Server(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    stub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _say(to: BaseHTTPRequestHandler, says: Says, request_id: str) -> None:
    if says.waits is not None:
        says.waits.wait(10)
    to.close_connection = says.breaks
    to.send_response(says.status)
    for name, value in says.headers.items():
        to.send_header(name, value)
    if says.request_id is not None:
        to.send_header("X-Request-Id", request_id if says.request_id is ECHO else says.request_id)
    to.send_header("Content-Length", str(len(says.body) + says.breaks))
    to.end_headers()
    to.wfile.write(says.body)
