"""`tflite:<file>`: a classifier of waveforms, as YAMNet, lends its last vector; it works in jobs alone.

The vector of a sound is the mean over its frames, and it keeps its length: what the model's own classifier says depends
on it (`embeddings.tagging.audio_heads`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from embeddings.batching import BatchLimits
from embeddings.encoder import BaseEncoder, OnnxForm, Vectors, space_of
from embeddings.preprocess.features import Features
from embeddings.preprocess.waveform_frames import WaveformFramesConfig, WaveformFramesPreprocessor
from embeddings.tflite_file import WaveformModel, read_tflite
from recsys.errors import ConfigError

PREFIX = "tflite:"
# A minute of sound is 120 frames, 7.5 MB.
_LIMITS = BatchLimits(max_items=8)


def load_tflite(spec: str) -> TfliteEncoder:
    """The encoder in the file that `tflite:<file>` names. Raises as `read_tflite` does."""
    return TfliteEncoder(read_tflite(Path(spec.removeprefix(PREFIX)).expanduser()))


class TfliteEncoder(BaseEncoder):
    """Means of frames' vectors: float32 [B, D], not normalised.

    Attributes:
        model: the file, with the classifier and its labels.
    """

    def __init__(self, model: WaveformModel) -> None:
        config = frames_config(model.frame_samples)
        space = space_of("tflite", "audio", model.weights_sha256, config, model.dim)
        super().__init__(
            space.model_copy(update={"normalised": False}),
            WaveformFramesPreprocessor(config),
            compute=f"litert-{'int8' if model.is_quantised else 'fp32'}",
            limits=_LIMITS,
        )
        self.model = model
        self._idle: SimpleQueue[_Session] = SimpleQueue()

    def forward(self, features: Sequence[Features]) -> Vectors:
        with self._session() as session:
            return np.stack([session.vectors(frames).mean(axis=0, dtype=np.float64) for frames in features]).astype(
                np.float32
            )

    def onnx_form(self) -> OnnxForm:
        """Raises ConfigError: there is none."""
        raise ConfigError(
            f"{PREFIX}<file> hears for tagging only, because a release carries encoders as ONNX: name it in "
            "[tagging.audio] encoder, and logmel, transformers:<name or folder> or none in [encoders] audio"
        )

    @contextmanager
    def _session(self) -> Iterator[_Session]:
        """An interpreter for one thread; they are kept for the next batches."""
        try:
            session = self._idle.get_nowait()
        except Empty:
            session = _Session(self.model)
        try:
            yield session
        finally:
            self._idle.put(session)


def frames_config(frame_samples: int) -> WaveformFramesConfig:
    """Frames that overlap by half, windows of 20 frames.

    A tflite file does not tell its sample rate; models of this kind are trained at 16 kHz.
    """
    hop = max(1, frame_samples // 2)
    return WaveformFramesConfig(frame_samples=frame_samples, hop_samples=hop, window_samples=frame_samples + 19 * hop)


class _Session:
    def __init__(self, model: WaveformModel) -> None:
        self._interpreter = Interpreter(model_content=model.body, num_threads=1)
        self._interpreter.allocate_tensors()
        told = self._interpreter.get_input_details()[0]
        self._input, self._shape = told["index"], told["shape"]
        self._output = self._interpreter.get_output_details()[0]["index"]
        self._scale, self._zero_point, self._dim = model.scale, model.zero_point, model.dim

    def vectors(self, frames: Features) -> Vectors:
        """float32 [F, S] → float32 [F, D]."""
        stored = np.empty((len(frames), self._dim), np.float32)
        for row, frame in enumerate(frames):
            self._interpreter.set_tensor(self._input, frame.reshape(self._shape))
            self._interpreter.invoke()
            stored[row] = self._interpreter.get_tensor(self._output).ravel()
        return (stored - np.float32(self._zero_point)) * np.float32(self._scale)
