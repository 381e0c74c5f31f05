"""An exported encoder opens from anywhere, and damaged files are refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from embeddings.fake_encoder import FakeEncoder
from embeddings.onnx_encoder import OnnxEncoder, export
from embeddings.transformers_encoder import load_transformers
from recsys.errors import CorruptArtifact, MissingArtifact
from recsys.manifest import sha256_bytes


@pytest.fixture
def exported(bert_folder: Path, tmp_path: Path) -> dict[str, Path]:
    encoder = load_transformers(f"transformers:{bert_folder}")[1]
    return export(encoder, tmp_path / "exported")


def test_files_stored_by_content_open_too(exported: dict[str, Path], tmp_path: Path) -> None:
    objects = tmp_path / "objects"
    objects.mkdir()
    moved = {}
    for name, path in exported.items():
        content = path.read_bytes()
        moved[name] = objects / sha256_bytes(content)
        moved[name].write_bytes(content)
    description = json.loads(moved["text_encoder.json"].read_bytes())
    opened = OnnxEncoder.open(description, moved["text_encoder.onnx"], moved["tokenizer.json"])
    loaded = OnnxEncoder.load(exported["text_encoder.onnx"].parent, "text")
    assert opened.space == loaded.space
    assert (opened.encode(["a red film"]) == loaded.encode(["a red film"])).all()


def test_the_same_weights_give_the_same_bytes(exported: dict[str, Path], bert_folder: Path, tmp_path: Path) -> None:
    again = export(load_transformers(f"transformers:{bert_folder}")[1], tmp_path / "again")
    assert {name: path.read_bytes() for name, path in again.items()} == {
        name: path.read_bytes() for name, path in exported.items()
    }


def test_no_path_of_this_machine_is_in_the_graph(exported: dict[str, Path]) -> None:
    content = exported["text_encoder.onnx"].read_bytes()
    assert b"site-packages" not in content
    assert b".py" not in content


def test_image_and_text_share_a_folder(tmp_path: Path) -> None:
    for modality in ("image", "text"):
        export(FakeEncoder(modality), tmp_path)
    assert OnnxEncoder.load(tmp_path, "image").space.modality == "image"
    assert OnnxEncoder.load(tmp_path, "text").space.modality == "text"


def test_an_exported_encoder_exports_itself_unchanged(exported: dict[str, Path], tmp_path: Path) -> None:
    loaded = OnnxEncoder.load(exported["text_encoder.onnx"].parent, "text")
    copies = export(loaded, tmp_path / "copy")
    assert all(copies[name].read_bytes() == path.read_bytes() for name, path in exported.items())


def test_a_missing_file_is_named(exported: dict[str, Path]) -> None:
    exported["tokenizer.json"].unlink()
    with pytest.raises(MissingArtifact, match=r"tokenizer\.json"):
        OnnxEncoder.load(exported["text_encoder.onnx"].parent, "text")
    with pytest.raises(MissingArtifact, match=r"image_encoder\.json is not there"):
        OnnxEncoder.load(exported["text_encoder.onnx"].parent, "image")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text_encoder.onnx", b"no graph"),
        ("text_encoder.json", b"{"),
        ("text_encoder.json", b'{"format": 2}'),
        ("text_encoder.json", b'{"format": 1, "space": {}}'),
        ("tokenizer.json", b"{}"),
    ],
)
def test_a_damaged_file_is_refused(exported: dict[str, Path], name: str, content: bytes) -> None:
    exported[name].write_bytes(content)
    with pytest.raises(CorruptArtifact):
        OnnxEncoder.load(exported["text_encoder.onnx"].parent, "text")
