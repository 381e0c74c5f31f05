"""Follows recsys.toml: an edit of `[recommender]`, `[surfaces.*]` or `[experiments.*]` is in force within a second.

The whole file is checked first; what is wrong with it is logged once and shown, and the settings before it stay. All
other sections are read when the service starts: an edit of one is logged as waiting for a restart.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Thread

from recsys.config import parse_config, read_config
from recsys.errors import RecsysError
from recsys.recommender import RecommenderConfig
from recsys.surfaces import Surfaces
from recsys.workspace import CONFIG_NAME, WorkspaceConfig
from serving.telemetry import log

RELOADABLE = frozenset({"recommender", "surfaces", "experiments"})
Validate = Callable[[WorkspaceConfig], None]


def _nothing_more(config: WorkspaceConfig) -> None:
    """The file's own checks are enough."""


@dataclass(frozen=True, slots=True)
class LiveConfig:
    """The settings that requests are answered with; replaced, never changed. `surfaces` are resolved already."""

    recommender: RecommenderConfig
    surfaces: Surfaces

    @staticmethod
    def of(config: WorkspaceConfig) -> LiveConfig:
        return LiveConfig(config.recommender, config.resolved_surfaces())


class ConfigWatcher:
    """Reading `current` is free: a request takes what is there when it begins, and keeps it to its end."""

    def __init__(
        self, workspace: Path, running: WorkspaceConfig, *, validate: Validate = _nothing_more, poll_s: float = 1.0
    ) -> None:
        """
        Args:
            workspace: the folder of recsys.toml.
            running: what the service was started with.
            validate: more checks of a new configuration, such as of its filter expressions; raises a RecsysError.
        """
        self._path = workspace / CONFIG_NAME
        self._running = running
        self._validate = validate
        self._poll_s = poll_s
        self._current = LiveConfig.of(running)
        self._checked: str | None = None
        self._problem: str | None = None
        self._waiting: tuple[str, ...] = ()
        self._checking = Lock()
        self._stop = Event()
        self._thread: Thread | None = None

    @property
    def current(self) -> LiveConfig:
        return self._current

    @property
    def problem(self) -> str | None:
        """What is wrong with the file as it is now; None when it is in force."""
        return self._problem

    @property
    def waiting_for_restart(self) -> tuple[str, ...]:
        """Sections that are edited and not in force."""
        return self._waiting

    def start(self) -> None:
        self._thread = Thread(target=self._follow, name="config", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=10)

    def check(self) -> bool:
        """Look at the file once; whether other settings are in force now.

        The bytes decide, not the file's time: two edits within one tick of the clock are two, and a file that was
        only touched is none. They are some kilobytes, once a second.
        """
        with self._checking:
            try:
                content = read_config(self._path)
            except RecsysError as error:
                return self._refuse("unreadable", str(error))
            digest = hashlib.sha256(content).hexdigest()
            if digest == self._checked:
                return False
            try:
                config = parse_config(content, WorkspaceConfig, self._path)
                self._validate(config)
            except RecsysError as error:
                return self._refuse(digest, str(error))
            self._checked, self._problem = digest, None
            return self._take(config)

    def _refuse(self, digest: str, problem: str) -> bool:
        if (digest, problem) != (self._checked, self._problem):
            log(logging.ERROR, "recsys.toml is refused; the settings before it stay", why=problem)
        self._checked, self._problem = digest, problem
        return False

    def _take(self, config: WorkspaceConfig) -> bool:
        names = [name for name in WorkspaceConfig.model_fields if name not in RELOADABLE]
        waiting = tuple(name for name in names if getattr(config, name) != getattr(self._running, name))
        if waiting and waiting != self._waiting:
            log(logging.WARNING, "edited sections wait for a restart", sections=", ".join(waiting))
        self._waiting = waiting
        new = LiveConfig.of(config)
        if new == self._current:
            return False
        self._current = new
        surfaces = ", ".join(sorted(new.surfaces.by_name))
        experiments = ", ".join(each.name for each in new.surfaces.experiments)
        log(logging.INFO, "other settings are in force", surfaces=surfaces, experiments=experiments)
        return True

    def _follow(self) -> None:
        while not self._stop.wait(self._poll_s):
            try:
                self.check()
            except Exception:  # the thread must outlive any surprise
                log(logging.ERROR, "looking at recsys.toml failed and will be tried again", exc_info=True)
