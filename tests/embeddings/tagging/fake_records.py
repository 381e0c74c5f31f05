"""A record encoder without a model: each picture's size and mean level."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embeddings.batching import BatchLimits
from embeddings.embed import EmbedOptions, embed_items
from embeddings.preprocess.boxed import BoxedPreprocessConfig, BoxedPreprocessor, original_size
from embeddings.preprocess.features import Features
from embeddings.tagging.records import RecordEncoder, record_space
from tests.embeddings.conftest import picture, saved
from tests.worlds.in_memory_reader import InMemoryReader

N_PICTURES = 22


class FakeRecords(RecordEncoder):
    """Counts what reaches it."""

    def __init__(self) -> None:
        config = BoxedPreprocessConfig(fit="squash", width=8, height=8)
        space = record_space("fake-records", "image", "0" * 64, config, config)
        super().__init__(space, BoxedPreprocessor(config), limits=BatchLimits(max_items=4))
        self.n_records = 0

    def records(self, features: Sequence[Features]) -> list[dict[str, Any]]:
        self.n_records += len(features)
        return [{"size": original_size(each), "level": round(float(each[:-1].mean()), 2)} for each in features]


def pictures() -> tuple[list[tuple[str, str | None]], InMemoryReader]:
    """Pictures, one of them damaged."""
    contents = {f"{at}.png": saved(picture(20 + at, 16, seed=at)) for at in range(N_PICTURES)}
    contents["5.png"] = contents["5.png"][:300]
    return [(f"item-{at}", f"{at}.png") for at in range(N_PICTURES)], InMemoryReader(contents)


def embed(store: Path) -> FakeRecords:
    encoder = FakeRecords()
    items, reader = pictures()
    embed_items(items, encoder, store, reader=reader, options=EmbedOptions(shard_size=6))
    return encoder


if __name__ == "__main__":
    import os
    import signal

    left, real = int(sys.argv[2]), os.fsync

    def fsync(descriptor: int) -> None:
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        real(descriptor)

    os.fsync = fsync  # type: ignore[assignment]
    embed(Path(sys.argv[1]))
