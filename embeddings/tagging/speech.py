"""Speech → transcripts, by Whisper in faster-whisper: the home of both libraries behind it.

What is said is found first (Silero VAD, inside faster-whisper) and heard in windows that the model's 30 seconds hold.
Every choice is the most probable one: nothing is drawn by chance, so the same sound gives the same transcript. Where
the model says one thing over and over it is asked again, forbidden to repeat itself; what still loops is left out, and
so is that of which the model itself thinks that nobody speaks.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from embeddings.batching import BatchLimits
from embeddings.preprocess.features import Features
from embeddings.preprocess.speech import FULL_SCALE, SAMPLE_RATE, SpeechPreprocessConfig, SpeechPreprocessor
from embeddings.tagging.records import RecordEncoder, record_space
from embeddings.tagging.whisper_weights import Whisper, load_whisper
from recsys.config import Config
from recsys.errors import ConfigError
from recsys.manifest import canonical_json
from recsys.tagging_config import SpeechConfig

PREFIX = "speech:"
SHARD_SIZE = 32
"""Recordings of a shard, the most that a kill loses; they take thousands of times longer than pictures."""

_PIECE_S = 600
"""Speech is looked for in so much at a time; float32 of it takes 37 MiB, and the search as much again."""

_CUT_S = 30
"""Of a piece's end, in which it is cut where it is quietest."""

_WINDOWS_AT_ONCE = {"cpu": 2, "cuda": 16}


class Hearing(Config):
    """All that decides a transcript beside the weights and the samples.

    Attributes:
        language: as `en`; "" = the model tells.
        speech_threshold: probability from which a moment counts as speech.
        min_speech_ms: shorter ones do not count.
        window_s: longest window; less than the model's 30 s, because in silence behind it the last words end well.
        min_confidence: of a window; below it there are rarely words, but a model's dreams of noise.
        max_compression: zlib's ratio of a window's text; above it the model says one thing over and over.
        retry_beam_size, retry_no_repeat, retry_penalty: of the second try: its beam, the number of tokens that may not
            follow each other twice, and what a token's repetition costs (1 = nothing).
        language_windows: of 30 s, that are asked until one is sure of the language.
    """

    language: str = ""
    beam_size: int = 1
    speech_threshold: float = 0.5
    min_speech_ms: int = 250
    window_s: float = 28.0
    min_confidence: float = 0.15
    max_compression: float = 2.4
    retry_beam_size: int = 5
    retry_no_repeat: int = 4
    retry_penalty: float = 1.1
    language_windows: int = 4


@dataclass(frozen=True)
class _Window:
    """Where somebody speaks: seconds of a piece, and what was heard there."""

    start_s: float
    end_s: float
    segments: tuple[_Heard, ...] = ()

    @property
    def compression(self) -> float:
        said = " ".join(each.text for each in self.segments).encode()
        return len(said) / len(zlib.compress(said)) if said else 0.0


@dataclass(frozen=True)
class _Heard:
    start_s: float
    end_s: float
    text: str
    confidence: float


class SpeechEncoder(RecordEncoder):
    """Whole recordings (int16 at 16 kHz) → transcripts:

        {"text", "language", "language_confidence", "duration_s",
         "segments": [{"start_s", "end_s", "text", "confidence"}]}

    Segments rise, lie within the duration and do not overlap. `confidence` is the geometric mean of the tokens'
    probabilities of a window, times that of anybody speaking there: an order, and not calibrated. Where nobody speaks
    the text and the language are empty.
    """

    def __init__(self, whisper: Whisper, config: SpeechConfig) -> None:
        """Raises ConfigError: the model does not know the language asked for."""
        known = whisper.model.supported_languages
        if config.language and config.language not in known:
            raise ConfigError(f"{whisper.name} knows no language {config.language!r}; it knows {', '.join(known)}")
        self.hearing = Hearing(language=config.language, beam_size=config.beam_size)
        preprocessing = SpeechPreprocessConfig(max_minutes=config.max_minutes)
        super().__init__(
            record_space(whisper.name, "audio", whisper.sha256, preprocessing, self.hearing),
            SpeechPreprocessor(preprocessing),
            compute=whisper.compute,
            limits=BatchLimits(max_items=1),
        )
        self._whisper = whisper

    def records(self, features: Sequence[Features]) -> list[dict[str, Any]]:
        return [self._record(each) for each in features]

    def _record(self, samples: NDArray[np.int16]) -> dict[str, Any]:
        duration_s = round(len(samples) / SAMPLE_RATE, 3)
        language, confidence = self.hearing.language, 1.0 if self.hearing.language else 0.0
        heard: list[_Heard] = []
        for start_s, piece in _pieces(samples):
            windows = self._windows(piece)
            if not windows:
                continue
            windows, told, sure = self._transcribe(piece, windows, language)
            found = [each for window in windows for each in window.segments]
            heard += (replace(each, start_s=start_s + each.start_s, end_s=start_s + each.end_s) for each in found)
            if found and not language:
                language, confidence = told, sure
        return {
            "text": " ".join(each.text for each in heard),
            "language": language if heard else "",
            "language_confidence": round(confidence, 4) if heard else 0.0,
            "duration_s": duration_s,
            "segments": _in_order(heard, duration_s),
        }

    def _windows(self, piece: NDArray[np.float32]) -> list[_Window]:
        """Where speech is: neighbours together as long as a window holds them."""
        from faster_whisper.vad import VadOptions, get_speech_timestamps

        options = VadOptions(
            threshold=self.hearing.speech_threshold,
            min_speech_duration_ms=self.hearing.min_speech_ms,
            max_speech_duration_s=self.hearing.window_s,
            min_silence_duration_ms=160,
        )
        windows: list[_Window] = []
        for found in get_speech_timestamps(piece, options, SAMPLE_RATE):
            start_s, end_s = found["start"] / SAMPLE_RATE, found["end"] / SAMPLE_RATE
            if windows and end_s - windows[-1].start_s <= self.hearing.window_s:
                windows[-1] = _Window(windows[-1].start_s, end_s)
            else:
                windows.append(_Window(start_s, end_s))
        return windows

    def _transcribe(
        self, piece: NDArray[np.float32], windows: Sequence[_Window], language: str
    ) -> tuple[list[_Window], str, float]:
        """The windows with what is said in them; the language, and how sure it is."""
        hearing = self.hearing
        heard, told, sure = self._ask(piece, windows, language, beam_size=hearing.beam_size)
        loops = [window for window in heard if window.compression > hearing.max_compression]
        if loops:
            again, _, _ = self._ask(
                piece,
                loops,
                told,
                beam_size=hearing.retry_beam_size,
                no_repeat_ngram_size=hearing.retry_no_repeat,
                repetition_penalty=hearing.retry_penalty,
            )
            heard = sorted([*(each for each in heard if each not in loops), *again], key=lambda each: each.start_s)
        return [each for each in heard if each.compression <= hearing.max_compression], told, sure

    def _ask(
        self, piece: NDArray[np.float32], windows: Sequence[_Window], language: str, **how: Any
    ) -> tuple[list[_Window], str, float]:
        segments, info = self._whisper.pipeline.transcribe(
            piece,
            language=language or None,
            temperature=0.0,
            without_timestamps=False,
            clip_timestamps=[{"start": each.start_s, "end": each.end_s} for each in windows],
            batch_size=_WINDOWS_AT_ONCE[self._whisper.device],
            language_detection_segments=self.hearing.language_windows,
            **how,
        )
        starts = np.array([each.start_s for each in windows])
        of_window: list[list[_Heard]] = [[] for _ in windows]
        for each in segments:
            text = " ".join(each.text.split())
            confidence = math.exp(min(each.avg_logprob, 0.0)) * (1.0 - each.no_speech_prob)
            if text and confidence >= self.hearing.min_confidence:
                at = int(np.searchsorted(starts, each.start + 0.01, "right")) - 1  # their times are rounded
                of_window[max(at, 0)].append(_Heard(each.start, each.end, text, confidence))
        heard = [replace(window, segments=tuple(said)) for window, said in zip(windows, of_window, strict=True)]
        return heard, str(info.language), float(info.language_probability)


def load_speech(config: SpeechConfig, *, device: str = "cpu", threads: int = 1) -> SpeechEncoder | None:
    """The recogniser that the configuration names; None for `none`.

    Args:
        device: cpu or cuda; on the first it computes in int8, on the second in float16.
        threads: of one window on a CPU.

    Raises:
        ConfigError: the model or the language is unknown.
        WeightsUnavailable, CorruptArtifact: its weights cannot be had here; the message says how to bring them.
    """
    if config.model == "none":
        return None
    return SpeechEncoder(load_whisper(config.model, device=device, threads=threads), config)


def speech_spec(config: SpeechConfig) -> str:
    """The recogniser's name among the encoders of sound, as an engine's worker is told it."""
    return PREFIX + canonical_json(config.model_dump(mode="json"))


def load_spec(spec: str, *, device: str = "cpu", threads: int = 1) -> SpeechEncoder | None:
    """What `speech_spec` names. Raises as `load_speech`."""
    try:
        config = SpeechConfig.model_validate_json(spec.removeprefix(PREFIX))
    except ValidationError as error:
        raise ConfigError(f"{spec!r} is no recogniser of speech of this version: {error}") from None
    return load_speech(config, device=device, threads=threads)


def _pieces(samples: NDArray[np.int16]) -> Iterator[tuple[float, NDArray[np.float32]]]:
    """(the second at which it starts, float32 in [-1, 1)); cut where a tenth of a second is quietest."""
    start, step, seek = 0, SAMPLE_RATE // 10, _CUT_S * SAMPLE_RATE
    while start < len(samples):
        end = start + _PIECE_S * SAMPLE_RATE
        if end < len(samples):
            tail = samples[end - seek : end].astype(np.float32).reshape(-1, step)
            end = end - seek + int(np.argmin((tail**2).sum(axis=1))) * step + step // 2
        yield start / SAMPLE_RATE, samples[start:end].astype(np.float32) / np.float32(FULL_SCALE)
        start = end


def _in_order(heard: Sequence[_Heard], duration_s: float) -> list[dict[str, Any]]:
    segments, before_s = [], 0.0
    for each in heard:
        start_s = min(max(round(each.start_s, 2), before_s), duration_s)
        end_s = min(max(round(each.end_s, 2), start_s), duration_s)
        segments.append(
            {"start_s": start_s, "end_s": end_s, "text": each.text, "confidence": round(each.confidence, 4)}
        )
        before_s = end_s
    return segments
