"""What routes need of encoders, wherever these run."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class ContentEncoding(Protocol):
    """Contents of queries to vectors float32 [D], from the event loop.

    Raises:
        InvalidRequest: the content is none of its kind, or the release encodes none; `field` is "/text", "/image" or
            "/audio".
        Overloaded: there is too much to do.
        EncoderUnavailable: nobody encodes for this release now, or not in time.
        ArtifactError: the release's encoders cannot be used.
    """

    async def encode_text(self, text: str, *, release_id: str, timeout_s: float) -> NDArray[np.float32]: ...

    async def encode_image(self, data: bytes, *, release_id: str, timeout_s: float) -> NDArray[np.float32]: ...

    async def encode_audio(self, data: bytes, *, release_id: str, timeout_s: float) -> NDArray[np.float32]: ...

    def close(self) -> None: ...
