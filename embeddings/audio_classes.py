"""What audio transformers know of classes: AST's own classifier, and CLAP's words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import ASTForAudioClassification, AutoConfig, ClapModel

from embeddings.audio_transformers import clap_towers, load_ast
from embeddings.encoder import Encoder, Vectors
from embeddings.hub import quiet_loading, weights_by_name
from embeddings.transformers_encoder import BRING, PREFIX
from recsys.errors import ConfigError
from recsys.manifest import EmbeddingSpace

_AST, _CLAP = "audio-spectrogram-transformer", "clap"


@dataclass(frozen=True)
class SoundClassifier:
    """A linear classifier of `L` labels on vectors of `D` numbers that are first brought to mean 0 and variance 1.

    Attributes:
        weights, bias: float32 [D, L] and [L].
    """

    space: EmbeddingSpace
    weights: Vectors
    bias: Vectors
    labels: tuple[str, ...]
    activation: Literal["softmax", "sigmoid"]


@dataclass(frozen=True)
class SoundWords:
    """Words in the space of sounds.

    Attributes:
        space: of the sounds.
        text: of the words.
        scale: logits are it times the cosine.
    """

    space: EmbeddingSpace
    text: Encoder
    scale: float


def has_words(spec: str) -> bool:
    """Whether words may be compared with the sounds of `transformers:<name or folder>`. Raises WeightsUnavailable."""
    return _kind(spec) == _CLAP


def load_ast_classifier(spec: str) -> SoundClassifier:
    """AST's layer normalisation and its last layer, as one linear map of the normalised vector.

    The layer normalisation does not feel that an encoder's vectors have length 1; its own weights go into the map.
    Sounds overlap, so labels exclude each other only where the model's configuration says that it has single labels.

    Raises:
        ConfigError: the model is no AST, or was saved without its classifier.
        WeightsUnavailable: no folder, no cache and no hub has it.
    """
    name = spec.removeprefix(PREFIX)
    if _kind(spec) != _AST:
        raise ConfigError(f"{spec} brings no classifier of sounds: name an AST or tflite model, or train a head")
    with weights_by_name(spec, bring=BRING, local=Path(name).is_dir()), quiet_loading():
        told: Any = ASTForAudioClassification.from_pretrained(name, dtype=torch.float32, output_loading_info=True)
        model, loaded = told
        space = load_ast(name).space
    if any(key.startswith("classifier.") for key in loaded["missing_keys"]):
        raise ConfigError(f"{spec} was saved without its classifier: name the whole model, or train a head")
    norm, last, config = model.classifier.layernorm, model.classifier.dense, model.config
    gamma, beta, matrix, bias = (
        each.detach().numpy().astype(np.float64) for each in (norm.weight, norm.bias, last.weight, last.bias)
    )
    return SoundClassifier(
        space,
        (matrix * gamma).T.astype(np.float32),
        (matrix @ beta + bias).astype(np.float32),
        tuple(str(config.id2label[place]) for place in range(len(bias))),
        "softmax" if config.problem_type == "single_label_classification" else "sigmoid",
    )


def load_clap_words(spec: str) -> SoundWords:
    """CLAP's text tower and the scale of its logits.

    Raises:
        ConfigError: the model has no text tower.
        WeightsUnavailable: no folder, no cache and no hub has it.
    """
    name = spec.removeprefix(PREFIX)
    if not has_words(spec):
        raise ConfigError(f"{spec} does not read: zero-shot tags of sounds need a CLAP model with both towers")
    with weights_by_name(spec, bring=BRING, local=Path(name).is_dir()), quiet_loading():
        model: Any = ClapModel.from_pretrained(name, dtype=torch.float32)
        scale = float(model.logit_scale_a.detach().exp())
        audio, text = clap_towers(name, model)
    return SoundWords(audio.space, text, scale)


def _kind(spec: str) -> str:
    name = spec.removeprefix(PREFIX)
    with weights_by_name(spec, bring=BRING, local=Path(name).is_dir()), quiet_loading():
        return str(AutoConfig.from_pretrained(name).model_type)
