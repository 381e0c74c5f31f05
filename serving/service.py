"""Everything a running service holds, joined by `serving.bootstrap`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from starlette.requests import Request

from recsys.ports import Store
from recsys.recommender import recommend
from recsys.types import Query, Slate
from serving.encoding.port import ContentEncoding
from serving.feature_cache import KnownStates, RememberingStore
from serving.releases import Releases
from serving.settings import Settings
from serving.telemetry import Telemetry
from serving.work import Work


@dataclass(frozen=True)
class Service:
    """One process of the service.

    Attributes:
        states: the last known user states, for when the store does not answer.
        requests: threads that answer requests.
        encoding: the one thread that encodes new items, so that they do not hold up answers.
        content: encodes what queries hold, in the encoder process of this host where there is one.
    """

    settings: Settings
    telemetry: Telemetry
    store: Store
    releases: Releases
    states: KnownStates
    requests: Work
    encoding: Work
    content: ContentEncoding

    def recommend(self, query: Query) -> Slate:
        """A slate, whatever fails: without a release it is empty, and says so."""
        slate = self._slate(query)
        self.telemetry.slate(slate)
        return slate if query.explain else replace(slate, trace=())

    def close(self) -> None:
        """Stop the background first, then let what is in work end, then let go of the store."""
        self.releases.stop()
        self.requests.close()
        self.encoding.close()
        self.content.close()
        self.store.close()

    def _slate(self, query: Query) -> Slate:
        view = self.releases.view
        if view is None:
            return Slate(query.recommendation_id, (), release="", degraded=("release",))
        store = RememberingStore(self.store, self.states, self.telemetry)
        slate = recommend(query, view, store, self.settings.recommender)
        ours = {"hydrate": store.stale, "live_items": self.releases.live_is_stale}
        more = tuple(name for name, is_so in ours.items() if is_so and name not in slate.degraded)
        return replace(slate, degraded=(*slate.degraded, *more)) if more else slate


def service_of(request: Request) -> Service:
    """The service that answers this request."""
    service: Service = request.app.state.service
    return service
