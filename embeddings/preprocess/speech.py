"""A whole recording as Whisper hears it: int16 mono at 16 kHz. numpy and soundfile only.

The file is read and resampled block by block, so that an hour costs its own 110 MiB and little more. Silence is no
error here, as it is for encoders of sound: nothing was said, which is a transcript.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from embeddings.preprocess.audio import sound_bytes
from embeddings.preprocess.features import Batch, Content, Features
from embeddings.preprocess.resample import margin, ratio, resample
from embeddings.preprocess.waveform import BLOCK_FRAMES, UNKNOWN_LENGTH, SoundLimits, Waveform, mono_block, opened
from embeddings.refused import Refused
from recsys.config import Config

SAMPLE_RATE: Final = 16_000
FULL_SCALE = 32_768.0
Pcm = NDArray[np.int16]


class SpeechPreprocessConfig(Config):
    """How recordings are read.

    Attributes:
        sample_rate: in Hz.
        max_minutes: longer ones are refused.
    """

    kind: Literal["speech"] = "speech"
    sample_rate: Literal[16_000] = SAMPLE_RATE
    max_minutes: Annotated[float, Field(gt=0, le=24 * 60)] = 120.0

    @property
    def max_samples(self) -> int:
        return math.ceil(self.max_minutes * 60 * self.sample_rate)


class SpeechPreprocessor:
    """Sound file bytes → int16 [n], the whole recording; 1 <= n <= `config.max_samples`."""

    tokenizer_json: str | None = None

    def __init__(self, config: SpeechPreprocessConfig) -> None:
        self.config = config
        self._limits = SoundLimits(max_seconds=config.max_minutes * 60)

    def __call__(self, content: Content) -> Features:
        """Raises Refused as `read_sound` does, but not for silence; EnvironmentProblem without soundfile."""
        with opened(sound_bytes(content), self._limits) as file:
            return self._whole(file)

    def collate(self, features: Sequence[Features]) -> Batch:
        """`waveform` int16 [B, n of the longest], zeros behind shorter ones."""
        longest = max(len(each) for each in features)
        return {"waveform": np.stack([np.pad(each, (0, longest - len(each))) for each in features])}

    def _whole(self, file: Any) -> Pcm:
        is_known = file.frames < UNKNOWN_LENGTH
        up, down = ratio(file.samplerate, self.config.sample_rate)
        most = -(-file.frames * up // down) if is_known else 0
        whole, n = np.empty(most, np.int16), 0
        for samples in resampled_blocks(file, self.config.sample_rate):
            end = n + len(samples)
            if end > self.config.max_samples + self.config.sample_rate:  # of a file that does not say how long it is
                allowed = f"{self.config.max_minutes:g} minutes"
                raise Refused("too_long", f"the sound lasts longer than the {allowed} allowed")
            if end > len(whole):
                whole = np.concatenate([whole[:n], np.empty(max(end - n, n // 2), np.int16)])
            whole[n:end] = _pcm(samples)
            n = end
        if not n:
            raise Refused("empty", "the sound file holds no sound")
        if n < 0.99 * most:
            at_s = n / self.config.sample_rate
            raise Refused("damaged", f"the sound breaks off {at_s:.1f} s after its beginning")
        return whole[:n]


def resampled_blocks(file: Any, rate: int) -> Iterator[NDArray[np.float64]]:
    """The rest of a file in pieces, float64, mono at `rate` Hz: together what `resample` makes of the whole.

    A piece begins at a multiple of `down` frames, so that its samples lie where those of the whole do, and is filtered
    with the frames on either side that are heard in it. Raises Refused: not_finite.
    """
    up, down = ratio(file.samplerate, rate)
    reach = -(-(margin(file.samplerate, rate) + 1) // down) * down
    size = -(-BLOCK_FRAMES // down) * down
    held: Waveform = np.zeros(reach, np.float32)
    first = reach * up // down
    while True:
        block = mono_block(file, size)
        if not np.isfinite(block).all():
            raise Refused("not_finite", "the sound holds samples that are no finite numbers; export it again")
        held = np.concatenate([held, block])
        if len(block) < size:
            break
        n_done = len(held) - 2 * reach
        yield resample(held, file.samplerate, rate)[first : first + n_done * up // down]
        held = held[n_done:]
    if len(held) > reach:
        yield resample(held, file.samplerate, rate)[first:]


def _pcm(samples: NDArray[np.float64]) -> Pcm:
    scaled = np.rint(samples * FULL_SCALE)
    return np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
