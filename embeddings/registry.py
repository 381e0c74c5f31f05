"""From an encoder's name in the configuration to the encoder: the one place that knows them all.

`bundled`, `fake`, `none`, `open_clip:<arch>/<pretrained or file>`, `open_clip:<folder>`,
`transformers:<name or folder>`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from embeddings.encoder import Encoder
from embeddings.fake_encoder import FakeEncoder
from embeddings.onnx_encoder import OnnxEncoder
from embeddings.preprocess.text import TextPreprocessor
from recsys.errors import ConfigError, EnvironmentProblem

if TYPE_CHECKING:
    from embeddings.torch_encoder import TorchEncoder

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class EncoderPair:
    """The encoders of a catalogue; None where a modality is switched off."""

    image: Encoder | None
    text: Encoder | None

    @property
    def aligned(self) -> bool:
        """Whether a text may be compared with an image: both come from one model trained on pairs."""
        if self.image is None or self.text is None:
            return False
        image, text = self.image.space, self.text.space
        return image.encoder != "fake" and (image.encoder, image.weights_sha256) == (text.encoder, text.weights_sha256)


def load_encoders(image_spec: str, text_spec: str, *, device: Device = "auto", threads: int = 1) -> EncoderPair:
    """The encoders named, ready to encode.

    On CUDA they run in torch in bf16; on a CPU the torch form is exported in memory and runs in ONNX Runtime with
    `threads` threads, in float32.

    Raises:
        ConfigError: a spec is unknown, or names a model without that modality.
        WeightsUnavailable: weights cannot be had here; the message says how to bring them.
        EnvironmentProblem: CUDA is asked for and not there, or torch is not installed.
    """
    chosen = _device(device, image_spec, text_spec)
    image, text = _load(image_spec, "image", chosen), None
    if text_spec == image_spec and image is not None and image[1] is not None:
        text = image[1]
    else:
        loaded = _load(text_spec, "text", chosen)
        text = loaded[1] if loaded else None
    image_encoder = image[0] if image else None
    return EncoderPair(_ready(image_encoder, chosen, threads), _ready(text, chosen, threads))


def text_preprocessor(spec: str) -> TextPreprocessor | None:
    """The tokenizer of a text encoder, for counting what it does not know; None where that cannot be told.

    The bundled one is read without its model. Raises as `load_encoders` does.
    """
    if spec == "bundled":
        from embeddings.bundled_encoder import bundled_text_preprocessor

        return bundled_text_preprocessor()
    encoder = load_encoders("none", spec, device="cpu").text
    return encoder.preprocessor if encoder and isinstance(encoder.preprocessor, TextPreprocessor) else None


_Loaded = tuple["TorchEncoder | FakeEncoder | None", "TorchEncoder | FakeEncoder | None"]


def _load(spec: str, modality: Literal["image", "text"], device: str) -> _Loaded | None:
    """(image, text) with at least the one asked for; None when the modality is switched off."""
    bf16 = device == "cuda"
    if spec == "none":
        return None
    if spec == "fake":
        return FakeEncoder("image"), FakeEncoder("text")
    if spec == "bundled":
        from embeddings.bundled_encoder import load_bundled_image, load_bundled_text

        if modality == "image":
            return load_bundled_image(device=device, bf16=bf16), None
        return None, load_bundled_text(device=device, bf16=bf16)
    if spec.startswith("open_clip:"):
        from embeddings.open_clip_encoder import load_open_clip

        return load_open_clip(spec, device=device, bf16=bf16)
    if spec.startswith("transformers:"):
        from embeddings.transformers_encoder import load_transformers

        pair = load_transformers(spec, device=device, bf16=bf16)
        if modality == "image" and pair[0] is None:
            raise ConfigError(f"{spec} encodes text only; name another encoder for images, or `none`")
        return pair
    raise ConfigError(
        f"unknown encoder {spec!r}: write bundled, fake, none, open_clip:<arch>/<pretrained or file> "
        "or transformers:<name or folder>"
    )


def _ready(encoder: TorchEncoder | FakeEncoder | None, device: str, threads: int) -> Encoder | None:
    if encoder is None or isinstance(encoder, FakeEncoder) or device == "cuda":
        return encoder
    return OnnxEncoder(encoder.onnx_form(), threads=threads)


def _device(device: Device, *specs: str) -> str:
    """The device to run on; asks torch only where a spec needs torch."""
    if all(spec in ("fake", "none") for spec in specs):
        return "cpu"
    if find_spec("torch") is None:
        raise EnvironmentProblem("encoding needs torch: install requirements/cpu.txt or requirements/gpu.txt")
    if device == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise EnvironmentProblem("no CUDA device is visible: set the device to cpu or auto, and run `recsys doctor`")
    return "cpu"
