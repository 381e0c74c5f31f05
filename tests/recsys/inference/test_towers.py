"""The adapters, on two small graphs whose answers are known; that real towers answer as torch does is tested with
their export (`tests.recsys.models.test_export`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from recsys.errors import ArtifactError, CorruptArtifact
from recsys.inference.towers import OnnxItemTower, OnnxQueryTower

D, PROFILE, IMAGE, CATEGORIES = 3, 2, 4, 2
Floats = NDArray[np.float32]


def write(path: Path, nodes: list[Any], inputs: dict[str, tuple[Any, Any]], output: str) -> Path:
    graph = helper.make_graph(
        nodes,
        "tower",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["B", D])],
        [
            helper.make_tensor("one", TensorProto.INT64, [1], [1]),
            helper.make_tensor("two", TensorProto.INT64, [1], [2]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def as_float(name: str, axis: str | None = None) -> list[Any]:
    """`name` as float32 in `name_f`, with one more axis where one is given."""
    cast = helper.make_node("Cast", [name], [f"{name}_f" if axis is None else f"{name}_c"], to=TensorProto.FLOAT)
    return [cast] if axis is None else [cast, helper.make_node("Unsqueeze", [f"{name}_c", axis], [f"{name}_f"])]


def query_tower(folder: Path, *, profiles: bool = False) -> Path:
    """query = sum over the history of (1 + event type) * vector + length [+ mask * (1 + sum of the profile)]."""
    inputs: dict[str, tuple[Any, Any]] = {
        "history": (TensorProto.FLOAT, ["B", "T", D]),
        "event_types": (TensorProto.INT64, ["B", "T"]),
        "lengths": (TensorProto.INT64, ["B"]),
    }
    nodes = [
        *as_float("event_types", "two"),
        *as_float("lengths", "one"),
        helper.make_node("Mul", ["history", "event_types_f"], ["typed"]),
        helper.make_node("Add", ["history", "typed"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "one"], ["total"], keepdims=0),
        helper.make_node("Add", ["total", "lengths_f"], ["behaviour" if profiles else "query"]),
    ]
    if profiles:
        inputs |= {"user_text": (TensorProto.FLOAT, ["B", PROFILE]), "user_text_mask": (TensorProto.BOOL, ["B"])}
        nodes += [
            *as_float("user_text_mask", "one"),
            helper.make_node("Mul", ["user_text", "user_text_mask_f"], ["told"]),
            helper.make_node("ReduceSum", ["told", "one"], ["of_profile"], keepdims=1),
            helper.make_node("Add", ["behaviour", "of_profile"], ["with_profile"]),
            helper.make_node("Add", ["with_profile", "user_text_mask_f"], ["query"]),
        ]
    return write(folder / "query_tower.onnx", nodes, inputs, "query")


def item_tower(folder: Path) -> Path:
    """item = id_mask * id + image_mask * sum of the image + sum of the categories."""
    nodes = [
        *as_float("id_mask", "one"),
        *as_float("image_mask", "one"),
        helper.make_node("Mul", ["id_vector", "id_mask_f"], ["by_id"]),
        helper.make_node("Mul", ["image", "image_mask_f"], ["seen"]),
        helper.make_node("ReduceSum", ["seen", "one"], ["by_image"], keepdims=1),
        helper.make_node("ReduceSum", ["categories", "one"], ["by_category"], keepdims=1),
        helper.make_node("Add", ["by_id", "by_image"], ["so_far"]),
        helper.make_node("Add", ["so_far", "by_category"], ["item"]),
    ]
    inputs: dict[str, tuple[Any, Any]] = {
        "id_vector": (TensorProto.FLOAT, ["B", D]),
        "id_mask": (TensorProto.BOOL, ["B"]),
        "image": (TensorProto.FLOAT, ["B", IMAGE]),
        "image_mask": (TensorProto.BOOL, ["B"]),
        "categories": (TensorProto.FLOAT, ["B", CATEGORIES]),
    }
    return write(folder / "item_tower.onnx", nodes, inputs, "item")


HISTORY = np.array([[1, 2, 3], [10, 20, 30]], np.float32)


def test_history_event_types_and_length_go_in_and_one_query_vector_comes_out(tmp_path: Path) -> None:
    tower = OnnxQueryTower(query_tower(tmp_path))
    query = tower.encode(HISTORY, np.array([0, 2]))
    assert (tower.dim, query.shape) == (D, (D,))
    assert query.dtype == np.float32
    assert query.tolist() == [1 + 3 * 10 + 2, 2 + 3 * 20 + 2, 3 + 3 * 30 + 2]


def test_an_empty_history_is_one_row_of_zeros_of_length_0(tmp_path: Path) -> None:
    tower = OnnxQueryTower(query_tower(tmp_path))
    assert tower.encode(np.empty((0, D), np.float32), np.empty(0, np.int64)).tolist() == [0, 0, 0]


def test_a_profile_counts_and_without_one_it_is_masked(tmp_path: Path) -> None:
    tower = OnnxQueryTower(query_tower(tmp_path, profiles=True))
    nothing, no_types = np.empty((0, D), np.float32), np.empty(0, np.int64)
    assert tower.encode(nothing, no_types, np.array([5, 7], np.float32)).tolist() == [13, 13, 13]
    assert tower.encode(nothing, no_types).tolist() == [0, 0, 0]


def test_a_tower_that_reads_no_profile_is_given_none(tmp_path: Path) -> None:
    tower = OnnxQueryTower(query_tower(tmp_path))
    with_profile = tower.encode(HISTORY, np.array([0, 0]), np.array([5, 7], np.float32))
    assert with_profile.tolist() == tower.encode(HISTORY, np.array([0, 0])).tolist()


def test_many_queries_go_through_together_as_they_do_one_by_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    histories = rng.random((4, 3, D)).astype(np.float32)
    types, lengths = rng.integers(0, 3, (4, 3)), np.array([3, 1, 0, 2])
    for at, length in enumerate(lengths):
        histories[at, length:] = 0  # this little tower reads the padding as well
    profile, reads = np.array([5, 7], np.float32), np.array([True, False, True, False])
    tower = OnnxQueryTower(query_tower(tmp_path, profiles=True))

    def one(at: int, told: Floats | None) -> Floats:
        return tower.encode(histories[at, : lengths[at]], types[at, : lengths[at]], told)

    together = tower.encode_many(histories, types, lengths, profile, reads)
    assert np.allclose(together, [one(at, profile if reads[at] else None) for at in range(4)])
    assert np.allclose(tower.encode_many(histories, types, lengths, profile), [one(at, profile) for at in range(4)])
    assert np.allclose(tower.encode_many(histories, types, lengths), [one(at, None) for at in range(4)])


def test_many_queries_may_have_no_history(tmp_path: Path) -> None:
    tower = OnnxQueryTower(query_tower(tmp_path))
    nothing, no_types = np.empty((2, 0, D), np.float32), np.empty((2, 0), np.int64)
    assert tower.encode_many(nothing, no_types, np.zeros(2, np.int64)).tolist() == [[0] * D] * 2


def test_a_new_item_has_no_id_and_its_absent_content_is_masked(tmp_path: Path) -> None:
    tower = OnnxItemTower(item_tower(tmp_path))
    image, both = np.array([1, 2, 3, 4], np.float32), np.array([True, True])
    assert tower.dim == D
    assert tower.encode_new({"image": image}, both).tolist() == [10 + 2] * D
    assert tower.encode_new({}, np.array([False, True])).tolist() == [1] * D
    assert tower.encode_new({"audio": image, "image": image}, ~both).tolist() == [10] * D  # reads no audio


def test_items_go_through_together_as_they_do_one_by_one(tmp_path: Path) -> None:
    tower, rng = OnnxItemTower(item_tower(tmp_path)), np.random.default_rng(0)
    ids, id_mask = rng.random((5, D)), np.array([True, False, True, True, False])
    images, image_mask = rng.random((5, IMAGE)).astype(np.float32), np.array([True, True, False, True, False])
    categories = rng.random((5, CATEGORIES)) < 0.5
    together = tower.encode_batch(ids, id_mask, {"image": (images, image_mask)}, categories)
    one_by_one = [
        tower.encode_batch(ids[[at]], id_mask[[at]], {"image": (images[[at]], image_mask[[at]])}, categories[[at]])[0]
        for at in range(5)
    ]
    assert together.dtype == np.float32
    assert np.allclose(together, one_by_one)
    assert np.allclose(together[4], categories[4].sum())


def test_input_that_does_not_fit_is_an_artifact_error(tmp_path: Path) -> None:
    query, item = OnnxQueryTower(query_tower(tmp_path)), OnnxItemTower(item_tower(tmp_path))
    with pytest.raises(ArtifactError, match="a tower failed"):
        item.encode_new({"image": np.ones(IMAGE + 1, np.float32)}, np.zeros(CATEGORIES, np.bool_))
    with pytest.raises(ArtifactError, match="a tower failed"):
        item.encode_new({}, np.zeros(CATEGORIES + 1, np.bool_))
    with pytest.raises(ArtifactError, match="a tower failed"):
        query.encode(np.ones((2, D + 1), np.float32), np.array([0, 0]))


def test_a_file_that_is_no_model_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "query_tower.onnx"
    path.write_bytes(b"not a graph")
    for tower in (OnnxQueryTower, OnnxItemTower):
        with pytest.raises(CorruptArtifact, match=r"query_tower\.onnx"):
            tower(path)


def test_one_tower_in_the_place_of_the_other_is_corrupt(tmp_path: Path) -> None:
    query, item = query_tower(tmp_path), item_tower(tmp_path)
    with pytest.raises(CorruptArtifact, match="no query tower, it reads id_vector"):
        OnnxQueryTower(item)
    with pytest.raises(CorruptArtifact, match="no item tower, it reads history"):
        OnnxItemTower(query)
