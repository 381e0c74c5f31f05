"""What parity means here: the largest difference of raw outputs.

Cosines of vectors from random weights are blind (an upside-down picture still scores .98), so the outputs themselves
are compared, and every parity test also shows that it fails on input that is prepared wrongly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from embeddings.encoder import Encoder

TOLERANCE = 1e-5
ONNX_TOLERANCE = 1e-4

Pixels = NDArray[np.uint8]

WRONG_PIXELS: dict[str, Callable[[Pixels], Pixels]] = {
    "BGR": lambda pixels: pixels[:, :, ::-1],
    "upside down": lambda pixels: pixels[::-1],
    "mirrored": lambda pixels: pixels[:, ::-1],
    "turned": lambda pixels: pixels.transpose(1, 0, 2),
    "darker": lambda pixels: pixels // 2,
}


def gap(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """Largest absolute difference, both divided by the reference's mean norm, so that 1e-5 means the same anywhere."""
    assert ours.shape == theirs.shape
    return float(abs(ours - theirs).max() / np.linalg.norm(theirs, axis=1).mean())


def wrong_gaps(encoder: Encoder, contents: Sequence[bytes], theirs: NDArray[np.float32]) -> dict[str, float]:
    """The gap for each way to prepare pixels wrongly."""
    features = [encoder.preprocess(content) for content in contents]
    return {
        name: gap(encoder.forward([np.ascontiguousarray(spoil(pixels)) for pixels in features]), theirs)
        for name, spoil in WRONG_PIXELS.items()
    }
