"""Features for the fake encoder: cheap, deterministic, and near each other for equal words or colours."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
from PIL import Image

from embeddings.preprocess.decode import decode_image
from embeddings.preprocess.features import Batch, Content, Features
from embeddings.preprocess.waveform import Listening, read_sound
from recsys.config import Config
from recsys.errors import InputError

N_HASHED = 16
_NOISE = 0.05
_SOUND_HZ = 8_000


class FakePreprocessConfig(Config):
    """`F = n_meaning + N_HASHED` features: words hashed to buckets, a small colour grid (image), or pitches (audio).

    Attributes:
        n_meaning: buckets of words, 3 x side x side colour cells, or bands of equal width up to 4 kHz.
    """

    kind: Literal["fake"] = "fake"
    modality: Literal["image", "text", "audio"]
    n_meaning: int


class FakePreprocessor:
    """Content → float32 [F]: what it means, then a little of its content hash, so that no two contents are equal."""

    tokenizer_json: str | None = None

    def __init__(self, config: FakePreprocessConfig) -> None:
        self.config = config

    def __call__(self, content: Content) -> Features:
        if self.config.modality == "text":
            if isinstance(content, bytes):
                raise InputError("a text must be given as text, not as bytes")
            meaning, raw = self._words(content), content.encode("utf-8", "replace")
        else:
            if isinstance(content, str):
                raise InputError(f"{self.config.modality} must be given as its file's bytes, not as text")
            meaning = self._pitches(content) if self.config.modality == "audio" else self._colours(content)
            raw = content
        digest = np.frombuffer(hashlib.sha256(raw).digest()[:N_HASHED], dtype=np.uint8)
        return np.concatenate([meaning, (digest / 127.5 - 1.0) * _NOISE]).astype(np.float32)

    def collate(self, features: Sequence[Features]) -> Batch:
        """`features` float32 [B, F]."""
        return {"features": np.stack(features)}

    def _words(self, text: str) -> Features:
        words = text.casefold().split()
        if not words:
            raise InputError("the text is empty")
        counts = np.zeros(self.config.n_meaning)
        for word in words:
            bucket = int.from_bytes(hashlib.sha256(word.strip(".,:;!?()").encode("utf-8", "replace")).digest()[:8])
            counts[bucket % self.config.n_meaning] += 1.0
        return counts / np.linalg.norm(counts)

    def _colours(self, content: bytes) -> Features:
        side = int((self.config.n_meaning // 3) ** 0.5)
        image = decode_image(content).convert("RGB").resize((side, side), Image.Resampling.BOX)
        return np.asarray(image, dtype=np.float64).ravel() / 127.5 - 1.0

    def _pitches(self, content: bytes) -> Features:
        [waveform] = read_sound(content, Listening(sample_rate=_SOUND_HZ, window_samples=_SOUND_HZ))
        spectrum = np.abs(np.fft.rfft(waveform, _SOUND_HZ))[1:]
        bands = np.array([band.sum() for band in np.array_split(spectrum, self.config.n_meaning)])
        return bands / max(float(np.linalg.norm(bands)), 1e-12)
