"""What is served is what was trained: ONNX against torch, the request against training and evaluation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from embeddings.item_text import item_text, profile_text
from jobs.artifacts import Content, Dataset, Model, load_content, load_dataset, load_model
from jobs.evaluate import scorers
from recsys.catalog import category_matrix
from recsys.dataset import Sequences
from recsys.evaluation import make_split
from recsys.live import updated, view_of
from recsys.models.model import TrainedModel
from recsys.models.model import load_model as load_weights
from recsys.ports import LiveItem, RequestStore
from recsys.recommender import recommend
from recsys.served import HistoryFeatures
from recsys.storage.memory_store import MemoryStore
from recsys.types import HistoryItem, Query, Slate
from recsys.workspace import Workspace
from tests.worlds.checkerboard import item_id
from tests.worlds.workspaces import NOW, Asker

TOLERANCE = 1e-4
FLOAT16 = 2.0**-10
"""Half precision has 11 bits: values up to 1 move by at most 2**-11, and their length is set to 1 again."""
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Sides:
    """The same model as torch holds it and as it is served."""

    asker: Asker
    dataset: Dataset
    content: Content
    model: Model
    trained: TrainedModel
    item_vectors: Floats

    def torch_similarities(self, sequences: Sequences, user: str) -> Floats:
        """float32 [N], in the rows of the dataset, which are those of the release."""
        rows = np.array([sequences.user_ids.index(user)])
        profiles = self.content.user_content(self.dataset)
        queries = self.trained.query_vectors(self.item_vectors, sequences, rows, profiles)
        return np.asarray((queries @ self.item_vectors.T)[0], dtype=np.float32)

    def served(self, query: Query, store: RequestStore) -> Slate:
        return recommend(query, self.asker.catalog, store, self.asker.workspace.config.recommender)


@pytest.fixture(scope="module")
def sides(released: Workspace) -> Sides:
    dataset = load_dataset(released)
    content, model = load_content(released, dataset), load_model(released)
    trained = load_weights(model.path / "weights")
    item_vectors = trained.item_vectors(content.item_content(dataset))
    # Without id vectors an explanation names the similarity as one part, which is what is compared here.
    whole = view_of(replace(Asker.of(released).catalog.release, id_vectors=None))
    return Sides(Asker(released, whole), dataset, content, model, trained, item_vectors)


def assert_same_similarities(sides: Sides, slate: Slate, expected: Floats) -> None:
    weight = sides.model.blend.similarity_weight
    rows = [sides.dataset.vocabulary.row(item.item_id) for item in slate.items]
    got = np.array([item.parts["similarity"] for item in slate.items])
    assert len(rows) >= 20
    assert expected.std() > 0.5, "all items are alike, so this tells nothing"
    np.testing.assert_allclose(got, weight * expected[np.array(rows)], atol=TOLERANCE)


def one_user(rows: Sequence[int], event_type: int = 1, user: str = "nobody") -> Sequences:
    n = len(rows)
    items, types = np.asarray(rows, dtype=np.int64), np.full(n, event_type, dtype=np.int64)
    return Sequences((user,), np.array([0, n]), items, types, np.arange(n, dtype=np.int64))


@pytest.mark.parametrize("user", ["user-0000", "user-0041", "user-0159"])  # the last one has no profile
def test_the_similarity_served_to_a_stored_user_is_torchs(sides: Sides, user: str) -> None:
    slate = sides.asker.slate(user, limit=30)
    assert_same_similarities(sides, slate, sides.torch_similarities(sides.dataset.sequences, user))


@pytest.mark.parametrize("user", ["newcomer-fire", "newcomer-water", "nobody"])
def test_the_similarity_served_to_a_user_without_events_is_torchs(sides: Sides, user: str) -> None:
    slate = sides.asker.slate(user, limit=60)
    assert_same_similarities(sides, slate, sides.torch_similarities(one_user([], user=user), user))


def test_a_history_longer_than_the_tower_reads_is_cut_as_in_training(sides: Sides) -> None:
    rows = [2 * (step * 7 % 30) for step in range(sides.model.max_history + 50)]
    slate = sides.asker.slate(history=[item_id(row) for row in rows], limit=30)
    expected = sides.torch_similarities(one_user(rows), "nobody")
    assert_same_similarities(sides, slate, expected)
    assert np.abs(expected - sides.torch_similarities(one_user(rows[:-50]), "nobody")).max() > TOLERANCE


def test_an_event_type_that_training_never_saw_is_the_unknown_one(sides: Sides) -> None:
    session = tuple(HistoryItem(item_id(row), "never seen") for row in (4, 6, 8))
    slate = sides.served(Query("asked", NOW, history=session, limit=30, explain=True), MemoryStore())
    expected = sides.torch_similarities(one_user([4, 6, 8], event_type=0), "nobody")
    assert_same_similarities(sides, slate, expected)
    assert np.abs(expected - sides.torch_similarities(one_user([4, 6, 8]), "nobody")).max() > TOLERANCE


def test_the_item_vectors_of_the_release_are_torchs(sides: Sides) -> None:
    release = sides.asker.catalog.release
    assert release.vocabulary.item_ids == sides.dataset.vocabulary.item_ids
    np.testing.assert_allclose(release.item_vectors, sides.item_vectors, atol=TOLERANCE)


def test_a_new_item_is_encoded_as_torch_encodes_an_item_without_an_id(sides: Sides) -> None:
    release = sides.asker.catalog.release
    assert release.item_encoder is not None
    untrained = replace(sides.trained, trained=np.zeros(release.n_items, np.bool_))
    expected = untrained.item_vectors(sides.content.item_content(sides.dataset))
    assert np.abs(expected - sides.item_vectors).max() > 0.1
    _, categories = category_matrix(sides.dataset.items)
    for row in (0, 1, 58):
        content = {modality.name: modality.vectors[row] for modality in release.modalities}
        got = release.item_encoder.encode_new(content, categories[row])
        np.testing.assert_allclose(got, expected[row], atol=TOLERANCE)


def test_the_values_that_evaluation_ranks_by_are_those_that_are_served(sides: Sides) -> None:
    split = make_split(sides.dataset.sequences, sides.asker.workspace.config.evaluation)
    values = scorers(sides.dataset, sides.content, sides.model, split)
    store = HistoryFeatures(split.history, sides.dataset.vocabulary)
    blend = sides.model.blend
    assert blend.transition_weight > 0
    for user in (0, 3, 159):
        query = Query("asked", NOW, user_id=split.history.user_ids[user], limit=30, explain=True)
        slate = sides.served(query, store)
        rows = [sides.dataset.vocabulary.row(item.item_id) for item in slate.items]
        expected = values["blend"](np.array([user]))[0]
        np.testing.assert_allclose([item.value for item in slate.items], expected[np.array(rows)], atol=TOLERANCE)
        for item in slate.items:
            assert sum(item.parts.values()) == pytest.approx(item.value, abs=TOLERANCE)
        assert max(item.parts["transition"] for item in slate.items) > 0


def test_the_encoders_of_the_release_give_the_vectors_that_the_jobs_made(sides: Sides) -> None:
    release = sides.asker.catalog.release
    encoder = release.content_encoder
    assert encoder is not None
    assert dict(encoder.space_ids) == {each.name: each.space_id for each in release.modalities}
    vectors = {each.name: each.vectors for each in release.modalities}
    items = sides.dataset.items.to_pylist()
    for row in range(0, release.n_items, 7):
        fields = items[row]
        picture = (sides.asker.workspace.data_dir / fields["image"]).read_bytes()
        np.testing.assert_allclose(encoder.encode_image(picture), vectors["image"][row], atol=FLOAT16)
        attributes = json.loads(fields["attributes"] or "{}")
        words = (fields["title"], fields["description"], fields["categories"], attributes)
        text = item_text(*words, release.schema.text_template)
        assert text is not None
        np.testing.assert_allclose(encoder.encode_text(text), vectors["text"][row], atol=FLOAT16)


def test_a_profile_in_the_release_is_its_text_encoded(sides: Sides) -> None:
    release = sides.asker.catalog.release
    assert release.content_encoder is not None
    text = profile_text({"likes": "Fire"}, "ember flame furnace scarlet")
    assert text is not None
    profile = release.profile_of("newcomer-fire")
    assert profile is not None
    np.testing.assert_allclose(release.content_encoder.encode_text(text), profile, atol=FLOAT16)


def test_an_item_upserted_with_the_content_of_another_stands_beside_it(sides: Sides) -> None:
    release = sides.asker.catalog.release
    content = {modality.name: modality.vectors[12] for modality in release.modalities}
    spaces = {modality.name: modality.space_id for modality in release.modalities}
    twin = LiveItem("twin", {"item_id": "twin", "categories": ["Fire"]}, content, spaces, version=1)
    view = updated(sides.asker.catalog, 1, [twin])
    untrained = replace(sides.trained, trained=np.zeros(release.n_items, np.bool_))
    expected = untrained.item_vectors(sides.content.item_content(sides.dataset))[12]
    row = view.row("twin")
    assert row is not None
    np.testing.assert_allclose(view.vectors(np.array([row]))[0], expected, atol=TOLERANCE)
