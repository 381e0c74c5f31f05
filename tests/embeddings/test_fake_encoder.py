"""The fake encoder means something, and takes the same road into a release as the real ones."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from embeddings.encoder import Encoder
from embeddings.fake_encoder import FakeEncoder
from embeddings.onnx_encoder import OnnxEncoder, export
from recsys.errors import InputError
from tests.embeddings.parity import TOLERANCE


def colour(name: str, *, mark: int = 0) -> bytes:
    image = Image.new("RGB", (40, 30), name)
    image.putpixel((0, 0), (mark, mark, mark))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_texts_with_equal_words_are_near_and_others_are_not() -> None:
    toys, more_toys, tax = FakeEncoder("text").encode(["two lost toys", "Lost toys, two!", "the tax law"])
    assert toys @ more_toys > 0.9
    assert abs(toys @ tax) < 0.5


def test_pictures_of_equal_colour_are_near_and_others_are_not() -> None:
    red, red_too, blue = FakeEncoder("image").encode([colour("red"), colour("red", mark=9), colour("blue")])
    assert red @ red_too > 0.9
    assert red @ blue < 0.5


def test_no_two_contents_have_equal_vectors_and_the_same_content_always_has() -> None:
    encoder = FakeEncoder("text")
    one, other, again = encoder.encode(["two toys", "toys two", "two toys"])
    assert abs(one - other).max() > 1e-4
    assert (one == again).all()
    np.testing.assert_allclose(one, FakeEncoder("text").encode(["two toys"])[0], atol=1e-6)


@pytest.mark.parametrize("modality", ["text", "image"])
def test_its_onnx_form_is_real_and_equal(modality: str, tmp_path: Path) -> None:
    encoder: Encoder = FakeEncoder(modality)
    contents = ["one text", "two texts"] if modality == "text" else [colour("red"), colour("green")]
    files = export(encoder, tmp_path)
    assert set(files) == {f"{modality}_encoder.onnx", f"{modality}_encoder.json"}
    loaded = OnnxEncoder.load(tmp_path, modality)
    assert loaded.space == encoder.space
    assert abs(loaded.encode(contents) - encoder.encode(contents)).max() < TOLERANCE


def test_vectors_have_length_one() -> None:
    np.testing.assert_allclose(np.linalg.norm(FakeEncoder("text").encode(["a", "b c"]), axis=1), 1.0, rtol=1e-6)


def test_what_cannot_be_encoded_is_refused() -> None:
    for modality, content in (("text", b"bytes"), ("text", " "), ("image", "text"), ("image", b"no image")):
        with pytest.raises(InputError):
            FakeEncoder(modality).encode([content])


def test_the_service_side_loads_neither_torch_nor_the_model_libraries() -> None:
    code = (
        "import sys\n"
        "import embeddings.onnx_encoder, embeddings.preprocess.build, embeddings.preprocess.clip_bpe\n"
        "import embeddings.item_text, embeddings.embed, embeddings.stored, embeddings.registry\n"
        "embeddings.registry.load_encoders('fake', 'fake')\n"
        "heavy = {'torch', 'torchvision', 'transformers', 'open_clip', 'timm', 'onnx', 'huggingface_hub', 'ftfy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"
