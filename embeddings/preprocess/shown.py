"""Contents as pages show them: the whole picture as a small JPEG, the beginning of a sound as Ogg Vorbis.

They are preprocessings like any other, so that hostile files are decoded, and what is shown is made, in processes of
their own: a page never holds bytes that a stranger wrote.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Literal

import numpy as np
from PIL import Image

from embeddings.preprocess.audio import sound_bytes
from embeddings.preprocess.decode import decode_image
from embeddings.preprocess.features import Batch, Content, Features
from embeddings.preprocess.waveform import Listening, SoundLimits, Waveform, read_sound
from embeddings.refused import Refused
from recsys.config import Config

_BLOCK = 10_000  # libsndfile's Vorbis encoder takes a long block onto its stack
_LOUDEST = 0.9


class ShownPictureConfig(Config):
    """A picture that fits into a square of `longest_edge` pixels."""

    kind: Literal["shown_picture"] = "shown_picture"
    longest_edge: int = 256
    quality: int = 75


class ShownPicture:
    """Image file bytes → uint8 [n], a JPEG without metadata."""

    tokenizer_json: str | None = None

    def __init__(self, config: ShownPictureConfig) -> None:
        self.config = config

    def __call__(self, content: Content) -> Features:
        """Raises Refused: not bytes, or no picture that can be decoded within the caps."""
        if isinstance(content, str):
            raise Refused("wrong_type", "an image must be given as its file's bytes, not as text")
        try:
            return _as_features(self._jpeg(decode_image(content)))
        except MemoryError:
            raise Refused("decode_memory", "the image needs more memory than there is: make it smaller") from None

    def collate(self, features: Sequence[Features]) -> Batch:
        """No model sees it."""
        return {f"jpeg_{at}": each for at, each in enumerate(features)}

    def _jpeg(self, image: Image.Image) -> bytes:
        edge = self.config.longest_edge
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        image.thumbnail((edge, edge), Image.Resampling.BICUBIC)
        if image.mode == "RGBA":
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image).convert("RGB")
        sink = io.BytesIO()
        image.save(sink, "JPEG", quality=self.config.quality, optimize=True)
        return sink.getvalue()


class ShownSoundConfig(Config):
    """The first `seconds` of a sound, mono."""

    kind: Literal["shown_sound"] = "shown_sound"
    seconds: float = 8.0
    sample_rate: int = 22_050


class ShownSound:
    """Sound file bytes → uint8 [n], an Ogg Vorbis file; its loudest sample is at nine tenths."""

    tokenizer_json: str | None = None

    def __init__(self, config: ShownSoundConfig) -> None:
        self.config = config
        self._listening = Listening(config.sample_rate, round(config.seconds * config.sample_rate))

    def __call__(self, content: Content) -> Features:
        """Raises Refused, and EnvironmentProblem where soundfile is not installed."""
        [waveform] = read_sound(sound_bytes(content), self._listening, SoundLimits())
        return _as_features(self._ogg(waveform))

    def collate(self, features: Sequence[Features]) -> Batch:
        """No model hears it."""
        return {f"ogg_{at}": each for at, each in enumerate(features)}

    def _ogg(self, waveform: Waveform) -> bytes:
        import soundfile

        loud = waveform * (_LOUDEST / max(float(np.abs(waveform).max()), 1e-9))
        sink = io.BytesIO()
        with soundfile.SoundFile(sink, "w", self.config.sample_rate, 1, format="OGG", subtype="VORBIS") as file:
            for start in range(0, len(loud), _BLOCK):
                file.write(loud[start : start + _BLOCK])
        return sink.getvalue()


def _as_features(content: bytes) -> Features:
    return np.frombuffer(content, np.uint8)
