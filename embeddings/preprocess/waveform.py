"""Bytes of one sound file → mono waveforms of the parts that an encoder listens to, or a clear refusal.

Choices, all of them part of what an encoder hears:
- WAV, FLAC, Ogg (Vorbis, Opus) and MP3 only, told by their first bytes, never by a name.
- Channels are averaged. Other sample rates are brought to the encoder's (`embeddings.preprocess.resample`).
- Of a long file only some windows are decoded, so that an hour costs little more than a minute; `window_starts` says
  which. What lies between them is not heard.
- A file that ends before it says itself is refused, like half a picture. An Ogg stream does not say where it ends, its
  pages do.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from embeddings.preprocess.resample import margin, resample
from embeddings.preprocess.sound_container import require_whole
from embeddings.refused import Refused
from recsys.errors import EnvironmentProblem

Waveform = NDArray[np.float32]
Place = Literal["start", "centre", "spread"]

_FORMATS = ("WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3")
_CODINGS = ("PCM", "FLOAT", "DOUBLE", "ULAW", "ALAW", "VORBIS", "OPUS", "MPEG_LAYER_III")
BLOCK_FRAMES = 65_536
UNKNOWN_LENGTH = 1 << 40
_TAKES = "WAV, FLAC, Ogg (Vorbis, Opus) and MP3 are read: convert it to one of these"


@dataclass(frozen=True)
class SoundLimits:
    """More than this is refused."""

    max_bytes: int = 128 << 20
    max_seconds: float = 6 * 3600.0
    max_channels: int = 16
    min_sample_rate: int = 4_000
    max_sample_rate: int = 384_000


@dataclass(frozen=True)
class Listening:
    """Which parts of a file an encoder hears.

    Attributes:
        sample_rate: of the waveforms, in Hz.
        window_samples: longest window, at `sample_rate`.
        windows: how many at most.
        place: where they lie in a longer file: at its start, in its centre (both for one window), or spread evenly
            from its first to its last moment.
    """

    sample_rate: int
    window_samples: int
    windows: int = 1
    place: Place = "start"


def read_sound(content: bytes, listening: Listening, limits: SoundLimits = SoundLimits()) -> list[Waveform]:
    """The windows of a file in order: each float32 [n], 1 <= n <= `window_samples`, in [-1, 1] unless it is float.

    A file that the windows can hold is heard whole, in windows of equal length.

    Raises:
        Refused: empty (also: digital silence), unknown_format, too_large, too_long, damaged, not_finite,
            decode_memory.
        EnvironmentProblem: soundfile is not installed here.
    """
    with opened(content, limits) as file:
        waveforms = list(_heard(file, listening))
    if not all(np.isfinite(waveform).all() for waveform in waveforms):
        raise Refused("not_finite", "the sound holds samples that are no finite numbers; export it again")
    if not any(waveform.any() for waveform in waveforms):
        raise Refused("empty", "the sound is silent: not one sample differs from zero in the parts that are heard")
    return waveforms


@contextmanager
def opened(content: bytes, limits: SoundLimits) -> Iterator[Any]:
    """The file as a `soundfile.SoundFile`, looked at and within the limits; what reading it raises becomes a refusal.

    Raises:
        Refused: empty, unknown_format, too_large, too_long, damaged, decode_memory.
        EnvironmentProblem: soundfile is not installed here.
    """
    if not content:
        raise Refused("empty", "the sound file is empty")
    if len(content) > limits.max_bytes:
        raise Refused("too_large", f"the sound file has {len(content)} bytes, more than the {limits.max_bytes} allowed")
    _require_known(content)
    require_whole(content)
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: the package without its library
        raise EnvironmentProblem(
            f"reading sound needs soundfile ({error}): install requirements/cpu.txt or requirements/gpu.txt"
        ) from None
    try:
        with soundfile.SoundFile(_File(content)) as file:
            _require_usable(file, limits)
            if file.frames >= UNKNOWN_LENGTH:
                # soundfile seeks after each read, and libsndfile cannot at the end of such a stream.
                file._info.seekable = 0
            yield file
    except MemoryError:
        raise Refused("decode_memory", "decoding the sound takes more memory than is allowed; shorten it") from None
    except soundfile.SoundFileError as error:
        reason = getattr(error, "error_string", str(error)).strip()
        raise Refused("damaged", f"the sound is damaged: {reason}") from None
    except (ValueError, OverflowError, RuntimeError) as error:  # what a hostile header can make of sizes
        raise Refused("damaged", f"the sound is damaged: {error}") from None


def window_starts(n_frames: int, window_frames: int, windows: int, place: Place) -> tuple[list[int], int]:
    """(where each window starts, how long all are), in frames of the file.

    With `n = min(windows, ceil(n_frames / window_frames))` windows of `length = min(window_frames, n_frames / n)`,
    window i starts at `i * (n_frames - length) / (n - 1)`: end to end where they hold the file, else evenly spaced.
    """
    n = max(1, min(windows, math.ceil(n_frames / window_frames)))
    length = min(window_frames, math.ceil(n_frames / n))
    spare = n_frames - length
    if n == 1:
        return [spare // 2 if place == "centre" else 0], length
    return [i * spare // (n - 1) for i in range(n)], length


def _require_known(content: bytes) -> None:
    head = content[:12]
    is_wav = head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE"
    is_mp3 = head[:3] == b"ID3" or (head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xE6 == 0xE2)  # sync, layer III
    if not (is_wav or is_mp3 or head[:4] in (b"fLaC", b"OggS")):
        raise Refused("unknown_format", f"not a sound file that can be told by its first bytes; {_TAKES}")


def _require_usable(file: Any, limits: SoundLimits) -> None:
    coding = str(file.subtype)
    if file.format not in _FORMATS or not coding.startswith(_CODINGS):
        raise Refused("unknown_format", f"{file.format} with {coding}; {_TAKES}")
    if not limits.min_sample_rate <= file.samplerate <= limits.max_sample_rate:
        allowed = f"{limits.min_sample_rate} to {limits.max_sample_rate}"
        raise Refused("unknown_format", f"its sample rate is {file.samplerate} Hz; {allowed} are read")
    if file.channels > limits.max_channels:
        raise Refused("unknown_format", f"it has {file.channels} channels; at most {limits.max_channels} are read")
    if file.frames <= 0:
        raise Refused("empty", "the sound file holds no sound")
    seconds = file.frames / file.samplerate
    if file.frames < UNKNOWN_LENGTH and seconds > limits.max_seconds:
        raise Refused("too_long", f"the sound lasts {seconds:.0f} s, more than the {limits.max_seconds:.0f} s allowed")


def _heard(file: Any, listening: Listening) -> Iterator[Waveform]:
    rate, target = file.samplerate, listening.sample_rate
    window_frames = math.ceil(listening.window_samples * rate / target)
    is_known = file.frames < UNKNOWN_LENGTH  # a FLAC stream need not say how long it is: then its start is heard
    n_frames = file.frames if is_known else window_frames * listening.windows
    starts, length = window_starts(n_frames, window_frames, listening.windows, listening.place)
    for start in starts:
        behind = min(margin(rate, target) if rate != target else 0, n_frames - start - length)
        samples = _mono(file, start, length + behind)
        if is_known and len(samples) < 0.99 * length:
            raise Refused("damaged", f"the sound breaks off {(start + len(samples)) / rate:.1f} s after its beginning")
        if len(samples):
            n = min(listening.window_samples, math.ceil(length * target / rate))
            yield resample(samples, rate, target)[:n].astype(np.float32)
        elif start == 0:
            raise Refused("empty", "the sound file holds no sound")


def _mono(file: Any, start: int, n_frames: int) -> NDArray[np.float32]:
    """float32 [up to n_frames], channels averaged block by block, so that many channels cost no memory."""
    if start:
        file.seek(start)
    parts = []
    while n_frames > 0:
        block = mono_block(file, min(BLOCK_FRAMES, n_frames))
        if not len(block):
            break
        parts.append(block)
        n_frames -= len(block)
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def mono_block(file: Any, n_frames: int) -> Waveform:
    """The next frames, float32 [up to n_frames]; fewer at the end of the file."""
    block = file.read(n_frames, dtype="float32", always_2d=True)
    mono: Waveform = block.mean(axis=1, dtype=np.float32)
    return mono


class _File(io.BytesIO):
    """The bytes for libsndfile, which may seek to anywhere: an exception in its callbacks cannot be raised."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if whence == io.SEEK_SET:
            return super().seek(max(0, offset))
        base = self.tell() if whence == io.SEEK_CUR else super().seek(0, io.SEEK_END)
        return super().seek(max(0, base + offset))
