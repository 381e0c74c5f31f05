"""Explanations by real towers: trained, exported to ONNX, and run by the service's adapters over a release on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys.dataset import Modality
from recsys.explanations.shapley import coalitions
from recsys.explanations.towers import similarity_by_coalition, tower_players
from recsys.history import History
from recsys.index.exact import ExactIndex
from recsys.inference import towers
from recsys.live import CatalogView, view_of
from recsys.ports import LiveItem
from recsys.recommender import recommend
from recsys.storage.memory_store import MemoryStore
from recsys.types import HistoryItem, Query, Slate
from recsys.workspace import Workspace
from tests.worlds.checkerboard import item_id
from tests.worlds.workspaces import NOW, Asker

PARTS = ["behaviour", "image", "text", "popularity", "rules", "base"]
USERS = ["user-0000", "user-0041", "user-0159", "newcomer-fire", None]  # some with a profile, some without events


@pytest.fixture(scope="module")
def asker(released: Workspace) -> Asker:
    return Asker.of(released)


def explained(asker: Asker, catalog: CatalogView, *rows: int, user_id: str | None = None) -> Slate:
    history = tuple(HistoryItem(item_id(row)) for row in rows)
    query = Query("asked", NOW, user_id=user_id, history=history, limit=100, explain=True)
    return recommend(query, catalog, MemoryStore(), asker.workspace.config.recommender)


def past(catalog: CatalogView, *rows: int) -> History:
    nothing = np.empty(0, np.uint64)
    types = np.ones(len(rows), np.int64)
    return History(np.array(rows, dtype=np.int64), types, nothing, nothing)


@pytest.mark.parametrize("user", USERS)
def test_the_parts_of_every_item_add_up_to_the_value_that_is_served(asker: Asker, user: str | None) -> None:
    slate = asker.slate(user, limit=60)
    assert slate.degraded == ()
    assert len(slate.items) >= 30
    for item in slate.items:
        assert list(item.parts) == PARTS
        assert abs(sum(item.parts.values()) - item.value) < 1e-6


def test_the_towers_give_for_everybody_what_was_served(asker: Asker) -> None:
    catalog = asker.catalog
    rows, history = np.arange(catalog.release.n_items), past(catalog, 4, 6, 8)
    assert catalog.release.query_encoder is not None
    query_vector = catalog.release.query_encoder.encode(catalog.vectors(history.rows), history.event_types)
    served = catalog.vectors(rows) @ query_vector
    for profile in (None, catalog.release.profiles[0]):
        of_all = similarity_by_coalition(rows, history, profile, catalog)[-1]
        if profile is None:
            assert np.abs(of_all - served).max() < 1e-4
        else:
            assert np.abs(of_all - served).max() > 1e-2


def test_each_coalition_is_what_the_towers_say_one_by_one(asker: Asker) -> None:
    catalog, release = asker.catalog, asker.catalog.release
    rows, history, profile = np.array([3, 10, 12]), past(catalog, 4, 6, 8), release.profiles[0]
    players = tower_players(release)
    assert players == ("behaviour", "image", "text")
    got = similarity_by_coalition(rows, history, profile, catalog)

    def vector(row: int, known: set[str]) -> NDArray[np.float32]:
        assert release.item_encoder is not None
        assert release.id_vectors is not None
        content: Mapping[str, tuple[Any, Any]] = {
            each.name: (each.vectors[[row]], each.present[[row]] & (each.name in known)) for each in release.modalities
        }
        names = release.items["categories"][row].as_py() if "text" in known else []
        return release.item_encoder.encode_batch(
            release.id_vectors.vectors[[row]],
            release.id_vectors.present[[row]] & ("behaviour" in known),
            content,
            release.categories_of({"categories": names})[None],
        )[0]

    assert release.query_encoder is not None
    for number, is_in in enumerate(coalitions(len(players))):
        known = {player for player, there in zip(players, is_in, strict=True) if there}
        query = release.query_encoder.encode(
            np.stack([vector(row, known) for row in history.rows.tolist()]),
            history.event_types,
            profile if "text" in known else None,
        )
        expected = [float(vector(row, known) @ query) for row in rows.tolist()]
        np.testing.assert_allclose(got[number], expected, atol=1e-4)
    assert got.std(axis=0).min() > 0.1, "the coalitions are all alike, so this tells nothing"


def test_an_explained_request_runs_the_towers_sixteen_times_at_most(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    run = towers._run

    def counted(session: Any, inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        runs.append(len(next(iter(inputs.values()))))
        return run(session, inputs)

    monkeypatch.setattr(towers, "_run", counted)
    slate = explained(asker, asker.catalog, 4, 6, 8)
    assert slate.degraded == ()
    assert 3 < len(runs) <= 16
    assert max(runs) > 8


@pytest.mark.parametrize("rows", [(4, 6, 8), (31, 33, 35), (10, 12, 40, 42, 44)])
def test_because_names_the_item_that_the_next_one_follows(asker: Asker, rows: tuple[int, ...]) -> None:
    first = explained(asker, asker.catalog, *rows).items[0]
    assert first.item_id == item_id(rows[-1] + 2)
    assert first.because[0] == item_id(rows[-1])
    assert set(first.because) <= {item_id(row) for row in rows}


def test_an_item_that_came_after_the_release_gets_nothing_for_behaviour_of_its_own(asker: Asker) -> None:
    release = asker.catalog.release
    content = {modality.name: modality.vectors[12] for modality in release.modalities}
    spaces = {modality.name: modality.space_id for modality in release.modalities}
    twin = LiveItem("twin", {"item_id": "twin", "categories": ["Fire"]}, content, spaces, version=1)
    catalog = view_of(release, [twin], version=1)
    slate = explained(asker, catalog, 4, 6, 8)
    assert slate.degraded == ()
    (item,) = [item for item in slate.items if item.item_id == "twin"]
    assert abs(sum(item.parts.values()) - item.value) < 1e-6
    alone = explained(asker, catalog)  # no history, so nobody's behaviour is known
    (item,) = [item for item in alone.items if item.item_id == "twin"]
    assert item.parts["behaviour"] == pytest.approx(0, abs=1e-3)


def test_without_pictures_anywhere_pictures_have_no_part(asker: Asker) -> None:
    """The towers were trained with pictures; that none is there is known to every coalition."""
    release = asker.catalog.release
    assert release.id_vectors is not None
    assert release.item_encoder is not None
    blind = [
        Modality(each.name, each.space_id, each.vectors, each.present & (each.name != "image"))
        for each in release.modalities
    ]
    categories = np.stack(
        [release.categories_of({"categories": names.as_py()}) for names in release.items["categories"]]
    )
    vectors = release.item_encoder.encode_batch(
        release.id_vectors.vectors,
        release.id_vectors.present,
        {each.name: (each.vectors, each.present) for each in blind},
        categories,
    )
    built = replace(release, modalities=tuple(blind), item_vectors=vectors, index=ExactIndex(vectors))
    catalog = view_of(replace(built, stored_diversity=None))
    slate = explained(asker, catalog, 4, 6, 8)
    assert slate.degraded == ()
    assert all(abs(item.parts["image"]) < 1e-5 for item in slate.items)
    assert any(abs(item.parts["text"]) > 1e-2 for item in slate.items)
