"""A release's encoders as the service uses them."""

from __future__ import annotations

from pathlib import Path

import pytest

from embeddings.content_encoder import OnnxContentEncoder
from embeddings.fake_encoder import FakeEncoder
from embeddings.onnx_encoder import export
from recsys.errors import CorruptArtifact, InvalidRequest
from tests.embeddings.conftest import picture, saved


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return export(FakeEncoder("image"), tmp_path) | export(FakeEncoder("text"), tmp_path)


def test_it_encodes_as_the_jobs_did(files: dict[str, Path]) -> None:
    encoder, photo = OnnxContentEncoder.open(files), saved(picture())
    assert abs(encoder.encode_text("two toys") - FakeEncoder("text").encode(["two toys"])[0]).max() < 1e-6
    assert abs(encoder.encode_image(photo) - FakeEncoder("image").encode([photo])[0]).max() < 1e-6
    assert encoder.space_ids == {name: FakeEncoder(name).space.space_id for name in ("image", "text")}


def test_what_cannot_be_encoded_is_the_requests_fault(files: dict[str, Path]) -> None:
    with pytest.raises(InvalidRequest, match="not an image") as refused:
        OnnxContentEncoder.open(files).encode_image(b"no picture")
    assert refused.value.field == "/image"
    only_text = {name: path for name, path in files.items() if name.startswith("text")}
    with pytest.raises(InvalidRequest, match="no image encoder"):
        OnnxContentEncoder.open(only_text).encode_image(saved(picture()))


def test_a_release_without_the_graph_is_corrupt(files: dict[str, Path]) -> None:
    del files["text_encoder.onnx"]
    with pytest.raises(CorruptArtifact, match=r"text_encoder\.onnx is missing"):
        OnnxContentEncoder.open(files)
