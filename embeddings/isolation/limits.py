"""What one content may cost, and what decoding a stream of them came to."""

from __future__ import annotations

from dataclasses import dataclass, replace

from embeddings.preprocess.boxed import BoxedPreprocessConfig
from embeddings.preprocess.build import config_of
from embeddings.preprocess.speech import SpeechPreprocessConfig

MIB = 1024 * 1024


@dataclass(frozen=True)
class DecodeLimits:
    """What a content may cost, and how far the pool runs ahead of its consumer.

    Attributes:
        cpu_s: CPU seconds of one content; the kernel ends the worker there, also inside C code.
        memory_bytes: address space of a worker above what it has when nothing is decoded.
        wall_s: silence after which a worker is given up, however little CPU time it has used.
        start_s: how long a worker may take to start; generous, for cold disks and crowded machines.
        content_bytes: longest content, and longest features.
        lookahead_items: contents in flight for each worker: queued, being decoded, or decoded and not yet consumed.
        lookahead_bytes: their bytes in all workers together, which one content more may exceed.
        ahead_items: prepared contents that may wait for a device beside them; at 224 x 224 pixels 256 take 38 MB.
    """

    cpu_s: float = 1.0
    memory_bytes: int = 256 * MIB
    wall_s: float = 10.0
    start_s: float = 60.0
    content_bytes: int = 128 * MIB
    lookahead_items: int = 32
    lookahead_bytes: int = 256 * MIB
    ahead_items: int = 256

    def __post_init__(self) -> None:
        if not 1 <= self.lookahead_items <= 128:  # as many requests as a socket surely holds
            raise ValueError(f"lookahead_items must lie in 1..128, not {self.lookahead_items}")


@dataclass(frozen=True)
class DecodeStatistics:
    """What a pool has done so far.

    Attributes:
        n_decoded: contents that became features.
        n_refused: contents refused, by reason, sorted.
        n_workers_replaced: workers that a content killed, that somebody else killed, or that did not give memory back.
        cpu_s: CPU seconds spent on contents, without the workers' starts.
    """

    n_decoded: int
    n_refused: dict[str, int]
    n_workers_replaced: int
    cpu_s: float


def limits_of(preprocessing: str) -> DecodeLimits:
    """What a content of this preprocessing may cost; `preprocessing` is the canonical JSON of its config.

    A whole recording is longer than a window or a picture: a minute of MP3 at 48 kHz takes .2 CPU seconds to read, and
    1.8 MiB as int16. Raises CorruptArtifact: it is of no kind this version knows.
    """
    config, usual = config_of(preprocessing), DecodeLimits()
    if isinstance(config, BoxedPreprocessConfig):  # up to 800 x 1333 pixels, 102 MB of them
        return replace(usual, ahead_items=32)
    if not isinstance(config, SpeechPreprocessConfig):
        return usual
    cpu_s = 2.0 + config.max_minutes
    # Memory that a slot does not use costs nothing.
    slot_bytes = max(usual.content_bytes, -(-2 * (config.max_samples + config.sample_rate) // MIB) * MIB)
    return DecodeLimits(
        cpu_s=cpu_s,
        memory_bytes=usual.memory_bytes + usual.content_bytes + 2 * slot_bytes,
        wall_s=usual.wall_s + 5 * cpu_s,
        content_bytes=slot_bytes,
        lookahead_items=2,
        ahead_items=1,
    )
