"""Keeps the encoder process of this host alive: started by the service's main process, once whatever its workers."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from recsys.errors import ArtifactError, StoreUnavailable
from serving.telemetry import log

LOOK_S = 0.2
WANTED_EVERY_S = 1.0
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
SOUND_S = 30.0
"""One that lived this long starts again without a pause that has grown."""

ENDING_S = 5.0


class EncoderProcess:
    """Starts the process when it is wanted, starts it again when it ends, and ends it with the service.

    However this process ends, the child sees the end of its stdin and follows.
    """

    def __init__(self, command: Sequence[str], is_wanted: Callable[[], bool]) -> None:
        """`is_wanted`: asked once a second until it says so."""
        self._command = list(command)
        self._is_wanted = is_wanted
        self._stop = Event()
        self._thread = Thread(target=self._keep, name="encoder-process", daemon=True)

    def start(self) -> None:
        """Returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End the process and wait until it is gone."""
        self._stop.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._is_wanted():
            if self._stop.wait(WANTED_EVERY_S):
                return
        pause_s = FIRST_PAUSE_S
        while not self._stop.is_set():
            lived_s = self._one_life()
            if self._stop.is_set():
                return
            pause_s = FIRST_PAUSE_S if lived_s >= SOUND_S else min(2 * pause_s, LONGEST_PAUSE_S)
            self._stop.wait(pause_s)

    def _one_life(self) -> float:
        """Start it and stay until it has ended: how many seconds that was, about."""
        lived_s = 0.0
        try:
            process = subprocess.Popen(self._command, stdin=subprocess.PIPE)
        except OSError as error:
            log(logging.ERROR, "the encoder process cannot be started", why=str(error))
            return lived_s
        with process:
            while process.poll() is None and not self._stop.wait(LOOK_S):
                lived_s += LOOK_S
            if process.poll() is None:
                _end(process)
            else:
                log(logging.ERROR, "the encoder process ended and is started again", exit_code=process.returncode)
        return lived_s


@contextmanager
def encoder_beside(
    workspace: Path, socket: Path | None, is_wanted: Callable[[], bool], releases_url: str = ""
) -> Iterator[None]:
    """The encoder process beside the service, as long as the block lasts; none where `socket` is None.

    `releases_url`: where releases lie, "" for the workspace.
    """
    if socket is None:
        yield
        return
    command = [sys.executable, "-m", "serving.encoding", "--workspace", str(workspace), "--socket", str(socket)]
    command += ["--releases", releases_url] if releases_url else []
    process = EncoderProcess([*command, "--with-parent"], _tolerant(is_wanted))
    process.start()
    try:
        yield
    finally:
        process.stop()


def _tolerant(is_wanted: Callable[[], bool]) -> Callable[[], bool]:
    def asked() -> bool:
        try:
            return is_wanted()
        except (ArtifactError, StoreUnavailable):  # no release that could be used, for now
            return False

    return asked


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(ENDING_S)
    except subprocess.TimeoutExpired:
        process.kill()
