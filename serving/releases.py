"""Which releases this process holds, which one answers, and what was upserted since: one reference, swapped whole.

A request takes the view that is there when it begins and keeps it to its end, so a swap fails no request. Loading,
verifying, warming and joining the live items all happen before the swap, in the thread that polls.
"""

from __future__ import annotations

import gc
import logging
import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event, Lock, Thread

from recsys.errors import ArtifactError, CorruptArtifact, StoreUnavailable
from recsys.live import CatalogView, make_ready, updated, view_of
from recsys.ports import LiveItem, ReleaseStore, Store
from recsys.recommender import RecommenderConfig, recommend
from recsys.release import LoadedRelease
from recsys.serving_config import ServingConfig
from recsys.types import HistoryItem, Query
from serving.pace import Draw, Patience, spread
from serving.telemetry import Telemetry, log

UNREADABLE_POINTER = "releases/current"


@dataclass(frozen=True, slots=True)
class Held:
    """What requests look at; replaced, never changed. `views` by release id, `default` names the one that answers."""

    views: Mapping[str, CatalogView] = field(default_factory=dict)
    default: str | None = None

    @property
    def view(self) -> CatalogView | None:
        return None if self.default is None else self.views[self.default]


class Releases:
    """Follows `releases/current` and the store's live items. Reading `view` is free; all else takes a lock."""

    def __init__(
        self,
        release_store: ReleaseStore,
        load: Callable[[str], LoadedRelease],
        store: Store,
        recommender: RecommenderConfig,
        config: ServingConfig,
        telemetry: Telemetry,
        draw: Draw = random.random,
    ) -> None:
        """`draw` spreads what a fleet would otherwise do in step."""
        self._draw = draw
        self._storage = Patience(config.release_poll_s, config.retry_refused_release_s, draw)
        self._release_store = release_store
        self._load = load
        self._store = store
        self._recommender = recommender.model_copy(update={"log_exposures": False})
        self._config = config
        self._telemetry = telemetry
        self._held = Held()
        self._live: dict[str, LiveItem] = {}
        self._live_version = 0
        self._live_read_at: float | None = None
        self._refused: tuple[str, float] | None = None
        self._change = Lock()
        self._loading = Lock()
        self._stop = Event()
        self._threads: list[Thread] = []

    @property
    def view(self) -> CatalogView | None:
        """The catalogue that answers now; None while there is no release."""
        return self._held.view

    def upserted(self, item_id: str) -> LiveItem | None:
        """The item as it was last upserted; None where it never was, or was deleted since."""
        item = self._live.get(item_id)
        return None if item is None or item.deleted else item

    @property
    def refused(self) -> str | None:
        """The current release, where it was refused and an older one (or none) answers."""
        return self._refused[0] if self._refused else None

    @property
    def storage_is_silent(self) -> bool:
        """Whether the place where releases lie did not answer lately: the release known last goes on."""
        return self._storage.is_failing

    @property
    def live_version(self) -> int:
        """The version of the store's items that is in the view."""
        return self._live_version

    @property
    def live_is_stale(self) -> bool:
        """Whether upserts could not be read for too long (or never yet)."""
        return self._live_age_s > self._config.stale_after_s

    @property
    def _live_age_s(self) -> float:
        return math.inf if self._live_read_at is None else time.monotonic() - self._live_read_at

    def start(self) -> None:
        """Load what is current, then follow it in the background."""
        self.refresh_live()
        self.reload()
        self._threads = [
            Thread(target=self._repeat, args=(self.refresh_live, self._config.live_poll_s), name="live", daemon=True),
            Thread(target=self._repeat, args=(self.reload, self._config.release_poll_s), name="reload", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=10)

    def _repeat(self, step: Callable[[], object], every_s: float) -> None:
        while not self._stop.wait(spread(every_s, self._draw)):
            try:
                step()
            except Exception:  # the thread that keeps us fresh must outlive any surprise
                log(logging.ERROR, "a background step failed and will be tried again", exc_info=True)

    def reload(self) -> bool:
        """Serve the current release if it is another one and can be used; whether it took over."""
        with self._loading:
            if not self._storage.is_due:
                return False
            release_id = UNREADABLE_POINTER
            try:
                release_id = self._release_store.current() or ""
                if release_id in ("", self._held.default):
                    self._refused = None
                    self._storage_answered()
                    return False
                if self._refused_lately(release_id):
                    self._storage_answered()
                    return False
                release = self._load(release_id)
                self.check(view_of(release))
            except StoreUnavailable as error:  # says nothing of the release: what came of it so far is kept
                self._storage_failed(error)
                return self._held.default is None and self._fall_back(self._release_store.last_known)
            except Exception as error:  # whatever is wrong with it, the old release goes on
                if self._refused_lately(release_id):
                    return False
                self._refuse(release_id, error)
                return self._held.default is None and self._fall_back(self._release_store.previous)
            self._refused = None
            self._storage_answered()
            self._swap(release)
            return True

    def _fall_back(self, which: Callable[[], str | None]) -> bool:
        """Serve an earlier release than the current one, which a process that has just started does not hold."""
        try:
            release_id = which()
            if release_id is None:
                return False
            release = self._load(release_id)
            self.check(view_of(release))
        except Exception as error:  # both are unusable
            log(logging.ERROR, "no earlier release can be used either", why=f"{type(error).__name__}: {error}")
            return False
        self._swap(release)
        return True

    def check(self, view: CatalogView) -> None:
        """Answer two queries with it, which also warms it. Raises CorruptArtifact when it cannot."""
        popular = [view.item_id(int(row)) for row in view.release.popular_rows[:5]]
        for history in ((), tuple(HistoryItem(item_id) for item_id in popular)):
            query = Query("check", datetime.now(UTC), history=history, limit=5)
            slate = recommend(query, view, self._store, self._recommender)
            if not all(math.isfinite(item.value) for item in slate.items):
                raise CorruptArtifact(f"release {view.release.release_id} gives values that are no numbers")
            if "encode" in slate.degraded and view.release.query_encoder is not None:
                raise CorruptArtifact(f"release {view.release.release_id}: its query tower does not answer")

    def refresh_live(self, at_least: int | None = None) -> None:
        """Take in what was upserted anywhere; nothing to do when version `at_least` is in already.

        A store that does not answer is counted, and what is known stays.
        """
        with self._change:
            if at_least is not None and self._live_version >= at_least:
                return
            try:
                version, changes = self._store.items_since(self._live_version)
                started_anew = version < self._live_version  # another store, or one that lost its data
                if started_anew:
                    version, changes = self._store.items_since(0)
                    self._live.clear()
            except StoreUnavailable:
                self._telemetry.store_error("items_since")
                return
            self._live_read_at, self._live_version = time.monotonic(), version
            self._live.update({item.item_id: item for item in changes})
            view = self.view
            if view is not None and started_anew:
                self._hold(view_of(view.release, self._live.values(), version))
            elif view is not None and changes:
                self._hold(updated(view, version, changes))
            self._report()

    def _swap(self, release: LoadedRelease) -> None:
        with self._change:
            self._hold(view_of(release, self._live.values(), self._live_version))
            self._report()
        gc.freeze()  # what was loaded lives as long as the release: no search for cycles need walk over it
        self._telemetry.release(release.release_id)
        log(logging.INFO, "a release serves", release=release.release_id, n_items=release.n_items)
        try:
            self._release_store.hold(release.release_id)
        except Exception as error:  # it serves; only its copies may go before their time, or others stay too long
            log(logging.WARNING, "a release is not held", why=f"{type(error).__name__}: {error}")

    def _storage_failed(self, error: StoreUnavailable) -> None:
        self._telemetry.store_error("releases")
        if not self._storage.is_failing:
            log(logging.ERROR, "the release store does not answer", why=str(error), serving=self._held.default)
        self._storage.failed()

    def _storage_answered(self) -> None:
        if self._storage.is_failing:
            log(logging.INFO, "the release store answers again")
        self._storage.succeeded()

    def _hold(self, view: CatalogView) -> None:
        make_ready(view, self.view)
        release_id = view.release.release_id
        self._held = Held({release_id: view}, release_id)

    def _refused_lately(self, release_id: str) -> bool:
        if self._refused is None or self._refused[0] != release_id:
            return False
        return time.monotonic() < self._refused[1]

    def _refuse(self, release_id: str, error: Exception) -> None:
        self._refused = (release_id, time.monotonic() + spread(self._config.retry_refused_release_s, self._draw))
        self._telemetry.release_refused()
        why = f"{type(error).__name__}: {error}"
        is_ours = isinstance(error, ArtifactError)
        log(
            logging.ERROR,
            "a release is refused",
            exc_info=not is_ours,
            release=release_id,
            why=why,
            serving=self._held.default,
        )

    def _report(self) -> None:
        view = self.view
        self._telemetry.catalog(0 if view is None else len(view), self._live_age_s)
