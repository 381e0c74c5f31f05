"""Parity with transformers' own models, tokenizers and processors."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoTokenizer, CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from embeddings.onnx_encoder import OnnxEncoder
from embeddings.transformers_encoder import load_transformers
from recsys.errors import ConfigError, WeightsUnavailable
from tests.embeddings.parity import ONNX_TOLERANCE, TOLERANCE, gap, wrong_gaps

TEXTS = ["a red film", "two dogs, a blue dog.", "zebras", "a film about two dogs " * 20, "dogs"]


def their_mean_pool(folder: Path, texts: list[str], max_length: int) -> np.ndarray:
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    rows = []
    with torch.inference_mode():
        for text in texts:  # one at a time: no padding, so the mean is the plain mean
            inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=max_length)
            rows.append(model(**inputs).last_hidden_state[0].mean(0).numpy())
    return np.stack(rows)


def test_a_plain_bert_pools_the_mean_of_its_tokens(bert_folder: Path) -> None:
    image, text = load_transformers(f"transformers:{bert_folder}")
    assert image is None
    theirs = their_mean_pool(bert_folder, TEXTS, max_length=40)
    ours = text.forward([text.preprocess(content) for content in TEXTS])
    assert gap(ours, theirs) < TOLERANCE
    padding_counted = text.forward([np.pad(text.preprocess(content), (0, 1)) for content in TEXTS[:2]])
    assert gap(padding_counted, theirs[:2]) > 100 * TOLERANCE


def test_the_onnx_form_gives_the_same_vectors(bert_folder: Path) -> None:
    encoder = load_transformers(f"transformers:{bert_folder}")[1]
    exported = OnnxEncoder(encoder.onnx_form())
    for batch in (TEXTS, TEXTS[:1], TEXTS[2:4]):
        features = [encoder.preprocess(content) for content in batch]
        assert gap(exported.forward(features), encoder.forward(features)) < ONNX_TOLERANCE


@pytest.fixture
def sentence_folder(bert_folder: Path, tmp_path: Path) -> Path:
    """The same model as sentence-transformers saves it: CLS pooling, 12 tokens."""
    folder = tmp_path / "sentence"
    shutil.copytree(bert_folder, folder)
    (folder / "1_Pooling").mkdir()
    modes = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **modes}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 12}))
    kinds = ["Transformer", "Pooling", "Normalize"]
    modules = [{"type": f"sentence_transformers.models.{kind}"} for kind in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


def test_pooling_and_length_follow_sentence_transformers_files(sentence_folder: Path) -> None:
    encoder = load_transformers(f"transformers:{sentence_folder}")[1]
    model, tokenizer = AutoModel.from_pretrained(sentence_folder), AutoTokenizer.from_pretrained(sentence_folder)
    with torch.inference_mode():
        inputs = tokenizer(TEXTS[3], return_tensors="pt", truncation=True, max_length=12)
        theirs = model(**inputs).last_hidden_state[:, 0].numpy()
    assert gap(encoder.forward([encoder.preprocess(TEXTS[3])]), theirs) < TOLERANCE


def test_a_model_with_more_than_pooling_is_refused(sentence_folder: Path) -> None:
    modules = [{"type": "sentence_transformers.models.Dense"}]
    (sentence_folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ConfigError, match="Dense"):
        load_transformers(f"transformers:{sentence_folder}")


def test_weights_that_cannot_be_had_say_how_to_bring_them() -> None:
    with pytest.raises(WeightsUnavailable, match="transformers:path/to/folder"):
        load_transformers("transformers:no-such-owner/no-such-model")


@pytest.fixture(scope="module")
def hf_clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hf") / "clip"
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {**text, "image_size": 64, "patch_size": 16}
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    for letter in "abcdefghijklmnopqrstuvwxyz":
        vocabulary |= {letter: len(vocabulary), f"{letter}</w>": len(vocabulary) + 1}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[])
    tokenizer.save_pretrained(folder)
    text |= {"vocab_size": len(vocabulary), "eos_token_id": 1, "bos_token_id": 0, "pad_token_id": 1}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).save_pretrained(folder)
    sizes: dict[str, Any] = {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}
    CLIPImageProcessorPil(**sizes).save_pretrained(folder)
    return folder


def test_transformers_clip_images_and_texts_are_those_of_transformers(
    hf_clip_folder: Path, pictures: list[bytes]
) -> None:
    image, text = load_transformers(f"transformers:{hf_clip_folder}")
    assert image is not None
    model = CLIPModel.from_pretrained(hf_clip_folder).eval()
    processor = CLIPImageProcessorPil.from_pretrained(hf_clip_folder)
    tokenizer = AutoTokenizer.from_pretrained(hf_clip_folder)
    opened = [Image.open(io.BytesIO(content)) for content in pictures]
    words = ["a red film", "dogs", "a longer text of several words"]
    with torch.inference_mode():
        pixels = torch.from_numpy(np.stack(processor(opened)["pixel_values"]))
        their_images = model.get_image_features(pixel_values=pixels).pooler_output.numpy()
        inputs = tokenizer(words, return_tensors="pt", padding=True)
        their_texts = model.get_text_features(**inputs).pooler_output.numpy()
    assert gap(image.forward([image.preprocess(content) for content in pictures]), their_images) < TOLERANCE
    assert gap(text.forward([text.preprocess(word) for word in words]), their_texts) < TOLERANCE
    assert min(wrong_gaps(image, pictures, their_images).values()) > 100 * TOLERANCE
    for encoder, contents in ((image, pictures), (text, words)):
        features = [encoder.preprocess(content) for content in contents]
        exported = OnnxEncoder(encoder.onnx_form())
        assert gap(exported.forward(features), encoder.forward(features)) < ONNX_TOLERANCE
