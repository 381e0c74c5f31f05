"""A release's content encoder that runs in the encoder process: what a worker holds in place of the models."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from serving.encoding.client import EncoderClient

Floats = NDArray[np.float32]


class RemoteContentEncoder:
    """Implements `recsys.ports.ContentEncoder` for one release; safe from many threads."""

    def __init__(
        self, client: EncoderClient, release_id: str, space_ids: Mapping[str, str], *, timeout_s: float
    ) -> None:
        """Returns at once; the process opens the release's encoders meanwhile.

        Args:
            space_ids: modality → embedding space; vectors of another one are refused.
            timeout_s: how long one content may take.
        """
        self._client = client
        self._release_id = release_id
        self._space_ids = dict(space_ids)
        self._timeout_s = timeout_s
        client.prepare(release_id, space_ids)

    @property
    def space_ids(self) -> Mapping[str, str]:
        return self._space_ids

    def encode_image(self, data: bytes) -> Floats:
        """float32 [D]; raises as `EncoderClient` says."""
        return self._client.ask("image", data, release_id=self._release_id, timeout_s=self._timeout_s)

    def encode_text(self, text: str) -> Floats:
        """float32 [D]; raises as `EncoderClient` says."""
        return self._client.ask("text", text, release_id=self._release_id, timeout_s=self._timeout_s)

    def encode_audio(self, data: bytes) -> Floats:
        """float32 [D]; raises as `EncoderClient` says."""
        return self._client.ask("audio", data, release_id=self._release_id, timeout_s=self._timeout_s)
