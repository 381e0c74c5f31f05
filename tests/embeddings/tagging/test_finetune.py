"""A fine-tuned encoder tells pictures apart that the frozen one does not, and is an encoder like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from embeddings.engines.spec import WorkerSpec, load_encoder, parse_spec
from embeddings.onnx_encoder import OnnxEncoder
from embeddings.registry import load_encoders, load_torch_image
from embeddings.tagging.finetune import FineTuned, TuneProgress, finetune
from recsys.errors import ConfigError, CorruptArtifact, InputError, SpaceMismatch, WeightsUnavailable
from recsys.tagging_config import TagTrainingConfig
from tests.embeddings.parity import ONNX_TOLERANCE, gap
from tests.embeddings.tagging.shapes import shapes

CONFIG = TagTrainingConfig(learning_rate=1e-2, lora_epochs=8, lora_rank=8, lora_blocks=2)


def one_hot(classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels = np.eye(classes.max() + 1, dtype=np.float32)[classes]
    return labels, np.ones_like(labels, bool)


@pytest.fixture(scope="module")
def vit_spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    from transformers import ViTConfig, ViTModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    folder = tmp_path_factory.mktemp("vit") / "vit"
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    ViTModel(ViTConfig(image_size=64, patch_size=16, initializer_range=0.1, **sizes)).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
    return f"transformers:{folder}"


@pytest.fixture(scope="module")
def tuned(vit_spec: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[FineTuned, list[TuneProgress]]:
    """Disc or cross, red or blue: the class is whether exactly one of both is so, which no linear head can tell."""
    pictures, disc, blue = shapes(240)
    told: list[TuneProgress] = []
    folder = tmp_path_factory.mktemp("tuned") / "encoder"
    with_damaged = [*pictures[:5], b"no picture", *pictures[5:]]
    labels, known = one_hot(np.insert(disc ^ blue, 5, 0))
    return finetune(vit_spec, with_damaged, labels, known, CONFIG, folder, told.append, device="cpu"), told


def vectors(spec: str, pictures: list[bytes]) -> np.ndarray:
    encoder = load_encoders(spec, "none", device="cpu", precision="fp32").image
    assert encoder is not None
    return encoder.encode(pictures)


def linear_accuracy(spec: str) -> float:
    """Of a linear head fitted to the training pictures, on others."""
    (pictures, disc, blue), (held_out, their_disc, their_blue) = shapes(240), shapes(200, seed=9)
    x, y = vectors(spec, pictures), 2.0 * (disc ^ blue) - 1
    x = np.column_stack([x, np.ones(len(x))])
    weights = np.linalg.solve(x.T @ x + 1e-2 * np.eye(x.shape[1]), x.T @ y)
    others = vectors(spec, held_out)
    said = np.column_stack([others, np.ones(len(others))]) @ weights > 0
    return float((said == (their_disc ^ their_blue)).mean())


def test_held_out_pictures_are_told_apart_better_than_by_the_frozen_encoder(
    vit_spec: str, tuned: tuple[FineTuned, list[TuneProgress]]
) -> None:
    frozen_accuracy, tuned_accuracy = linear_accuracy(vit_spec), linear_accuracy(tuned[0].spec)
    assert tuned_accuracy > 0.9
    assert tuned_accuracy > frozen_accuracy + 0.1


def test_the_new_encoder_is_loaded_by_its_name_alone(
    vit_spec: str, tuned: tuple[FineTuned, list[TuneProgress]], pictures: list[bytes]
) -> None:
    found = tuned[0]
    encoder = load_encoders(found.spec, "none", device="cpu", threads=2).image
    assert isinstance(encoder, OnnxEncoder)
    assert encoder.parallel == 2
    assert encoder.space == found.space
    base = load_torch_image(vit_spec, device="cpu")
    assert encoder.space.preprocessing == base.space.preprocessing
    assert encoder.space.weights_sha256 != base.space.weights_sha256
    assert encoder.space.encoder == f"finetuned:{base.space.encoder}"
    assert gap(encoder.encode(pictures), base.encode(pictures)) > 0.05


def test_a_worker_of_an_engine_loads_it_for_the_job_that_was_planned(
    vit_spec: str, tuned: tuple[FineTuned, list[TuneProgress]], tmp_path: Path
) -> None:
    found = tuned[0]
    told = WorkerSpec(modality="image", encoder=found.spec, space=found.space, store_dir=tmp_path)
    assert load_encoder(parse_spec(told.model_dump_json())).space == found.space
    with pytest.raises(SpaceMismatch):
        load_encoder(told.model_copy(update={"encoder": vit_spec}))


def test_what_was_done_is_told(tuned: tuple[FineTuned, list[TuneProgress]]) -> None:
    found, told = tuned
    assert [each.epoch for each in told] == list(range(9))
    assert found.frozen == told[0].validation
    assert found.tuned == told[found.best_epoch].validation
    assert found.tuned.loss == min(each.validation.loss for each in told)
    assert found.refused == ((5, "unknown_format"),)
    assert found.n_train + len(found.validation_rows) == 240
    assert 5 not in found.validation_rows
    assert found.n_weights == sum(8 * (32 + 32) * 4 + 8 * (32 + 128) * 2 for _ in range(2))


def test_the_same_seed_gives_the_same_encoder(vit_spec: str, tmp_path: Path) -> None:
    pictures, disc, _ = shapes(40)
    config = CONFIG.model_copy(update={"lora_epochs": 2})
    spaces = [
        finetune(vit_spec, pictures, *one_hot(disc), config, tmp_path / "again", device="cpu", decode_workers=0).space
        for _ in range(2)
    ]
    assert spaces[0] == spaces[1]


def test_without_an_epoch_that_helps_the_weights_stay(vit_spec: str, tmp_path: Path, pictures: list[bytes]) -> None:
    drawn, _, _ = shapes(40)
    chance, known = one_hot(np.random.default_rng(3).integers(0, 2, 40))
    config = CONFIG.model_copy(update={"lora_epochs": 3, "learning_rate": 1.0})
    found = finetune(vit_spec, drawn, chance, known, config, tmp_path, device="cpu", decode_workers=0)
    assert found.best_epoch == 0
    assert found.tuned == found.frozen
    base = load_torch_image(vit_spec, device="cpu").encode(pictures)
    assert gap(vectors(found.spec, pictures), base) < ONNX_TOLERANCE


def test_tags_that_may_meet_are_learned_where_they_are_known(vit_spec: str, tmp_path: Path) -> None:
    pictures, disc, blue = shapes(80)
    labels = np.stack([disc, blue, disc ^ blue], 1).astype(np.float32)
    known = np.random.default_rng(0).random(labels.shape) < 0.8
    config = CONFIG.model_copy(update={"lora_epochs": 4})
    runs = [
        finetune(vit_spec, pictures, given, known, config, tmp_path, device="cpu", decode_workers=0)
        for given in (labels, np.where(known, labels, 1 - labels), np.where(known, 1 - labels, labels))
    ]
    assert runs[0].tuned.loss < runs[0].frozen.loss
    assert runs[0] == runs[1]  # what is not known is not learned
    assert runs[0].space != runs[2].space


def test_the_bundled_encoder_is_fine_tuned_too(tmp_path: Path) -> None:
    pictures, disc, blue = shapes(20)
    config = CONFIG.model_copy(update={"lora_epochs": 1})
    found = finetune("bundled@64", pictures, *one_hot(disc ^ blue), config, tmp_path, device="cpu", decode_workers=0)
    assert vectors(found.spec, pictures).shape == (20, 1280)
    assert all(layer.startswith(("blocks.5.4.", "blocks.6.0.")) for layer in found.layers)


def test_what_cannot_be_trained_on_is_refused(vit_spec: str, tmp_path: Path) -> None:
    pictures, disc, _ = shapes(12)
    labels, known = one_hot(disc)
    with pytest.raises(ConfigError, match="cannot be trained on"):
        finetune("fake", pictures, labels, known, CONFIG, tmp_path, device="cpu")
    with pytest.raises(InputError, match="do not fit together"):
        finetune(vit_spec, pictures[:-1], labels, known, CONFIG, tmp_path, device="cpu")
    broken = [b"no picture"] * 4 + pictures[4:]
    with pytest.raises(InputError, match="8 pictures can be read"):
        finetune(vit_spec, broken, labels, known, CONFIG, tmp_path, device="cpu", decode_workers=0)


def test_a_folder_without_a_whole_encoder_is_named(tuned: tuple[FineTuned, list[TuneProgress]], tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match="recsys tag train --finetune"):
        load_encoders(f"onnx:{tmp_path}", "none")
    with pytest.raises(WeightsUnavailable, match="no exported encoder of texts"):
        load_encoders("none", tuned[0].spec)
    (tmp_path / "image_encoder.json").write_text("{")
    with pytest.raises(CorruptArtifact, match="not JSON"):
        load_encoders(f"onnx:{tmp_path}", "none")
