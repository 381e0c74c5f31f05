"""Tiny AST and CLAP models with seeded weights, saved as transformers saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    ASTModel,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    PreTrainedTokenizerFast,
)

CLAP_HZ = 8_000
WORDS = ["<s>", "<pad>", "</s>", "<unk>", "a", "red", "blue", "film", "about", "two", "dogs", "dog", ",", "."]


def seeded(model: Any) -> Any:
    """Weights large enough that every input counts."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def save_ast(folder: Path, labels: tuple[str, ...] = (), **settings: Any) -> Any:
    """The model in `folder`: with a classifier where there are labels."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    strides = {"patch_size": 8, "frequency_stride": 6, "time_stride": 6}
    if labels:
        settings |= {"id2label": dict(enumerate(labels)), "label2id": {label: at for at, label in enumerate(labels)}}
    config = ASTConfig(**sizes, **strides, max_length=64, num_mel_bins=32, **settings)
    model = seeded(ASTForAudioClassification(config) if labels else ASTModel(config))
    if labels:
        for parameter in model.classifier.parameters():
            torch.nn.init.normal_(parameter)
    model.save_pretrained(folder)
    ASTFeatureExtractor(max_length=64, num_mel_bins=32).save_pretrained(folder)
    return model


def save_clap(folder: Path, *, fused: bool = False) -> Any:
    """The model in `folder`: both towers, and a tokenizer of `WORDS`."""
    audio = {
        "window_size": 4, "num_mel_bins": 16, "spec_size": 64, "patch_stride": [4, 4], "hidden_size": 64,
        "patch_embeds_hidden_size": 16, "depths": [1, 1, 1], "num_attention_heads": [2, 2, 4], "num_hidden_layers": 3,
        "enable_fusion": fused, "fusion_type": "aff_2d" if fused else None,
    }  # fmt: skip
    text = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    text |= {"vocab_size": 30, "max_position_embeddings": 40}
    model = seeded(ClapModel(ClapConfig(audio_config=audio, text_config=text, projection_dim=24)))
    model.save_pretrained(folder)
    ClapFeatureExtractor(
        feature_size=16, sampling_rate=CLAP_HZ, hop_length=80, max_length_s=1, fft_window_size=256,
        frequency_max=4_000, truncation="fusion" if fused else "rand_trunc",
    ).save_pretrained(folder)  # fmt: skip
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return model
