"""What only a CUDA device can tell: how near an encoder comes to the device's own matmul rate."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

BATCH = 256
ROUNDS = 20


def matmul_share(arch: str) -> float:
    """The encoder's floating-point operations a second over those of an 8,192 x 8,192 bf16 product, interleaved."""
    from torch.utils.flop_counter import FlopCounterMode

    with tempfile.TemporaryDirectory() as folder:
        encoder = _encoder(arch, Path(folder))
        size = encoder.preprocessor.config.size
        batch = list(np.random.default_rng(0).integers(0, 256, (BATCH, size, size, 3), dtype=np.uint8))
        counter = FlopCounterMode(display=False)
        with counter:
            list(encoder.forward_many([batch]))
        square = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
        seconds: dict[str, list[float]] = {"encode": [], "matmul": []}
        for _ in range(5):
            seconds["encode"].append(_seconds(lambda: list(encoder.forward_many([batch] * ROUNDS))) / ROUNDS)
            seconds["matmul"].append(_seconds(lambda: [square @ square for _ in range(ROUNDS)]) / ROUNDS)
        rate = counter.get_total_flops() / min(seconds["encode"])
        return float(rate / (2 * 8192**3 / min(seconds["matmul"])))


def end_to_end_share(arch: str, contents: Sequence[bytes]) -> float:
    """Pictures a second of the whole job over the slower of decoding alone and encoding alone."""
    import os

    from embeddings.embed import EmbedOptions, embed_items
    from embeddings.isolation import DecodePool
    from tests.worlds.in_memory_reader import InMemoryReader

    workers = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        encoder = _encoder(arch, Path(folder))
        many = {str(number): content for number, content in enumerate(contents)}
        with DecodePool(encoder.space.preprocessing, workers=workers) as pool:
            list(pool.map(list(many.items())[:64]))
            features: list[Any] = []
            decode_s = _seconds(lambda: features.extend(each for _, each in pool.map(many.items())))
        batches = [features[start : start + BATCH] for start in range(0, len(features), BATCH)]
        list(encoder.forward_many(batches[:2]))
        encode_s = _seconds(lambda: list(encoder.forward_many(batches)))
        options = EmbedOptions(shard_size=16384, decode_workers=workers)
        items = [(name, name) for name in many]

        def job() -> None:
            embed_items(items, encoder, Path(folder) / "store", reader=InMemoryReader(many), options=options)

        return max(decode_s, encode_s) / _seconds(job)


def _encoder(arch: str, folder: Path) -> Any:
    import open_clip
    from safetensors.torch import save_file

    from embeddings.registry import load_encoders

    torch.manual_seed(0)
    save_file(open_clip.create_model(arch).state_dict(), folder / "weights.safetensors")
    return load_encoders(f"open_clip:{arch}/{folder / 'weights.safetensors'}", "none", device="cuda").image


def _seconds(work: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - started
