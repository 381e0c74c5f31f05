"""From an encoder's name in the configuration to the encoder: the one place that knows them all.

`bundled`, `bundled@<side in pixels>` for images, `fake`, `none`, `open_clip:<arch>/<pretrained or file>`,
`open_clip:<folder>`, `transformers:<name or folder>`, `onnx:<folder of exported encoders>`; what hears is named in
`audio_encoders`. Tagging adds `detection:<JSON>` (`embeddings.tagging.detection`), and `crop:<image encoder>` for the
objects it finds (`embeddings.tagging.crops`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from embeddings.encoder import BaseEncoder, Encoder
from embeddings.fake_encoder import FakeEncoder
from embeddings.onnx_encoder import OnnxEncoder
from embeddings.precision import Precision, in_bf16
from embeddings.preprocess.text import TextPreprocessor
from recsys.errors import ConfigError, EnvironmentProblem, WeightsUnavailable

if TYPE_CHECKING:
    from embeddings.torch_encoder import TorchEncoder

Device = Literal["auto", "cpu", "cuda"]
Modality = Literal["image", "text", "audio"]
ONNX_PREFIX = "onnx:"


@dataclass(frozen=True)
class EncoderPair:
    """The encoders of a catalogue; None where a modality is switched off."""

    image: Encoder | None
    text: Encoder | None
    audio: Encoder | None = None

    @property
    def aligned(self) -> bool:
        """Whether a text may be compared with an image: both come from one model trained on pairs."""
        if self.image is None or self.text is None:
            return False
        image, text = self.image.space, self.text.space
        return image.encoder != "fake" and (image.encoder, image.weights_sha256) == (text.encoder, text.weights_sha256)


def load_encoders(
    image_spec: str,
    text_spec: str,
    audio_spec: str = "none",
    *,
    device: Device = "auto",
    threads: int = 1,
    precision: Precision = "auto",
    compile: bool = False,
) -> EncoderPair:
    """The encoders named, ready to encode; `Encoder.compute` says what does the arithmetic.

    On a CPU with instructions for bfloat16, and on CUDA, transformers run in torch in bfloat16. Everything else runs
    in float32: on a CPU in ONNX Runtime, exported in memory, on CUDA in torch. So do models with convolutions, which
    bfloat16 would change too much, whatever `precision` says.

    Args:
        threads: batches computed at once on a CPU, each by one core.
        precision: "auto" as above; "fp32" everywhere; "bf16" on CPUs too that have no instructions for it.
        compile: let torch compile what it runs on CUDA: slow to start, then faster. On a CPU it gains nothing.

    Raises:
        ConfigError: a spec is unknown, or names a model without that modality.
        WeightsUnavailable: weights cannot be had here; the message says how to bring them.
        EnvironmentProblem: CUDA is asked for and not there, or torch is not installed.
    """
    chosen = _device(device, image_spec, text_spec, audio_spec)
    how = _How(chosen, in_bf16(precision, chosen), threads, compile)
    image, text_too = _load(image_spec, "image", how)
    is_shared = text_spec == image_spec and text_too is not None
    text = text_too if is_shared else _load(text_spec, "text", how)[1]
    audio = _load_audio(audio_spec, how)
    return EncoderPair(
        _ready(image, how, lambda: _load(image_spec, "image", _PLAIN)[0]),
        _ready(text, how, lambda: _load(text_spec, "text", _PLAIN)[1]),
        _ready(audio, how, lambda: _load_audio(audio_spec, _PLAIN)),
    )


def load_torch_image(spec: str, *, device: Device = "auto") -> TorchEncoder:
    """The image encoder named, in torch and float32, so that its weights can be trained on.

    Raises:
        ConfigError: it is no image encoder, or one without torch's weights, as `onnx:` and `fake`.
        WeightsUnavailable, EnvironmentProblem: as `load_encoders`.
    """
    encoder = _load(spec, "image", _How(_device(device, spec), bf16=False))[0]
    from embeddings.torch_encoder import TorchEncoder

    if not isinstance(encoder, TorchEncoder):
        raise ConfigError(f"{spec} cannot be trained on: name bundled, open_clip:<...> or transformers:<...>")
    return encoder


def text_preprocessor(spec: str) -> TextPreprocessor | None:
    """The tokenizer of a text encoder, for counting what it does not know; None where that cannot be told.

    The bundled one is read without its model. Raises as `load_encoders` does.
    """
    if spec == "bundled":
        from embeddings.bundled_encoder import bundled_text_preprocessor

        return bundled_text_preprocessor()
    _device("cpu", spec)
    encoder = _load(spec, "text", _PLAIN)[1]
    return encoder.preprocessor if encoder and isinstance(encoder.preprocessor, TextPreprocessor) else None


@dataclass(frozen=True)
class _How:
    device: str
    bf16: bool
    threads: int = 1
    compile: bool = False


_PLAIN = _How("cpu", bf16=False)
_Loaded = tuple[BaseEncoder | None, BaseEncoder | None]


def _load(spec: str, modality: Modality, how: _How) -> _Loaded:
    """(image, text) with at least the one asked for; (None, None) when the modality is switched off."""
    is_sized = ":" not in spec and spec.startswith("bundled@")
    loader = _bundled if is_sized else _LOADERS.get(spec.partition(":")[0])
    if loader is None or (":" in spec) != (loader in _NAMED):
        raise ConfigError(
            f"unknown encoder {spec!r}: write bundled, fake, none, open_clip:<arch>/<pretrained or file>, "
            "transformers:<name or folder>, onnx:<folder> or, for images, bundled@<side in pixels>"
        )
    return loader(spec, modality, how)


def _none(spec: str, modality: Modality, how: _How) -> _Loaded:
    return None, None


def _fake(spec: str, modality: Modality, how: _How) -> _Loaded:
    return FakeEncoder("image"), FakeEncoder("text")


def _bundled(spec: str, modality: Modality, how: _How) -> _Loaded:
    from embeddings.bundled_encoder import image_size, load_bundled_image, load_bundled_text

    if modality == "image":
        return load_bundled_image(size=image_size(spec), device=how.device), None
    if spec != "bundled":
        raise ConfigError(f"{spec} sees pictures only: name another encoder for texts, as bundled")
    return None, load_bundled_text(device=how.device, bf16=how.bf16)


def _open_clip(spec: str, modality: Modality, how: _How) -> _Loaded:
    from embeddings.open_clip_encoder import load_open_clip

    return load_open_clip(spec, device=how.device, bf16=how.bf16)


def _transformers(spec: str, modality: Modality, how: _How) -> _Loaded:
    from embeddings.transformers_encoder import load_transformers

    pair = load_transformers(spec, device=how.device, bf16=how.bf16)
    if modality == "image" and pair[0] is None:
        raise ConfigError(f"{spec} encodes text only; name another encoder for images, or `none`")
    if modality == "text" and pair[1] is None:
        raise ConfigError(f"{spec} encodes images only; name another encoder for texts, or `none`")
    return pair


def _onnx(spec: str, modality: Modality, how: _How) -> _Loaded:
    folder = Path(spec.removeprefix(ONNX_PREFIX))
    kinds: tuple[Modality, ...] = ("image", "text")
    there = {kind: (folder / f"{kind}_encoder.json").exists() for kind in kinds}
    if not there[modality]:
        problem = f"{folder} holds no exported encoder of {modality}s"
        raise WeightsUnavailable(f"{problem}: name the folder that `recsys tag train --finetune` wrote")
    image, text = (OnnxEncoder.load(folder, kind) if there[kind] else None for kind in kinds)
    return image, text


def _detection(spec: str, modality: Modality, how: _How) -> _Loaded:
    from embeddings.tagging.detection import load_detector

    if modality != "image":
        raise ConfigError(f"a detector sees pictures and encodes no {modality}: name it for images")
    return load_detector(spec, device=how.device, threads=how.threads), None


def _crop(spec: str, modality: Modality, how: _How) -> _Loaded:
    from embeddings.tagging.crops import PREFIX, CropEncoder

    inner = spec.removeprefix(PREFIX)
    ready = _ready(_load(inner, "image", how)[0], how, lambda: _load(inner, "image", _PLAIN)[0])
    if modality != "image" or ready is None or ready.space.holds_records:
        raise ConfigError(f"{spec} encodes no objects: name an image encoder behind crop:, for images")
    return CropEncoder(ready), None


_NAMED = (_open_clip, _transformers, _onnx, _detection, _crop)
_LOADERS: dict[str, Callable[[str, Modality, _How], _Loaded]] = {
    "none": _none,
    "fake": _fake,
    "bundled": _bundled,
    "open_clip": _open_clip,
    "transformers": _transformers,
    "onnx": _onnx,
    "detection": _detection,
    "crop": _crop,
}


def _load_audio(spec: str, how: _How) -> BaseEncoder | None:
    if spec == "none":
        return None
    from embeddings.audio_encoders import load_audio

    return load_audio(spec, device=how.device, bf16=how.bf16, threads=how.threads)


def _ready(encoder: BaseEncoder | None, how: _How, original: Callable[[], BaseEncoder | None]) -> Encoder | None:
    """The form that computes: torch in float32 on a CPU makes way for ONNX Runtime."""
    if encoder is None:
        return None
    if isinstance(encoder, OnnxEncoder) or encoder.compute.startswith("litert-"):
        encoder.parallel = how.threads
    if encoder.space.holds_records or not encoder.compute.startswith("torch-"):
        return encoder
    from embeddings.torch_encoder import COMPUTE_PLAIN, TorchEncoder

    if encoder.compute == COMPUTE_PLAIN:
        encoder = OnnxEncoder(encoder.onnx_form())
    elif isinstance(encoder, TorchEncoder):
        encoder.original = original
        if how.compile and how.device == "cuda":
            encoder.compile()
    encoder.parallel = how.threads
    return encoder


def _device(device: Device, *specs: str) -> str:
    """The device to run on; asks torch only where a spec needs torch."""
    if all(spec in ("fake", "none", "logmel") or spec.startswith(("tflite:", ONNX_PREFIX)) for spec in specs):
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


def n_gpus() -> int:
    """CUDA devices of this host; 0 without torch."""
    if find_spec("torch") is None:
        return 0
    import torch

    return int(torch.cuda.device_count())
