"""What holds for every slate, by whatever path it was made."""

from __future__ import annotations

import math

from recsys.events import hash64
from recsys.retrieval import SOURCES
from recsys.types import Slate
from tests.worlds.random_world import RandomWorld


def ids(slate: Slate) -> list[str]:
    return [item.item_id for item in slate.items]


def require_sound(slate: Slate, world: RandomWorld, allowed: frozenset[str]) -> None:
    """Nothing that is forbidden, nothing twice, no value that is no number; what is logged is what is shown."""
    assert set(ids(slate)) <= allowed
    assert len(slate.items) <= world.query.limit
    assert len(set(ids(slate))) == len(slate.items)
    assert [item.position for item in slate.items] == list(range(len(slate.items)))
    assert slate.item_hashes.tolist() == [hash64(item_id) for item_id in ids(slate)]
    assert slate.release == world.release.release_id
    for item in slate.items:
        assert math.isfinite(item.value)
        assert 0 < item.propensity <= 1
        assert item.source in SOURCES
        assert item.reasons
        assert all(reason.strip() for reason in item.reasons)
    fell_back = [stage.name for stage in slate.trace if stage.fallback]
    assert list(slate.degraded)[-len(fell_back) :] == fell_back if fell_back else True
    assert all(stage.duration_ms >= 0 for stage in slate.trace)
    _require_logged(slate, world)


def _require_logged(slate: Slate, world: RandomWorld) -> None:
    world.store.up = True
    exposures = [exposure for _, exposure in world.store.exposures()]
    world.store.up = world.store_state == "up"
    assert ("expose" in slate.degraded) == (not world.store.up)
    if not world.store.up:
        assert exposures == []
        return
    exposure = exposures[-1]
    assert list(exposure.item_ids) == ids(slate)
    assert exposure.sources == tuple(item.source for item in slate.items)
    assert exposure.propensities == tuple(item.propensity for item in slate.items)
    assert (exposure.recommendation_id, exposure.user_id, exposure.release) == ("request", "ann", slate.release)
