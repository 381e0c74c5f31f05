import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import CorruptArtifact, MissingArtifact, SpaceMismatch
from recsys.inference.towers import OnnxItemTower, OnnxQueryTower
from recsys.models.export import ITEM_TOWER_FILE, QUERY_TOWER_FILE, export_towers
from recsys.models.model import SPEC_FILE, WEIGHTS_FILE, TrainedModel, load_model, save_model, spec_of
from recsys.models.run import id_vectors
from recsys.models.two_tower import TwoTower
from tests.recsys.models.chain import (
    MODEL,
    N_ITEMS,
    chain_content,
    chain_profiles,
    chain_sequences,
    unit_vectors,
)


def model_of(*, ordered=True, profiles=True, seed=0):
    """Towers with random weights everywhere, so that no input is without effect."""
    torch.manual_seed(seed)
    users = chain_profiles() if profiles else None
    spec = spec_of(chain_sequences(ordered=ordered), chain_content(), users, MODEL, "of the chain")
    towers = TwoTower(spec)
    for name, parameter in towers.named_parameters():
        if "norm" not in name and "log_" not in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return TrainedModel.of(spec, towers.state_dict(), np.arange(N_ITEMS) != 5)


@pytest.fixture(scope="module", params=["ordered", "unordered", "without profiles"])
def exported(request, tmp_path_factory):
    model = model_of(ordered=request.param != "unordered", profiles=request.param != "without profiles")
    folder = tmp_path_factory.mktemp("onnx")
    export_towers(model, folder)
    return model, folder


def query_inputs(model, n, t, lengths):
    inputs = {
        "history": unit_vectors(n * t, MODEL.dim, 7).reshape(n, t, MODEL.dim),
        "event_types": np.random.default_rng(0).integers(0, 3, (n, t)),
        "lengths": np.array(lengths, np.int64),
    }
    if model.spec.user_text:
        inputs |= {"user_text": unit_vectors(n, 5, 8), "user_text_mask": np.arange(n) % 2 == 0}
    return inputs


@pytest.mark.parametrize(
    ("n", "t", "lengths"), [(1, 1, [0]), (1, 1, [1]), (1, 8, [8]), (3, 5, [5, 0, 2]), (7, 2, [2, 1, 0, 2, 1, 0, 2])]
)
def test_the_query_tower_answers_as_torch_does(exported, n, t, lengths):
    model, folder = exported
    inputs = query_inputs(model, n, t, lengths)
    [answer] = ort.InferenceSession(folder / QUERY_TOWER_FILE).run(["query"], inputs)
    with torch.no_grad():
        expected = model.towers.query(*(torch.from_numpy(each) for each in inputs.values())).numpy()
    assert answer.dtype == np.float32
    assert answer.shape == (n, MODEL.dim)
    assert np.abs(answer - expected).max() <= 1e-4


def test_the_item_tower_answers_as_the_projection_does(exported):
    model, folder = exported
    content = chain_content()
    inputs = {"id_vector": id_vectors(model), "id_mask": model.trained}
    for modality in content.modalities:
        inputs |= {modality.name: modality.vectors, f"{modality.name}_mask": modality.present}
    inputs["categories"] = content.categories.astype(np.float32)
    [answer] = ort.InferenceSession(folder / ITEM_TOWER_FILE).run(["item"], inputs)
    assert np.abs(answer - model.item_vectors(content)).max() <= 1e-4


def test_the_service_s_towers_take_the_files_as_they_are(exported):
    _, folder = exported
    query_tower, item_tower = OnnxQueryTower(folder / QUERY_TOWER_FILE), OnnxItemTower(folder / ITEM_TOWER_FILE)
    nobody = query_tower.encode(np.zeros((0, MODEL.dim), np.float32), np.zeros(0, np.int64))
    assert nobody.shape == (MODEL.dim,)
    assert np.linalg.norm(nobody) == pytest.approx(MODEL.temperature, rel=1e-4)
    new = item_tower.encode_new({"text": unit_vectors(1, 5, 9)[0]}, np.array([True, False]))
    assert np.linalg.norm(new) == pytest.approx(1, rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    anything=st.lists(st.floats(width=32), min_size=6 + 5 + MODEL.dim, max_size=6 + 5 + MODEL.dim),
    has_id=st.booleans(),
    has_image=st.booleans(),
    has_text=st.booleans(),
)
def test_what_is_masked_has_no_say_in_the_item_tower_whatever_it_holds(exported, anything, has_id, has_image, has_text):
    _, folder = exported
    tower = OnnxItemTower(folder / ITEM_TOWER_FILE)
    image, text, id_vector = (np.array([part], np.float32) for part in (anything[:6], anything[6:11], anything[11:]))
    known = {"image": (unit_vectors(1, 6, 1), has_image), "text": (unit_vectors(1, 5, 2), has_text)}
    held = {"image": (image, has_image), "text": (text, has_text)}
    mine = unit_vectors(1, MODEL.dim, 3)

    def encode(id_vectors, parts):
        content = {name: (vectors, np.array([is_there])) for name, (vectors, is_there) in parts.items()}
        return tower.encode_batch(id_vectors, np.array([has_id]), content, np.array([[True, False]]))

    with_zeros = {
        name: (np.zeros_like(vectors) if not there else vectors, there) for name, (vectors, there) in known.items()
    }
    with_anything = {name: known[name] if there else held[name] for name, (_, there) in known.items()}
    expected = encode(mine if has_id else np.zeros_like(mine), with_zeros)
    assert np.isfinite(expected).all()
    assert np.array_equal(encode(mine if has_id else id_vector, with_anything), expected)
    left_out = {name: part for name, part in known.items() if part[1]}
    assert np.array_equal(encode(mine, left_out), expected)


def test_a_zero_vector_that_is_there_says_something_else_than_a_missing_one(exported):
    _, folder = exported
    tower, categories = OnnxItemTower(folder / ITEM_TOWER_FILE), np.array([True, False])
    of_zeros = tower.encode_new({"image": np.zeros(6, np.float32)}, categories)
    assert np.abs(of_zeros - tower.encode_new({}, categories)).max() > 1e-3


def test_a_history_of_vectors_gives_the_query_of_the_model(exported):
    model, folder = exported
    sequences = chain_sequences(ordered=model.spec.model.ordered)
    vectors = model.item_vectors(chain_content())
    profiles = chain_profiles() if model.spec.user_text else None
    users = np.arange(4)
    expected = model.query_vectors(vectors, sequences, users, profiles)
    tower = OnnxQueryTower(folder / QUERY_TOWER_FILE)
    for user in users:
        latest = sequences.of(int(user))
        rows, types = sequences.item_rows[latest][-MODEL.max_history :], sequences.event_types[latest]
        text = profiles.text.vectors[user // 2] if profiles and user % 2 == 0 else None
        answer = tower.encode(vectors[rows], types[-MODEL.max_history :], text)
        assert np.abs(answer - expected[user]).max() <= 1e-4


def test_the_same_weights_give_the_same_bytes_and_name_no_machine(tmp_path):
    for name in ("one", "two"):
        export_towers(model_of(), tmp_path / name)
    for file in (QUERY_TOWER_FILE, ITEM_TOWER_FILE):
        data = (tmp_path / "one" / file).read_bytes()
        assert data == (tmp_path / "two" / file).read_bytes()
        assert b"site-packages" not in data
        assert b".py" not in data


def test_other_weights_give_other_bytes(tmp_path):
    for seed in (0, 1):
        export_towers(model_of(seed=seed), tmp_path / str(seed))
    assert (tmp_path / "0" / QUERY_TOWER_FILE).read_bytes() != (tmp_path / "1" / QUERY_TOWER_FILE).read_bytes()


def test_a_saved_model_is_loaded_as_it_was_and_saves_to_the_same_bytes(tmp_path):
    model = model_of()
    save_model(model, tmp_path / "one")
    loaded = load_model(tmp_path / "one")
    save_model(loaded, tmp_path / "two")
    assert loaded.spec == model.spec
    assert np.array_equal(loaded.trained, model.trained)
    assert np.array_equal(loaded.item_vectors(chain_content()), model.item_vectors(chain_content()))
    for file in (WEIGHTS_FILE, SPEC_FILE):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_missing_model_names_the_job_and_a_broken_one_is_refused(tmp_path):
    with pytest.raises(MissingArtifact, match="recsys train"):
        load_model(tmp_path)
    save_model(model_of(), tmp_path)
    whole = (tmp_path / WEIGHTS_FILE).read_bytes()
    (tmp_path / WEIGHTS_FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptArtifact):
        load_model(tmp_path)


def test_content_of_another_encoder_is_refused():
    model, content = model_of(), chain_content()
    other = type(content)(content.n_items, content.modalities[::-1], content.category_names, content.categories)
    with pytest.raises(SpaceMismatch):
        model.item_vectors(other)


def test_an_untrained_item_s_id_vector_has_no_say():
    model = model_of()
    before = model.item_vectors(chain_content())
    with torch.no_grad():
        model.towers.ids.embeddings["item"].weight[5] += 3
        model.towers.ids.embeddings["item"].weight[6] += 3
    after = model.item_vectors(chain_content())
    assert np.array_equal(before[5], after[5])
    assert not np.array_equal(before[6], after[6])
