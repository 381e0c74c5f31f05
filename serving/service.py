"""Everything a running service holds, joined by `serving.bootstrap`, and how one of its answers is made."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from starlette.requests import Request

from recsys.budget import Budget, StageCosts
from recsys.events import Exposure
from recsys.history import HistoryCache
from recsys.live import CatalogView
from recsys.ports import RequestStore, Store
from recsys.recommender import RecommenderConfig, Surroundings
from recsys.surfaces import Surfaces
from recsys.types import Query, Slate
from serving.encoding.port import ContentEncoding
from serving.guards import Guard, IndexGuard
from serving.one_request import OneRequest, UserStates
from serving.pages import PageTokens
from serving.recent_traces import RecentTraces
from serving.releases import Releases
from serving.settings import Settings
from serving.telemetry import Telemetry
from serving.trends import Trends
from serving.work import Work

STARTED = "recsys.started"  # where a request's scope carries the time it came in, by `time.perf_counter`
STORE_SHARE = 0.5  # of what is left of a budget that reading the user's state may take


class Background(Protocol):
    """A thread of the service's own."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Answer(Protocol):
    """Makes a slate from what a request leans on: `recommend`, `search` and the like with their query filled in."""

    def __call__(
        self,
        catalog: CatalogView,
        store: RequestStore,
        config: RecommenderConfig,
        around: Surroundings,
        budget: Budget,
    ) -> Slate: ...


@dataclass(frozen=True)
class Service:
    """One process of the service.

    Attributes:
        states: users' states for requests, also while the store does not answer.
        expose: takes the record of a slate; raises StoreUnavailable.
        drain: moves the records that wait to the store; `exposures_are_stuck` says that it takes none now.
        content: texts and pictures of searches to vectors.
        surfaces: gives the configuration that is in force; `config_problem` what is wrong with the file as it is now.
        histories: of users, with their query vectors.
        costs: what the stages of a request took lately.
        trends: what is taken most just now.
        traces: what became of the last requests.
        requests: threads for what would hold up others.
        encoding: the one thread that encodes new items.
        background: steps that go on between `start` and `close`.
    """

    settings: Settings
    telemetry: Telemetry
    store: Store
    releases: Releases
    states: UserStates
    expose: Callable[[Exposure], None]
    drain: Callable[[], None]
    exposures_are_stuck: Callable[[], bool]
    surfaces: Callable[[], Surfaces]
    config_problem: Callable[[], str | None]
    histories: HistoryCache
    costs: StageCosts
    index_guard: IndexGuard
    ranker_guard: Guard
    trends: Trends
    tokens: PageTokens
    content: ContentEncoding
    traces: RecentTraces
    requests: Work
    encoding: Work
    background: tuple[Background, ...] = ()
    stoppers: tuple[Callable[[], None], ...] = ()

    def start(self) -> None:
        """Load what is current, then follow it."""
        self.releases.start()
        for each in self.background:
            each.start()

    async def answer(
        self,
        query: Query,
        make: Answer,
        config: RecommenderConfig,
        *,
        budget_ms: float,
        started: float | None = None,
        in_thread: bool = False,
    ) -> Slate:
        """A slate, whatever fails: without a release it is empty, and says so.

        Args:
            config: of the query's surface.
            started: when the request came in, by `time.perf_counter`.
            in_thread: it takes long; others go on meanwhile.
        """
        spent_ms = 0.0 if started is None else (time.perf_counter() - started) * 1e3
        budget = Budget(budget_ms, self.costs, spent_ms=spent_ms)
        timeout_s = max(budget.remaining_ms, 1.0) * STORE_SHARE / 1e3
        with_served = config.filter.exclude_served_s > 0
        state, is_stale = await self.states.read(query.user_id, timeout_s, with_served=with_served)
        view = self.releases.view  # after the wait: the latest there is
        if view is None:
            slate = Slate(query.recommendation_id, (), release="", variants=query.variants, degraded=("release",))
        else:
            store, around = OneRequest(state, self.expose, is_stale), self._surroundings(view)
            if in_thread:
                slate = await self.requests.run(lambda: make(view, store, config, around, budget))
            else:
                slate = make(view, store, config, around, budget)
            slate = self._marked(slate, is_stale)
        self._observe(slate, budget)
        return slate

    def _surroundings(self, view: CatalogView) -> Surroundings:
        return Surroundings(
            self.histories,
            self.trends.rows(view),
            self.index_guard,
            self.ranker_guard,
            lambda: self.releases.view,
        )

    def _marked(self, slate: Slate, is_stale: bool) -> Slate:
        """With what the recommender cannot know: an earlier state of the user, or of the upserted items, or records of
        slates that wait for the store."""
        stuck = self.exposures_are_stuck()
        if not (is_stale or stuck or self.releases.live_is_stale):
            return slate
        ours = {"hydrate": is_stale, "live_items": self.releases.live_is_stale, "expose": stuck}
        more = tuple(name for name, is_so in ours.items() if is_so and name not in slate.degraded)
        return replace(slate, degraded=(*slate.degraded, *more)) if more else slate

    def _observe(self, slate: Slate, budget: Budget) -> None:
        self.costs.note(slate.trace, budget.tried)
        self.telemetry.slate(slate)
        for rule, n in slate.dropped.items():
            self.telemetry.dropped(rule, n)
        if slate.surface:
            self.telemetry.surface(slate.surface)
        self.traces.put(slate, slate.surface or "", slate.dropped)

    def close(self) -> None:
        """Stop the background first, then let what is in work end, then let go of the store."""
        for each in self.background:
            each.stop()
        self.releases.stop()
        self.requests.close()
        self.encoding.close()
        self.content.close()
        for stop in self.stoppers:
            stop()
        self.store.close()


def service_of(request: Request) -> Service:
    """The service that answers this request."""
    service: Service = request.app.state.service
    return service
