"""Encoders of sound by name: `logmel`, which needs no weights, `transformers:<name or folder>` (AST, CLAP), `fake`.

`tflite:<file>` (YAMNet and its like) hears for tagging alone: it has no ONNX form for a release to carry.
`speech:<JSON>` is what a job calls a recogniser of speech before its workers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embeddings.encoder import BaseEncoder, OnnxForm, Vectors, space_of
from embeddings.fake_encoder import FakeEncoder
from embeddings.preprocess.audio_summary import N_BAND_GROUPS, AudioSummaryConfig, AudioSummaryPreprocessor
from embeddings.preprocess.features import Features
from recsys.errors import ConfigError
from recsys.manifest import canonical_json, sha256_bytes

NAME = "logmel"
# Weights of timbre, variety, pace and rhythm in a cosine.
_GROUP_WEIGHTS = (1.0, 1.0, 0.7, 1.0)


def load_audio(spec: str, *, device: str = "cpu", bf16: bool = False, threads: int = 1) -> BaseEncoder | None:
    """The encoder of sound that `spec` names; None for `none`.

    Args:
        threads: of a CPU, for what does not compute batches side by side.

    Raises:
        ConfigError: the spec is unknown, or names a model that hears nothing.
        WeightsUnavailable: weights cannot be had here; the message says how to bring them.
    """
    if spec == "none":
        return None
    if spec == NAME:
        return LogMelEncoder()
    if spec == "fake":
        return FakeEncoder("audio")
    if spec.startswith("transformers:"):
        from embeddings.audio_transformers import load_audio_transformer

        return load_audio_transformer(spec, device=device, bf16=bf16)[0]
    if spec.startswith("speech:"):
        from embeddings.tagging.speech import load_spec

        return load_spec(spec, device=device, threads=threads)
    if spec.startswith("tflite:"):
        from embeddings.tflite_encoder import load_tflite

        return load_tflite(spec)
    raise ConfigError(
        f"unknown encoder of sound {spec!r}: write {NAME}, fake, none, transformers:<name or folder> or, for tagging, "
        "tflite:<file>"
    )


class LogMelEncoder(BaseEncoder):
    """Summaries of log-mel spectrograms, each number set to about mean 0 and spread 1 by constants.

    No weights and no torch: the baseline where no model is at hand. It tells a siren from rain, not a violin from a
    viola.
    """

    def __init__(self) -> None:
        config = AudioSummaryConfig()
        self._centre, self._scale = _standards(config.n_cepstrum)
        weights = sha256_bytes(canonical_json([self._centre.tolist(), self._scale.tolist()]).encode())
        space = space_of(NAME, "audio", weights, config, len(self._centre))
        super().__init__(space, AudioSummaryPreprocessor(config))

    def forward(self, features: Sequence[Features]) -> Vectors:
        vectors: Vectors = (self.preprocessor.collate(features)["features"] - self._centre) * self._scale
        return vectors

    def onnx_form(self) -> OnnxForm:
        """The same as a graph of a difference and a product, so that a release carries it like any other encoder."""
        from onnx import TensorProto, helper, numpy_helper

        shape: list[str | int | None] = ["B", len(self._centre)]
        graph = helper.make_graph(
            [
                helper.make_node("Sub", ["features", "centre"], ["difference"]),
                helper.make_node("Mul", ["difference", "scale"], ["output_vectors"]),
            ],
            NAME,
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("output_vectors", TensorProto.FLOAT, shape)],
            [numpy_helper.from_array(self._centre, "centre"), numpy_helper.from_array(self._scale, "scale")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return OnnxForm(model.SerializeToString(deterministic=True), self.space, None)


def _standards(n_cepstrum: int) -> tuple[Vectors, Vectors]:
    """(centre, scale), each float32 [F]: round curves through what recordings of everyday sounds show on average.

    Coefficient k of the cepstrum spreads like 1 / (k + 1); swells weaken by about 3 dB an octave. Each group counts by
    its weight, however many numbers it has.
    """
    k = np.arange(1, n_cepstrum + 1)
    timbre = np.zeros(n_cepstrum)
    timbre[:2] = -520.0, 27.0
    timbre_spread = 65.0 / k
    timbre_spread[0] = 130.0
    octave = np.repeat(np.arange(8), N_BAND_GROUPS)
    centres = [timbre, np.log(20.0) - 0.45 * np.log(k), np.log(8.0) - 0.2 * np.log(k), 28.0 - 3.2 * octave]
    spreads = [timbre_spread, np.full(n_cepstrum, 0.5), np.full(n_cepstrum, 0.25), 11.0 - 0.9 * octave]
    scales = [weight / (spread * np.sqrt(len(spread))) for weight, spread in zip(_GROUP_WEIGHTS, spreads, strict=True)]
    # Rounded, so that no machine's last digit makes another embedding space.
    centre, scale = (np.round(np.concatenate(parts), 6).astype(np.float32) for parts in (centres, scales))
    return centre, scale
