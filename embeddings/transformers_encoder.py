"""`transformers:<name or folder>`: text encoders of the BERT family, CLIP (image and text), and CLAP's text tower.

SigLIP and encoders of images alone are in `transformers_image`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, cast

import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.utils.hub import cached_file

from embeddings.encoder import space_of
from embeddings.hub import quiet_loading, weights_by_name
from embeddings.preprocess.image import ImagePreprocessConfig, ImagePreprocessor, Triple
from embeddings.preprocess.text import TextPreprocessConfig, TextPreprocessor, text_sha256
from embeddings.torch_encoder import TorchEncoder, weights_sha256
from recsys.errors import ConfigError

PREFIX = "transformers:"
Pooling = Literal["mean", "cls"]

BRING = (
    "Bring them: `hf download` the model on a machine with a network, copy the folder here and name it, "
    "as transformers:path/to/folder; or choose the encoder `bundled`."
)
_SHAPELESS = ("num_attention_heads", "hidden_act", "layer_norm_eps", "position_embedding_type", "model_type")


def load_transformers(
    spec: str, *, device: str = "cpu", bf16: bool = False
) -> tuple[TorchEncoder | None, TorchEncoder | None]:
    """The image encoder and the text encoder, each where the model has one.

    Raises:
        ConfigError: the model pools or post-processes in a way that is not built here.
        WeightsUnavailable: no folder, no cache and no hub has it.
    """
    name = spec.removeprefix(PREFIX)
    with weights_by_name(spec, bring=BRING, local=Path(name).is_dir()), quiet_loading():
        config = AutoConfig.from_pretrained(name)
        if config.model_type == "clip":
            return load_clip(name, device=device, bf16=bf16)
        if config.model_type == "clap":
            from embeddings.audio_transformers import load_clap

            return None, load_clap(name, device=device, bf16=bf16)[1]
        if config.model_type == "siglip":
            from embeddings.transformers_image import load_siglip

            return load_siglip(name, device=device, bf16=bf16)
        from embeddings.transformers_image import is_image_model, load_image_model

        if is_image_model(config.model_type):
            return load_image_model(name, device=device, bf16=bf16), None
        model: Any = AutoModel.from_pretrained(name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(name)
        pooling, max_length = _sentence_settings(name)
    limit = min(max_length or 512, _positions(config))
    tokenizer_json = tokenizer_json_of(name, tokenizer)
    encoder = text_encoder(
        f"{PREFIX}{config.model_type}",
        model,
        tokenizer_json,
        pooling=pooling,
        max_length=limit,
        pad_id=tokenizer.pad_token_id or 0,
        unknown_id=None if _spells_everything(tokenizer_json) else tokenizer.unk_token_id,
        device=device,
        bf16=bf16,
    )
    return None, encoder


def text_encoder(
    name: str,
    model: torch.nn.Module,
    tokenizer_json: str,
    *,
    pooling: Pooling,
    max_length: int,
    pad_id: int,
    unknown_id: int | None,
    weights: str | None = None,
    device: str = "cpu",
    bf16: bool = False,
) -> TorchEncoder:
    """A BERT-like model (`last_hidden_state` float [B, L, D]) with pooling over its tokens.

    `weights` is the sha256 of the weights where it is known already.
    """
    preprocessor = TextPreprocessor(
        TextPreprocessConfig(
            tokenizer_sha256=text_sha256(tokenizer_json), max_length=max_length, pad_id=pad_id, unknown_id=unknown_id
        ),
        tokenizer_json,
    )
    config: Any = model.config
    facts = {key: getattr(config, key, None) for key in _SHAPELESS} | {"pooling": pooling}
    weights = weights or weights_sha256(model, facts)
    return TorchEncoder(
        _PooledText(model, pooling),
        space_of(name, "text", weights, preprocessor.config, int(config.hidden_size)),
        preprocessor,
        input_names=("input_ids", "attention_mask"),
        device=device,
        bf16=bf16,
    )


def compares(spec: str) -> bool:
    """Whether the model was trained to compare pictures with texts. Raises WeightsUnavailable."""
    name = spec.removeprefix(PREFIX)
    with weights_by_name(spec, bring=BRING, local=Path(name).is_dir()), quiet_loading():
        return AutoConfig.from_pretrained(name).model_type in ("clip", "siglip")


def transformers_similarity(spec: str) -> tuple[float, float | None]:
    """How CLIP and SigLIP make a logit of a cosine: its factor, and SigLIP's summand, which CLIP has not.

    Raises:
        ConfigError: it is another model.
        WeightsUnavailable: as `load_transformers`.
    """
    if not compares(spec):
        raise ConfigError(f"{spec} does not compare pictures with texts: choose another head than `zero_shot`")
    name = spec.removeprefix(PREFIX)
    with weights_by_name(spec, bring=BRING, local=Path(name).is_dir()), quiet_loading():
        model: Any = AutoModel.from_pretrained(name, dtype=torch.float32)
    bias = getattr(model, "logit_bias", None)
    return float(model.logit_scale.detach().exp()), None if bias is None else float(bias.detach())


def load_clip(name: str, *, device: str = "cpu", bf16: bool = False) -> tuple[TorchEncoder, TorchEncoder]:
    """transformers' own CLIP: image and text in one space."""
    model: Any = CLIPModel.from_pretrained(name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(name)
    tokenizer_json = tokenizer_json_of(name, tokenizer)
    config = model.config
    facts = {"image": _facts(config.vision_config), "text": _facts(config.text_config)}
    weights = weights_sha256(model, facts)
    image_preprocessor = ImagePreprocessor(_image_config(CLIPImageProcessorPil.from_pretrained(name)))
    text_preprocessor = TextPreprocessor(
        TextPreprocessConfig(
            tokenizer_sha256=text_sha256(tokenizer_json),
            max_length=config.text_config.max_position_embeddings,
            pad_id=tokenizer.pad_token_id or 0,
        ),
        tokenizer_json,
    )
    dim = int(config.projection_dim)
    image = TorchEncoder(
        _ClipImage(model),
        space_of(f"{PREFIX}clip", "image", weights, image_preprocessor.config, dim),
        image_preprocessor,
        input_names=("pixels",),
        device=device,
        bf16=bf16,
        rounded=(model.vision_model, model.visual_projection),
    )
    text = TorchEncoder(
        _ClipText(model),
        space_of(f"{PREFIX}clip", "text", weights, text_preprocessor.config, dim),
        text_preprocessor,
        input_names=("input_ids", "attention_mask"),
        device=device,
        bf16=bf16,
    )
    return image, text


class _PooledText(torch.nn.Module):
    def __init__(self, model: torch.nn.Module, pooling: Pooling) -> None:
        super().__init__()
        self.model = model
        self.pooling = pooling

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if self.pooling == "cls":
            return hidden[:, 0]
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)


class _ClipImage(torch.nn.Module):
    def __init__(self, model: CLIPModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        pooled = self.model.vision_model(pixel_values=pixels).pooler_output
        return cast(torch.Tensor, self.model.visual_projection(pooled))


class _ClipText(torch.nn.Module):
    def __init__(self, model: CLIPModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        pooled = self.model.text_model(input_ids=input_ids, attention_mask=attention_mask).pooler_output
        return cast(torch.Tensor, self.model.text_projection(pooled))


def _facts(config: Any) -> dict[str, Any]:
    return {key: getattr(config, key, None) for key in _SHAPELESS}


def _positions(config: Any) -> int:
    """Longest text that the position table takes; RoBERTa's table begins behind the padding id."""
    positions = int(getattr(config, "max_position_embeddings", 512))
    offset = int(config.pad_token_id) + 1 if config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
    return positions - offset


def _sentence_settings(name: str) -> tuple[Pooling, int | None]:
    """Pooling and maximal length as sentence-transformers saved them; mean and None for a plain model."""
    modules = _json_beside(name, "modules.json")
    kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in modules] if isinstance(modules, list) else []
    unknown = set(kinds) - {"Transformer", "Pooling", "Normalize"}
    if unknown:
        raise ConfigError(f"{name} has the modules {sorted(unknown)}, which are not supported; choose another model")
    pooling_config = _json_beside(name, "1_Pooling/config.json") or {}
    modes = [
        key.removeprefix("pooling_mode_") for key, on in pooling_config.items() if key.startswith("pooling_") and on
    ]
    if modes not in ([], ["mean_tokens"], ["cls_token"]):
        raise ConfigError(f"{name} pools by {modes}; only mean_tokens and cls_token are supported")
    length = (_json_beside(name, "sentence_bert_config.json") or {}).get("max_seq_length")
    return ("cls" if modes == ["cls_token"] else "mean"), length


def _json_beside(name: str, file: str) -> Any:
    path = file_beside(name, file)
    return json.loads(path.read_text(encoding="utf-8")) if path else None


def file_beside(name: str, file: str) -> Path | None:
    found = cached_file(
        name, file, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
    )
    return Path(found) if found else None


def tokenizer_json_of(name: str, tokenizer: Any) -> str:
    """The model's own tokenizer.json where it has one, so that the space does not depend on a library's version."""
    path = file_beside(name, "tokenizer.json")
    if path:
        return path.read_text(encoding="utf-8")
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise ConfigError(f"{name} has a slow tokenizer only; convert it to tokenizer.json")
    return str(tokenizer.backend_tokenizer.to_str())


def _spells_everything(tokenizer_json: str) -> bool:
    """Byte-level vocabularies have no unknown token, even where a library names one."""
    model = json.loads(tokenizer_json)["model"]
    return model["type"] == "BPE" and model.get("unk_token") is None


def _image_config(processor: CLIPImageProcessorPil) -> ImagePreprocessConfig:
    size: Any = processor.size
    crop: Any = processor.crop_size
    shortest = size.get("shortest_edge")
    if not processor.do_center_crop or shortest is None or crop["height"] != crop["width"]:
        raise ConfigError("only CLIP processors that scale the shortest edge and crop a square are supported")
    return ImagePreprocessConfig(
        size=int(crop["height"]),
        resize_to=int(shortest),
        interpolation="bilinear" if int(processor.resample) == 2 else "bicubic",
        crop_rounding="down",
        to_rgb="before_on_white",
        mean=cast(Triple, tuple(processor.image_mean)),
        std=cast(Triple, tuple(processor.image_std)),
    )
