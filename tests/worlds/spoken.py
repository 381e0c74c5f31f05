"""Speech whose words are known: espeak-ng reads sentences aloud. A robot's voice, but a clear one.

`espeakng-loader` (requirements/dev.txt) brings the library and its voices; where it is absent, tests skip.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from tests.embeddings.sounds import Samples, saved

VOICES = {"en": "en-us+klatt4", "es": "es+klatt4"}
"""The clearest to Whisper base, of those tried; what espeak-ng says in other languages it does not understand."""

_RETRIEVAL, _UTF8 = 2, 1
_RATE_OF_WORDS, _OK = 1, 0


def require_espeak() -> None:
    """Skips the test where there is nobody to speak."""
    pytest.importorskip("espeakng_loader", reason="speech is synthesised by espeakng-loader: requirements/dev.txt")


@lru_cache(maxsize=256)
def spoken(text: str, language: str = "en", *, words_per_minute: int = 140) -> tuple[Samples, int]:
    """(float64 [n] in [-1, 1], sample rate): the text read aloud, the same each time."""
    library, rate, blocks = _espeak()
    blocks.clear()
    library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # of the voice's flutter
    if library.espeak_SetVoiceByName(VOICES[language].encode()) != _OK:
        raise ValueError(f"espeak-ng has no voice {VOICES[language]}")
    library.espeak_SetParameter(_RATE_OF_WORDS, words_per_minute, 0)
    raw = text.encode() + b"\0"
    if library.espeak_Synth(raw, len(raw), 0, 0, 0, _UTF8, None, None) != _OK or library.espeak_Synchronize() != _OK:
        raise RuntimeError(f"espeak-ng cannot say {text!r}")
    return np.concatenate(blocks) / 32_768.0, rate


def spoken_file(
    text: str,
    language: str = "en",
    *,
    rate: int = 16_000,
    file_format: str = "WAV",
    coding: str | None = None,
    n_channels: int = 1,
    silence_s: float = 0.5,
) -> bytes:
    """The text read aloud, as a sound file, with silence around it."""
    from embeddings.preprocess.resample import resample

    samples, native = spoken(text, language)
    silence = np.zeros(int(silence_s * rate))
    return saved(
        np.concatenate([silence, resample(samples, native, rate), silence]), rate, file_format, coding, n_channels
    )


@lru_cache(maxsize=1)
def _espeak() -> tuple[Any, int, list[Any]]:
    """(the library, its sample rate, blocks of int16 that it has said since they were taken away)."""
    import espeakng_loader

    library, blocks = ctypes.CDLL(espeakng_loader.get_library_path()), []
    take = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)(
        lambda wave, n, _: blocks.append(np.ctypeslib.as_array(wave, (n,)).copy()) or 0 if wave and n > 0 else 0
    )
    rate = library.espeak_Initialize(_RETRIEVAL, 0, espeakng_loader.get_data_path().encode(), 0)
    if rate <= 0:
        raise RuntimeError("espeak-ng does not start")
    library.espeak_SetSynthCallback(take)
    library.heard_by = take  # or it is collected, and called all the same
    return library, rate, blocks
