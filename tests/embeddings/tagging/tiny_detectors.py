"""Detectors of transformers with seeded random weights, saved as their library saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

EDGES = {"shortest_edge": 96, "longest_edge": 160}
SQUARE = {"height": 96, "width": 96}
WORDS = "[PAD] [UNK] [CLS] [SEP] . a red blue dog cat on two of"


def save_detr(folder: Path) -> None:
    backbone = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 32, 32], depths=[1] * 4, out_features=["stage4"], layer_type="basic"
    )
    config = transformers.DetrConfig(
        use_timm_backbone=False, backbone_config=backbone, num_queries=12, num_labels=5, **_sizes()
    )
    _save(transformers.DetrForObjectDetection(config), folder)
    transformers.DetrImageProcessorPil(size=EDGES).save_pretrained(folder)


def save_yolos(folder: Path) -> None:
    config = transformers.YolosConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=[96, 160],
        num_detection_tokens=10,
        num_labels=4,
    )
    _save(transformers.YolosForObjectDetection(config), folder)
    transformers.YolosImageProcessorPil(size=EDGES).save_pretrained(folder)


def save_rt_detr(folder: Path) -> None:
    backbone = transformers.RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16, 16, 16],
        depths=[1] * 4,
        out_features=["stage2", "stage3", "stage4"],
        layer_type="basic",
    )
    config = transformers.RTDetrConfig(
        backbone_config=backbone,
        encoder_hidden_dim=32,
        encoder_in_channels=[16] * 3,
        decoder_in_channels=[32] * 3,
        num_queries=10,
        num_labels=4,
        hidden_expansion=0.5,
        **_sizes(),
    )
    _save(transformers.RTDetrForObjectDetection(config), folder)
    transformers.RTDetrImageProcessorPil(size=SQUARE).save_pretrained(folder)


def save_owlv2(folder: Path) -> None:
    text = {"vocab_size": len(WORDS.split()), "max_position_embeddings": 12, "pad_token_id": 0, "eos_token_id": 3}
    vision = {"image_size": 96, "patch_size": 16}
    layers = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.Owlv2Config(text_config=text | layers, vision_config=vision | layers, projection_dim=32)
    _save(transformers.Owlv2ForObjectDetection(config), folder)
    transformers.Owlv2ImageProcessorPil(size=SQUARE).save_pretrained(folder)
    _tokenizer(folder)


def save_grounding_dino(folder: Path) -> None:
    backbone = transformers.SwinConfig(
        embed_dim=8, depths=[1] * 4, num_heads=[1, 1, 2, 2], window_size=4, out_indices=[2, 3, 4], image_size=96
    )
    text = transformers.BertConfig(
        vocab_size=len(WORDS.split()),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    config = transformers.GroundingDinoConfig(
        backbone_config=backbone,
        text_config=text,
        num_queries=10,
        max_text_len=16,
        **(_sizes() | {"decoder_layers": 2}),
    )
    _save(transformers.GroundingDinoForObjectDetection(config), folder)
    transformers.GroundingDinoImageProcessorPil(size=EDGES).save_pretrained(folder)
    _tokenizer(folder)


def _sizes() -> dict[str, Any]:
    sizes = {"d_model": 32}
    for side in ("encoder", "decoder"):
        sizes |= {f"{side}_layers": 1, f"{side}_ffn_dim": 32, f"{side}_attention_heads": 2}
    return sizes


def _save(model: Any, folder: Path) -> None:
    """Heads are drawn wide, so that boxes and scores of a picture differ."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if weight.ndim > 1:
                spread = 1.0 if any(part in name for part in ("class", "bbox", "box_head")) else 0.3
                weight.copy_(torch.randn(weight.shape) * spread / weight.shape[1] ** 0.5)
    model.save_pretrained(folder)


def _tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(models.WordPiece({word: at for at, word in enumerate(WORDS.split())}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.decoder = decoders.WordPiece()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
