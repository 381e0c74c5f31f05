"""`python -m serving.encoding --workspace DIR --socket PATH`: the encoder process of a host; the service starts it."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from recsys.errors import ArtifactError, RecsysError, StoreUnavailable
from serving.encoding.bootstrap import current_of, open_server
from serving.telemetry import log_to_stderr

PARENT_CHECK_S = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Encode until told to stop; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m serving.encoding", description=__doc__)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--socket", type=Path, required=True, help="in a folder that is yours alone")
    parser.add_argument("--releases", default="", help="where releases lie; default: [releases] url")
    parser.add_argument("--with-parent", action="store_true", help="end when stdin is closed, and leave no folder")
    options = parser.parse_args(arguments)
    log_to_stderr()
    try:
        outlived = asyncio.run(
            _run(options.workspace.resolve(), options.socket, options.releases, with_parent=options.with_parent)
        )
    except RecsysError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if outlived:
        with suppress(OSError):  # nobody else would remove its folder now
            options.socket.parent.rmdir()
    return 0


async def _run(workspace: Path, socket: Path, releases_url: str, *, with_parent: bool) -> bool:
    """Whether it ended because its parent had."""
    stop, outlived = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    # Ctrl-C is the parent's business, which lets the workers end first.
    loop.add_signal_handler(signal.SIGINT, (lambda: None) if with_parent else stop.set)
    watch = asyncio.create_task(_end_with_parent(stop, outlived)) if with_parent else None
    server, engine, releases = open_server(workspace, releases_url)
    with suppress(ArtifactError, StoreUnavailable):  # there is none yet, or it is damaged: requests will say so
        if current := await asyncio.to_thread(current_of, releases):
            engine.prepare(current)
    await server.serve(socket, stop)
    if watch is not None:
        watch.cancel()
    return outlived.is_set()


async def _end_with_parent(stop: asyncio.Event, outlived: asyncio.Event) -> None:
    """stdin is a pipe that ends when the parent does; a fork of it may hold it open, so it is looked for, too."""
    parent = os.getppid()
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def heard() -> None:
        if not os.read(0, 1024):
            loop.remove_reader(0)
            ended.set()

    loop.add_reader(0, heard)
    while not ended.is_set() and os.getppid() == parent:
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), PARENT_CHECK_S)
    outlived.set()
    stop.set()


if __name__ == "__main__":
    sys.exit(main())
