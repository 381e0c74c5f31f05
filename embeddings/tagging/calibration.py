"""From a head's raw probabilities to ones that mean what they say.

Letters: N items, L labels, K knots.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.config import Config

Floats = NDArray[np.float32]


class Isotonic(Config):
    """A rising piecewise linear function through (x, y), constant outside: one tag's raw confidence → probability."""

    x: tuple[float, ...]
    y: tuple[float, ...]


class Calibration(Config):
    """How logits become calibrated confidences.

    Attributes:
        temperature: logits are divided by it (Guo et al., "On Calibration of Modern Neural Networks", 2017).
        isotonic: by tag, over what the temperature gives; tags that are not in it keep that (Zadrozny and Elkan, 2002).
    """

    method: Literal["none", "temperature", "isotonic"] = "none"
    temperature: float = 1.0
    isotonic: dict[str, Isotonic] = Field(default_factory=dict)

    def of_tags(self, raw: Floats, tags: tuple[str, ...]) -> Floats:
        """float32 [N, C]: the second step."""
        out = raw.copy()
        for column, tag in enumerate(tags):
            curve = self.isotonic.get(tag)
            if curve is not None:
                out[:, column] = np.interp(raw[:, column], curve.x, curve.y)
        return out


NO_CALIBRATION = Calibration()
