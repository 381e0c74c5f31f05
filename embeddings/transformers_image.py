"""`transformers:<name or folder>` for pictures: image classifiers (ViT, ConvNeXt, BEiT, ...) and SigLIP.

A classifier's vectors are what its last, linear layer reads: so that layer is a tagging head, and everything else of
the library comes with one rule.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification, SiglipModel
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

from embeddings.encoder import Vectors, space_of
from embeddings.hub import quiet_loading, weights_by_name
from embeddings.preprocess.image import ImagePreprocessConfig, ImagePreprocessor, Triple
from embeddings.preprocess.text import TextPreprocessConfig, TextPreprocessor, text_sha256
from embeddings.rounding import is_transformer
from embeddings.torch_encoder import TorchEncoder, weights_sha256
from embeddings.transformers_encoder import BRING, PREFIX, file_beside
from recsys.errors import ConfigError
from recsys.manifest import EmbeddingSpace

CONVNEXT_CROPS_BELOW = 384
_NOT_ARITHMETIC = ("id2label", "label2id", "architectures", "transformers_version", "_name_or_path", "dtype")
_N_PATTERNS = 8


@dataclass(frozen=True)
class ImageClassifier:
    """A model's last layer, as a head on its encoder's vectors.

    Attributes:
        space: of the vectors.
        names: of its `L` classes, each by all its names, the first one for display.
        weights: float32 [L, D], for vectors of length 1.
        bias: float32 [L].
    """

    space: EmbeddingSpace
    names: tuple[tuple[str, ...], ...]
    weights: Vectors
    bias: Vectors


def is_image_model(model_type: str) -> bool:
    return model_type in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES


def load_image_model(name: str, *, device: str = "cpu", bf16: bool = False) -> TorchEncoder:
    """What the classifier of an image model reads; of a model without one, what it would read.

    Models with convolutions stay in float32, whatever `bf16` says.

    Raises:
        ConfigError: there is no linear classifier over one vector, or its preprocessing is not built here.
    """
    tower, _, _ = _tower(name)
    bf16 = bf16 and is_transformer(tower)
    preprocessor = ImagePreprocessor(image_config(name))
    return TorchEncoder(
        tower, _space(tower, preprocessor), preprocessor, input_names=("pixels",), device=device, bf16=bf16
    )


def transformers_classifier(spec: str) -> ImageClassifier:
    """The classifier that `load_image_model` leaves off, for vectors of length 1.

    The layer norm in front of it gives all vectors nearly one length, so a constant stands for it: the mean length for
    a few seeded patterns.

    Raises:
        ConfigError: the model has no classifier, or no layer norm right before it, so that the length of a vector,
            which is not stored, says something.
        WeightsUnavailable: no folder, no cache and no hub has it.
    """
    name = spec.removeprefix(PREFIX)
    with weights_by_name(spec, bring=BRING, local=Path(name).is_dir()), quiet_loading():
        config = AutoConfig.from_pretrained(name)
        if not is_image_model(config.model_type):
            raise ConfigError(f"{spec} has no classes of its own: choose another head than `classifier`")
        tower, classifier, is_stored = _tower(name)
        preprocessor = ImagePreprocessor(image_config(name))
    if not is_stored:
        raise ConfigError(f"{spec} comes without a trained classifier: train a head with `recsys tag train`")
    scale = _length_behind_norm(spec, tower, preprocessor)
    weight = classifier.weight.detach().numpy() * np.float32(scale)
    bias = classifier.bias.detach().numpy() if classifier.bias is not None else np.zeros(len(weight), np.float32)
    return ImageClassifier(_space(tower, preprocessor), _names(config.id2label, len(weight)), weight, bias)


def load_siglip(name: str, *, device: str = "cpu", bf16: bool = False) -> tuple[TorchEncoder, TorchEncoder]:
    """SigLIP, and SigLIP 2 of a fixed resolution: image and text in one space."""
    model: Any = SiglipModel.from_pretrained(name, dtype=torch.float32)
    weights = weights_sha256(model, _facts(model.config))
    image_preprocessor = ImagePreprocessor(image_config(name))
    text_preprocessor = _siglip_text(name, int(model.config.text_config.max_position_embeddings))
    dim = int(model.config.vision_config.hidden_size)
    image = TorchEncoder(
        _SiglipImage(model),
        space_of(f"{PREFIX}siglip", "image", weights, image_preprocessor.config, dim),
        image_preprocessor,
        input_names=("pixels",),
        device=device,
        bf16=bf16,
        rounded=(model.vision_model,),
    )
    text = TorchEncoder(
        _SiglipText(model),
        space_of(f"{PREFIX}siglip", "text", weights, text_preprocessor.config, dim),
        text_preprocessor,
        input_names=("input_ids",),
        device=device,
        bf16=bf16,
    )
    return image, text


def image_config(name: str) -> ImagePreprocessConfig:
    """The library's processor of pictures in our words. Raises ConfigError: it does what is not built here."""
    processor: Any = AutoImageProcessor.from_pretrained(name, backend="pil")  # type: ignore[no-untyped-call]
    if not processor.do_resize or not math.isclose(processor.rescale_factor or 0, 1 / 255) or not processor.do_rescale:
        raise ConfigError(f"the pictures of {name} are prepared in a way that is not supported; choose another model")
    mean: Triple = tuple(processor.image_mean) if processor.do_normalize else (0.0, 0.0, 0.0)
    std: Triple = tuple(processor.image_std) if processor.do_normalize else (1.0, 1.0, 1.0)
    if int(processor.resample) not in (2, 3):
        raise ConfigError(f"{name} resizes by another way than bilinear or bicubic; choose another model")
    size, resize_to, squash = _sizes(name, processor)
    return ImagePreprocessConfig(
        size=size,
        resize_to=resize_to,
        resize_mode="squash" if squash else "shortest",
        interpolation="bilinear" if int(processor.resample) == 2 else "bicubic",
        crop_rounding="down",
        to_rgb="before_on_white",
        jpeg="full",
        mean=mean,
        std=std,
    )


def _sizes(name: str, processor: Any) -> tuple[int, int, bool]:
    """(side of the square, what is scaled to, whether both edges are)."""
    shortest, crop = processor.size.get("shortest_edge"), processor.crop_size
    crop_share = getattr(processor, "crop_pct", None)
    if shortest and crop_share and not processor.do_center_crop:  # ConvNeXT's way
        small = shortest < CONVNEXT_CROPS_BELOW
        return int(shortest), int(shortest / crop_share) if small else int(shortest), not small
    edges = (int(shortest),) if shortest else (int(processor.size["height"]), int(processor.size["width"]))
    side = (int(crop["height"]), int(crop["width"])) if processor.do_center_crop else edges
    if len(set(edges)) != 1 or len(set(side)) != 1 or (shortest and not processor.do_center_crop):
        raise ConfigError(f"{name} does not see square pictures; choose another model")
    return side[0], edges[0], not shortest


class _ClassifierInput(torch.nn.Module):
    """An image classifier whose last layer passes on what it is given."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.model(pixel_values=pixels).logits)


class _SiglipImage(torch.nn.Module):
    def __init__(self, model: SiglipModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.model.vision_model(pixel_values=pixels).pooler_output)


class _SiglipText(torch.nn.Module):
    """It was trained without a mask: the padding is read."""

    def __init__(self, model: SiglipModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.model.text_model(input_ids=input_ids).pooler_output)


def _tower(name: str) -> tuple[_ClassifierInput, torch.nn.Linear, bool]:
    """(tower, the layer taken off it, whether that one's weights are the model's own)."""
    model, report = cast(
        tuple[Any, dict[str, Any]],
        AutoModelForImageClassification.from_pretrained(name, dtype=torch.float32, output_loading_info=True),
    )
    classifier: Any = getattr(model, "classifier", None)
    if isinstance(classifier, torch.nn.Linear):
        last, model.classifier = classifier, torch.nn.Identity()
    elif _is_flat(classifier):
        last, classifier[-1] = classifier[-1], torch.nn.Identity()
    else:
        raise ConfigError(f"{name} has no linear classifier over one vector: choose another model")
    is_stored = not any(str(key).startswith("classifier") for key in report["missing_keys"])
    return _ClassifierInput(model.eval()), last, is_stored


def _is_flat(classifier: Any) -> bool:
    """Whether it is a linear layer behind a mere change of shape, as ResNet's."""
    if not isinstance(classifier, torch.nn.Sequential) or not len(classifier):
        return False
    *before, last = classifier
    return isinstance(last, torch.nn.Linear) and all(isinstance(each, torch.nn.Flatten) for each in before)


def _space(tower: _ClassifierInput, preprocessor: ImagePreprocessor) -> EmbeddingSpace:
    config: Any = tower.model.config
    weights = weights_sha256(tower, _facts(config))
    side = preprocessor.config.size
    with torch.inference_mode():
        width = tower(torch.zeros(1, 3, side, side)).shape
    if len(width) != 2:
        raise ConfigError(
            f"the classifier of this {config.model_type} reads more than one vector: choose another model"
        )
    return space_of(f"{PREFIX}{config.model_type}", "image", weights, preprocessor.config, int(width[1]))


def _length_behind_norm(spec: str, tower: _ClassifierInput, preprocessor: ImagePreprocessor) -> float:
    patterns = _patterns(preprocessor.config.size)
    pixels = torch.from_numpy(preprocessor.collate(patterns)["pixels"])
    with torch.inference_mode(), _norms_watched(tower) as normed:
        vectors = tower(pixels)
    rows = [output.reshape(len(vectors), -1, vectors.shape[1]) for output in normed if _fits(output, vectors)]
    if not any(((each - vectors[:, None]).abs().amax(2) == 0).any(1).all() for each in rows):
        problem = f"the classifier of {spec} reads vectors whose length says something, and it is not stored"
        raise ConfigError(f"{problem}: train a head with `recsys tag train`")
    return float(vectors.norm(dim=1).mean())


@contextmanager
def _norms_watched(tower: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """What the tower's layer norms give, for as long as this lasts."""
    seen: list[torch.Tensor] = []
    norms = [each for each in tower.modules() if isinstance(each, torch.nn.LayerNorm)]
    hooks = [each.register_forward_hook(lambda module, inputs, output: seen.append(output)) for each in norms]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _fits(output: torch.Tensor, vectors: torch.Tensor) -> bool:
    return output.shape[0] == vectors.shape[0] and output.shape[-1] == vectors.shape[1]


def _patterns(side: int) -> list[NDArray[np.uint8]]:
    """Coloured clouds with the spectrum of photographs (amplitude 1 / frequency), uint8 [S, S, 3] each."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None])
    frequency[0, 0] = np.inf
    found = []
    for _ in range(_N_PATTERNS):
        spectrum = np.fft.fft2(rng.normal(size=(3, side, side))) / frequency
        waves = np.real(np.fft.ifft2(spectrum))
        levels = np.clip(115 + 55 * waves / waves.std(), 0, 255)
        found.append(np.ascontiguousarray(levels.transpose(1, 2, 0).astype(np.uint8)))
    return found


def _names(id2label: dict[int, str], n: int) -> tuple[tuple[str, ...], ...]:
    """ImageNet's labels are lists of synonyms, as `tench, Tinca tinca`: each of them is a name of the class."""
    found = []
    for place in range(n):
        label = str(id2label.get(place, place))
        synonyms = [each.strip() for each in label.split(",")]
        found.append(tuple(dict.fromkeys([*filter(None, synonyms), label])))
    return tuple(found)


def _facts(config: Any) -> dict[str, Any]:
    """What the model's own configuration says beside the library's defaults, but for names."""
    said: dict[str, Any] = json.loads(json.dumps(config.to_diff_dict(), default=str))
    return {key: value for key, value in said.items() if key not in _NOT_ARITHMETIC} | {"type": config.model_type}


def _siglip_text(name: str, max_length: int) -> TextPreprocessor:
    path = file_beside(name, "tokenizer.json")
    if path is None:
        raise ConfigError(f"{name} has no tokenizer.json, which is needed beside its sentencepiece file")
    tokenizer_json = path.read_text(encoding="utf-8")
    settings_path = file_beside(name, "tokenizer_config.json")
    settings = json.loads(settings_path.read_text(encoding="utf-8")) if settings_path else {}
    is_first = settings.get("tokenizer_class", "").startswith("SiglipTokenizer")
    pad_token = settings.get("pad_token", "</s>" if is_first else "<pad>")
    pad_id = Tokenizer.from_str(tokenizer_json).token_to_id(pad_token)
    if pad_id is None:
        raise ConfigError(f"the tokenizer of {name} does not know its own padding {pad_token!r}: bring the right files")
    config = TextPreprocessConfig(
        tokenizer_sha256=text_sha256(tokenizer_json),
        max_length=max_length,
        pad_id=pad_id,
        pad_to="max_length",
        cleaning="canonicalize" if is_first else "lower",
    )
    return TextPreprocessor(config, tokenizer_json)
