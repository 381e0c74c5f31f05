"""`python -m serving --workspace DIR`: the service on uvicorn. Exit code 2: wrong usage or environment."""

from __future__ import annotations

import argparse
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import FrameType

import uvicorn

from recsys.errors import RecsysError
from serving.encoding.bootstrap import has_encoders
from serving.encoding.supervisor import encoder_beside
from serving.settings import WORKSPACE_VARIABLE, Settings, handed_to_workers

APP = "serving.app:app_of_this_process"
GRACE_S = 20

# Option → the variable that it overrules.
OPTIONS = {
    "workspace": WORKSPACE_VARIABLE,
    "host": "RECSYS_HOST",
    "port": "RECSYS_PORT",
    "workers": "RECSYS_WORKERS",
    "store": "RECSYS_STORE_URL",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m serving", description=__doc__)
    for option in OPTIONS:
        parser.add_argument(f"--{option}")
    options = vars(parser.parse_args(arguments))
    variables = {OPTIONS[name]: value for name, value in options.items() if value is not None}
    if variables.get("RECSYS_PORT") == "0":
        variables["RECSYS_PORT"] = str(free_port())
    signal.signal(signal.SIGTERM, _end)
    try:
        with handed_to_workers(variables) as settings:
            address = f"http://{settings.serving.host}:{settings.serving.port}"
            print(f"serving on {address} (its API: {address}/docs; Ctrl-C ends it)", flush=True)
            with encoder_of(settings):
                serve(settings)
    except RecsysError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _end(signal_number: int, frame: FrameType | None) -> None:
    """Uvicorn ends by SIGTERM in its own way, then raises it again: what was opened here is closed, too."""
    raise SystemExit(0)


def free_port() -> int:
    """A port on loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def encoder_of(settings: Settings) -> AbstractContextManager[None]:
    """The encoder process beside the service, as `[serving.encoder] process` wants it."""

    def is_wanted() -> bool:
        return settings.serving.encoder.process == "own" or has_encoders(settings.workspace, settings.releases)

    return encoder_beside(settings.workspace, settings.encoder_socket, is_wanted, settings.releases.url)


def serve(settings: Settings) -> None:
    """Run uvicorn; returns when it was told to stop."""
    uvicorn.run(
        APP,
        factory=True,
        host=settings.serving.host,
        port=settings.serving.port,
        workers=settings.serving.workers,
        loop="uvloop",
        http="serving.door:Door",
        # Our own log lines carry no paths or addresses, which hold ids.
        access_log=False,
        server_header=False,
        # What a proxy says of the client is not believed: nothing here depends on it but the access to /metrics.
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_S,
        log_level="warning",
    )


if __name__ == "__main__":
    sys.exit(main())
