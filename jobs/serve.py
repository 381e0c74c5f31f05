"""`recsys serve`: starts the service as a process of its own, so that no job imports it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from recsys.workspace import Workspace


def serve_command(
    root: Path, *, host: str | None, port: int | None, store_url: str | None, workers: int | None = None
) -> list[str]:
    """The command line of the service; one thread for each numpy call, because more only fight over the cores."""
    options = {"--host": host, "--port": None if port is None else str(port), "--store": store_url}
    options["--workers"] = None if workers is None else str(workers)
    chosen = [part for name, value in options.items() if value is not None for part in (name, value)]
    return ["env", "OMP_NUM_THREADS=1", sys.executable, "-m", "serving", "--workspace", str(root), *chosen]


def serve_job(
    root: Path, *, host: str | None, port: int | None, store_url: str | None, workers: int | None
) -> tuple[dict[str, Any], int]:
    """Replaces this process by the service; comes back only with an error."""
    Workspace.open(root)  # a clear error here rather than from a child
    command = serve_command(root, host=host, port=port, store_url=store_url, workers=workers)
    os.execvp(command[0], command)


def free_port() -> int:
    """A port on loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_service(root: Path, *, port: int, store_url: str | None, log_file: Path) -> subprocess.Popen[bytes]:
    """The service in the background, its output in `log_file`."""
    with log_file.open("wb") as log:
        return subprocess.Popen(
            serve_command(root, host=None, port=port, store_url=store_url), stdout=log, stderr=subprocess.STDOUT
        )
