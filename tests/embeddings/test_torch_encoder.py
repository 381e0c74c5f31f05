"""Rounded towers give nearly the same vectors, batches side by side give the same bytes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from embeddings.batching import BatchLimits
from embeddings.bundled_encoder import load_bundled_text
from embeddings.encoder import Encoder, space_of
from embeddings.open_clip_encoder import _CutTextTower, load_open_clip
from embeddings.preprocess.features import Content, Features
from embeddings.registry import load_encoders
from embeddings.rounding import is_transformer, round_matrices
from embeddings.torch_encoder import TorchEncoder
from embeddings.transformers_encoder import load_transformers
from recsys.errors import CorruptArtifact
from tests.embeddings.parity import TOLERANCE, gap, wrong_gaps

BF16_TOLERANCE = 2e-2  # eight bits, a few layers

TEXTS = ["a red film", "two dogs, a blue dog.", "zebras", "a film about two dogs " * 20, "dogs"]


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> tuple[TorchEncoder, TorchEncoder]:
    return load_open_clip(f"open_clip:{clip_folder}")


@pytest.fixture(scope="module")
def rounded_clip(clip_folder: Path) -> tuple[TorchEncoder, TorchEncoder]:
    return load_open_clip(f"open_clip:{clip_folder}", bf16=True)


def bert(folder: Path, *, bf16: bool = True) -> TorchEncoder:
    return load_transformers(f"transformers:{folder}", bf16=bf16)[1]


def features_of(encoder: Encoder, contents: Sequence[Content]) -> list[Features]:
    return [encoder.preprocess(content) for content in contents]


@pytest.mark.parametrize("bf16", [False, True])
def test_the_device_normalises_pixels_as_the_preprocessor_does(
    clip: tuple[TorchEncoder, TorchEncoder], pictures: list[bytes], bf16: bool
) -> None:
    preprocessor, tower = clip[0].preprocessor, torch.nn.Flatten()
    space = space_of("pixels", "image", "0" * 64, clip[0].preprocessor.config, 3 * 64 * 64)
    encoder = TorchEncoder(tower, space, preprocessor, input_names=("pixels",), bf16=bf16, rounded=(tower,))
    features = features_of(encoder, pictures)
    pixels = preprocessor.collate(features)["pixels"].reshape(len(pictures), -1)
    assert abs(encoder.forward(features) - pixels).max() < (2.0**-8 * abs(pixels).max() if bf16 else 1e-6)


def test_rounded_clip_towers_see_and_read_nearly_the_same(
    clip: tuple[TorchEncoder, TorchEncoder], rounded_clip: tuple[TorchEncoder, TorchEncoder], pictures: list[bytes]
) -> None:
    both: tuple[Sequence[Content], ...] = (pictures, TEXTS)
    for encoder, rounded, contents in zip(clip, rounded_clip, both, strict=True):
        features = features_of(encoder, contents)
        exact, nearly = encoder.forward(features), rounded.forward(features)
        assert 0.0 < gap(nearly, exact) < BF16_TOLERANCE
        assert (encoder.postprocess(exact) * rounded.postprocess(nearly)).sum(1).min() > 0.999
        assert rounded.space == encoder.space
        assert (encoder.compute, rounded.compute) == ("torch-fp32-cpu", "torch-bf16-cpu")
    exact = clip[0].forward(features_of(clip[0], pictures))
    assert min(wrong_gaps(rounded_clip[0], pictures, exact).values()) > 2 * BF16_TOLERANCE


def test_rounded_minilm_keeps_every_real_text_within_a_ten_thousandth(shared_data: Path) -> None:
    lines = (shared_data / "ml1m" / "items.jsonl").read_text(encoding="utf-8").splitlines()[::80]
    items = [json.loads(line) for line in lines]
    texts = [f"{item['title']}. {item['description'] or ''} {', '.join(item['categories'])}" for item in items]
    exact, rounded = load_bundled_text(), load_bundled_text(bf16=True)
    features = features_of(exact, texts)
    cosines = (exact.encode_features(features) * rounded.encode_features(features)).sum(1)
    assert cosines.min() >= 0.9999
    assert cosines.min() < 1 - 1e-7  # it was rounded


def test_clip_reads_short_texts_without_their_padding(
    clip: tuple[TorchEncoder, TorchEncoder], clip_folder: Path
) -> None:
    model = open_clip.create_model(f"local-dir:{clip_folder}", require_pretrained=True).eval()
    text = clip[1]
    cut = TorchEncoder(
        _CutTextTower(model), text.space, text.preprocessor, input_names=("input_ids",), cuts_padding=True
    )
    features = features_of(text, TEXTS)
    with torch.inference_mode():
        theirs = model.encode_text(torch.from_numpy(text.preprocessor.collate(features)["input_ids"])).numpy()
    for batch in ([0, 1, 2], [3], [0, 1, 2, 3, 4]):  # the fourth fills all 77 positions
        assert gap(cut.forward([features[place] for place in batch]), theirs[batch]) < TOLERANCE
    seen: list[int] = []
    model.token_embedding.register_forward_hook(lambda module, inputs, outputs: seen.append(outputs.shape[1]))
    cut.forward(features[:3])
    assert seen == [max(len(ids) for ids in features[:3])]
    assert seen[0] < 77


def watched(features: list[Features], taken: list[int]) -> Iterator[list[Features]]:
    for number, each in enumerate(features):
        taken.append(number)
        yield [each]


@pytest.mark.parametrize("parallel", [1, 3])
def test_batches_come_back_in_order_and_are_taken_when_needed(bert_folder: Path, parallel: int) -> None:
    encoder = bert(bert_folder)
    encoder.parallel = parallel
    features = features_of(encoder, TEXTS * 2)
    alone = [encoder.postprocess(encoder.forward([each])) for each in features]
    taken: list[int] = []
    many = encoder.forward_many(watched(features, taken))
    assert taken == []
    assert abs(next(many) - alone[0]).max() < TOLERANCE
    assert len(taken) <= parallel + 1
    for vectors, expected in zip(many, alone[1:], strict=True):
        assert vectors.dtype == np.float32
        assert abs(vectors - expected).max() < TOLERANCE


def test_a_gpus_order_of_work_gives_the_same(bert_folder: Path) -> None:
    encoder = bert(bert_folder)
    features = features_of(encoder, TEXTS)
    taken: list[int] = []
    ahead = encoder._one_ahead(watched(features, taken))
    first = next(ahead)
    assert taken == [0, 1]
    assert (np.concatenate([first, *ahead]) == np.concatenate([*encoder.forward_many([[f] for f in features])])).all()
    assert list(encoder._one_ahead([])) == []


def test_the_bytes_do_not_depend_on_how_many_threads_there_are(bert_folder: Path) -> None:
    encoder = bert(bert_folder)
    features = features_of(encoder, TEXTS * 4)
    limits = BatchLimits(max_items=3, max_tokens=64)
    runs = []
    before = torch.get_num_threads()
    try:
        for parallel, threads in ((1, 1), (1, 2), (2, 2), (4, 1)):
            encoder.parallel = parallel
            torch.set_num_threads(threads)
            runs.append(encoder.encode_features(features, limits).tobytes())
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert len(set(runs)) == 1


def test_compiled_pictures_fill_one_shape_and_are_cut_off_again(clip_folder: Path, pictures: list[bytes]) -> None:
    image, text = load_open_clip(f"open_clip:{clip_folder}", bf16=True)
    for encoder, contents in ((image, pictures), (text, TEXTS)):
        encoder.limits = BatchLimits(max_items=8)
        features = features_of(encoder, contents)
        plain = encoder.encode_features(features)
        encoder.compile(backend="eager")
        compiled = encoder.encode_features(features)
        assert compiled.shape == (len(contents), 32)
        assert (plain * compiled).sum(1).min() > 0.9999
    shapes: list[torch.Size] = []
    image._tower.register_forward_pre_hook(lambda module, inputs: shapes.append(inputs[0].shape))
    image.forward(features_of(image, pictures))
    assert shapes == [torch.Size([8, 3, 64, 64])]


def test_the_onnx_form_holds_the_weights_as_they_were_stored(clip_folder: Path, bert_folder: Path) -> None:
    for image, text in ((f"open_clip:{clip_folder}",) * 2, ("none", f"transformers:{bert_folder}")):
        exact = load_encoders(image, text, device="cpu", precision="fp32")
        rounded = load_encoders(image, text, device="cpu", precision="bf16")
        for one, other in ((exact.image, rounded.image), (exact.text, rounded.text)):
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                assert (one.compute, other.compute) == ("onnxruntime-fp32", "torch-bf16-cpu")
                assert one.onnx_form() == other.onnx_form()


def test_weights_exchanged_during_a_job_are_noticed(bert_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bert"
    shutil.copytree(bert_folder, folder)
    encoder = load_encoders("none", f"transformers:{folder}", device="cpu", precision="bf16").text
    assert encoder is not None
    tensors = load_file(folder / "model.safetensors")
    save_file({name: tensor * 2 for name, tensor in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CorruptArtifact, match="exchanged while it was at work"):
        encoder.onnx_form()


def test_only_matrices_are_rounded_and_convolutional_towers_are_told_apart() -> None:
    patches = torch.nn.Conv2d(3, 8, 4)
    layer = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.LayerNorm(8), torch.nn.MultiheadAttention(8, 2))
    tower = torch.nn.Sequential(patches, torch.nn.Embedding(4, 8), layer)
    assert is_transformer(tower)
    assert not is_transformer(torch.nn.Sequential(patches, torch.nn.Conv2d(8, 8, 3)))
    round_matrices(tower)
    kept = {name for name, weight in tower.named_parameters() if weight.dtype == torch.float32}
    assert kept == {"1.weight", "2.1.weight", "2.1.bias"}


def test_a_convolutional_clip_stays_in_float32(tmp_path: Path) -> None:
    vision = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    (tmp_path / "tiny-rn.json").write_text(json.dumps({"embed_dim": 32, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(tmp_path / "tiny-rn.json")
    save_file(open_clip.create_model("tiny-rn").state_dict(), tmp_path / "weights.safetensors")
    for encoder in load_open_clip(f"open_clip:tiny-rn/{tmp_path}/weights.safetensors", bf16=True):
        assert encoder.compute == "torch-fp32-cpu"
