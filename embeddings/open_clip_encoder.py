"""`open_clip:<arch>/<pretrained tag or checkpoint file>` and `open_clip:<folder with open_clip_config.json>`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, cast

import open_clip
import torch
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer, default_bpe
from open_clip.transformer import text_global_pool

from embeddings.encoder import space_of
from embeddings.hub import weights_by_name
from embeddings.preprocess.cleaning import Cleaning
from embeddings.preprocess.clip_bpe import clip_tokenizer_json
from embeddings.preprocess.image import ImagePreprocessConfig, ImagePreprocessor, Triple
from embeddings.preprocess.text import TextPreprocessConfig, TextPreprocessor, text_sha256
from embeddings.rounding import is_transformer
from embeddings.torch_encoder import TorchEncoder, weights_sha256
from recsys.errors import ConfigError, WeightsUnavailable

PREFIX = "open_clip:"

_BRING = (
    "Bring them: download the checkpoint (open_clip_model.safetensors) on a machine with a network and name the file, "
    "as open_clip:{arch}/path/to/open_clip_model.safetensors; or choose the encoder `bundled`."
)
_FOLDER = "The folder must hold open_clip_config.json and open_clip_model.safetensors."


def load_open_clip(spec: str, *, device: str = "cpu", bf16: bool = False) -> tuple[TorchEncoder, TorchEncoder]:
    """The image and the text encoder of one model; their vectors may be compared with each other.

    Models with a convolutional image tower stay in float32, whatever `bf16` says.

    Raises:
        ConfigError: the spec names no architecture of open_clip, or one whose preprocessing is not built here.
        WeightsUnavailable: no file, no cache and no hub has the weights.
    """
    arch, checkpoint = _parse(spec)
    model = _load(spec, arch, checkpoint)
    weights = weights_sha256(model, {"quick_gelu": _has_quick_gelu(model)})
    name = f"{PREFIX}{arch if checkpoint else 'custom'}"

    image_preprocessor = ImagePreprocessor(image_config(model.visual.preprocess_cfg))
    text_preprocessor = _text_preprocessor(arch, checkpoint)
    dim = _width(model, text_preprocessor)
    bf16 = bf16 and is_transformer(model.visual)
    cuts_padding = bf16 and _looks_backwards_only(model)
    image = TorchEncoder(
        _ImageTower(model),
        space_of(name, "image", weights, image_preprocessor.config, dim),
        image_preprocessor,
        input_names=("pixels",),
        device=device,
        bf16=bf16,
        rounded=(model.visual,),
    )
    text = TorchEncoder(
        _CutTextTower(model) if cuts_padding else _TextTower(model),
        space_of(name, "text", weights, text_preprocessor.config, dim),
        text_preprocessor,
        input_names=("input_ids",),
        device=device,
        bf16=bf16,
        cuts_padding=cuts_padding,
    )
    return image, text


def open_clip_similarity(spec: str) -> tuple[float, float | None]:
    """How the model makes a logit of a cosine: its factor, and the summand of models trained as SigLIP is.

    Raises as `load_open_clip`.
    """
    model = _load(spec, *_parse(spec))
    bias = getattr(model, "logit_bias", None)
    return float(model.logit_scale.detach().exp()), None if bias is None else float(bias.detach())


def image_config(cfg: dict[str, Any]) -> ImagePreprocessConfig:
    """open_clip's own preprocessing configuration in our words. Raises ConfigError."""
    size = cfg["size"]
    sizes = (size, size) if isinstance(size, int) else tuple(size)
    if sizes[0] != sizes[1] or cfg["resize_mode"] not in ("shortest", "squash"):
        raise ConfigError(f"open_clip preprocessing {cfg} is not supported: square, shortest or squash only")
    bilinear = cfg["interpolation"] == "bilinear"
    return ImagePreprocessConfig(
        size=sizes[0],
        resize_to=sizes[0],
        resize_mode=cast('Literal["shortest", "squash"]', cfg["resize_mode"]),
        interpolation="bilinear" if bilinear else "bicubic",
        crop_rounding="half_even",
        to_rgb="after",
        mean=cast(Triple, tuple(cfg["mean"])),
        std=cast(Triple, tuple(cfg["std"])),
    )


class _ImageTower(torch.nn.Module):
    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.model.encode_image(pixels))  # type: ignore[operator]


class _TextTower(torch.nn.Module):
    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.model.encode_text(input_ids))  # type: ignore[operator]


class _CutTextTower(torch.nn.Module):
    """CLIP's own text tower for texts of any length `L`, int64 [B, L]: what stands behind the last token of a text
    cannot reach it, so the 77 positions that `encode_text` wants are mostly padding for nothing.
    """

    def __init__(self, model: open_clip.CLIP) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        model: Any = self.model
        length = input_ids.shape[1]
        dtype = model.transformer.get_cast_dtype()
        hidden = model.token_embedding(input_ids).to(dtype) + model.positional_embedding[:length].to(dtype)
        hidden = model.ln_final(model.transformer(hidden, attn_mask=model.attn_mask[:length, :length]))
        pooled = text_global_pool(hidden, input_ids, model.text_pool_type, eos_token_id=model.text_eos_id)
        projection = model.text_projection
        projected = projection(pooled) if isinstance(projection, torch.nn.Linear) else pooled @ projection
        return cast(torch.Tensor, projected)


def _looks_backwards_only(model: torch.nn.Module) -> bool:
    """Whether it is CLIP's own text tower, read at its end-of-text token; other towers may read their padding."""
    return (
        type(model) is open_clip.CLIP
        and model.attn_mask is not None
        and model.text_projection is not None
        and model.text_pool_type in ("argmax", "eos")
    )


def _parse(spec: str) -> tuple[str, str | None]:
    """(arch, checkpoint), or (folder, None)."""
    rest = spec.removeprefix(PREFIX)
    if Path(rest).is_dir():
        return rest, None
    arch, _, checkpoint = rest.partition("/")
    if not arch or not checkpoint:
        raise ConfigError(f"{spec!r}: write open_clip:<arch>/<pretrained tag or checkpoint file>")
    if arch not in open_clip.list_models():
        raise ConfigError(f"open_clip knows no architecture {arch!r}; `open_clip.list_models()` names them")
    return arch, checkpoint


def _load(spec: str, arch: str, checkpoint: str | None) -> Any:
    if checkpoint is None:
        if not (Path(arch) / "open_clip_config.json").exists():
            raise WeightsUnavailable(f"{arch} holds no open_clip_config.json; name the checkpoint file instead")
        with weights_by_name(spec, bring=_FOLDER, local=True):
            return open_clip.create_model(f"local-dir:{arch}", require_pretrained=True)
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if not Path(checkpoint).is_file() and checkpoint not in tags:
        known = ", ".join(tags) or "it has none"
        problem = f"{spec}: {checkpoint} is neither a file nor a pretrained tag of {arch} ({known}). "
        raise WeightsUnavailable(problem + _BRING.format(arch=arch))
    with weights_by_name(spec, bring=_BRING.format(arch=arch), local=Path(checkpoint).is_file()):
        return open_clip.create_model(arch, pretrained=checkpoint)


def _text_preprocessor(arch: str, checkpoint: str | None) -> TextPreprocessor:
    source = f"local-dir:{arch}" if checkpoint is None else arch
    from_hub = checkpoint is not None and "hf_tokenizer_name" in open_clip.get_model_config(arch)["text_cfg"]
    with weights_by_name(f"the tokenizer of {arch}", bring="Name a folder that holds it.", local=not from_hub):
        tokenizer = open_clip.get_tokenizer(source)
    if isinstance(tokenizer, SimpleTokenizer):
        tokenizer_json = clip_tokenizer_json(Path(default_bpe()))
        pad_id, cleaning = 0, tokenizer.clean_fn.__name__
    elif isinstance(tokenizer, HFTokenizer) and not tokenizer.tokenizer_mode and not tokenizer.strip_sep_token:
        tokenizer_json = tokenizer.tokenizer.backend_tokenizer.to_str()
        pad_id, cleaning = tokenizer.tokenizer.pad_token_id or 0, tokenizer.clean_fn.__name__
    else:
        kind = type(tokenizer).__name__
        raise ConfigError(f"the tokenizer of {arch} ({kind}) is not supported; choose another model")
    config = TextPreprocessConfig(
        tokenizer_sha256=text_sha256(tokenizer_json),
        max_length=tokenizer.context_length,
        pad_id=pad_id,
        pad_to="max_length",  # open_clip's towers take texts of the full context length only
        cleaning=cast(Cleaning, cleaning.removeprefix("_clean_")),
    )
    return TextPreprocessor(config, tokenizer_json)


def _width(model: Any, preprocessor: TextPreprocessor) -> int:
    batch = preprocessor.collate([preprocessor("a")])
    with torch.inference_mode():
        return int(model.encode_text(torch.from_numpy(batch["input_ids"])).shape[-1])


def _has_quick_gelu(model: torch.nn.Module) -> bool:
    return any(type(module).__name__ == "QuickGELU" for module in model.modules())
