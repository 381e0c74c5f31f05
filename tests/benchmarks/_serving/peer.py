"""`python -m tests.benchmarks._serving.peer NAME FOLDER REDIS_URL PORT`: one of the applications beside this module on
uvicorn, with the service's own settings."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import uvicorn

PEERS = ("null", "textbook", "tuned")


def main(name: str, folder: str, redis_url: str, port: str) -> None:
    if name not in PEERS:
        raise SystemExit(f"there is no peer {name!r}; write one of {', '.join(PEERS)}")
    app = import_module(f"tests.benchmarks._serving.{name}").create_app(Path(folder), redis_url)
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(port),
        loop="uvloop",
        http="httptools",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
