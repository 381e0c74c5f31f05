"""An encoder process whose text encoder takes its time: `python -m ... --delay-ms N --queue N --socket PATH`."""

from __future__ import annotations

import argparse
import asyncio
import signal
import time
from pathlib import Path

from embeddings.encoder import Encoder, Vectors
from embeddings.fake_encoder import FakeEncoder
from recsys.errors import CorruptArtifact
from recsys.serving_config import EncoderProcessConfig
from serving.encoding.decoding import IsolatedDecoder
from serving.encoding.engine import Engine
from serving.encoding.library import EncoderSource, Library
from serving.encoding.server import EncoderServer


class SlowEncoder(FakeEncoder):
    """The fake text encoder, which sleeps before each forward pass."""

    def __init__(self, delay_s: float) -> None:
        super().__init__("text")
        self._delay_s = delay_s

    def forward(self, features: list) -> Vectors:  # type: ignore[type-arg]
        time.sleep(self._delay_s)
        return super().forward(features)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--delay-ms", type=float)
    parser.add_argument("--queue", type=int)
    parser.add_argument("--socket", type=Path)
    options = parser.parse_args()

    def sources_of(release_id: str) -> dict[str, EncoderSource]:
        if release_id == "damaged":
            raise CorruptArtifact("text_encoder.onnx is damaged")
        return {"text": EncoderSource("slow", opened)}

    def opened() -> Encoder:
        return SlowEncoder(options.delay_ms / 1000.0)

    async def run() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        library = Library(sources_of, time.monotonic)
        engine = Engine(library, IsolatedDecoder(1 << 20), EncoderProcessConfig(queue=options.queue), time.monotonic)
        await EncoderServer(engine, 1 << 20).serve(options.socket, stop)

    asyncio.run(run())


if __name__ == "__main__":
    main()
