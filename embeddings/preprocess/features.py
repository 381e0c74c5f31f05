"""What preprocessing hands over: one item as an array, and a batch as named arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from recsys.config import Config

Content = bytes | str
"""One item before preprocessing: an image file's bytes, or a text."""

Features = NDArray[Any]
"""One item after preprocessing: pixels uint8 [S, S, 3], token ids int64 [L], or a fake encoder's float32 [F]."""

Batch = dict[str, NDArray[Any]]
"""The model's inputs by name, batch dimension first."""


class Preprocessor(Protocol):
    """The first phase of an encoder: pure numpy, one item at a time, safe to call from many threads."""

    @property
    def config(self) -> Config:
        """Everything that decides its output; its canonical JSON is part of the embedding space."""

    @property
    def tokenizer_json(self) -> str | None:
        """The tokenizer file's text, where it has one."""

    def __call__(self, content: Content) -> Features:
        """Raises InputError: this content cannot be encoded; the message says why."""

    def collate(self, features: Sequence[Features]) -> Batch:
        """The model's inputs for `B` items."""
