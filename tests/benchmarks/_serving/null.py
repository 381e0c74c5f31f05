"""The null endpoint: a raw ASGI application that reads the body and answers `{}`. What HTTP itself costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"2")]


def create_app(folder: Path, redis_url: str) -> Any:
    """The application; it needs neither files nor Redis."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        more = True
        while more:
            more = (await receive()).get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": b"{}"})

    return app
