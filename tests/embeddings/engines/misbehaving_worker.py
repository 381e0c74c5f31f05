"""A worker process with a bad habit, named by its first argument.

slow              takes its time over each batch
dies-at <words>   aborts when it prepares a text that contains the words
late              begins when somebody else has committed a shard
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from embeddings.encoder import Vectors
from embeddings.engines.worker_process import main
from embeddings.fake_encoder import FakeEncoder
from embeddings.preprocess.features import Content, Features

_forward, _preprocess = FakeEncoder.forward, FakeEncoder.preprocess


def slow_forward(self: FakeEncoder, features: Sequence[Features]) -> Vectors:
    time.sleep(0.05)
    return _forward(self, features)


def dying_preprocess(self: FakeEncoder, content: Content) -> Features:
    if isinstance(content, str) and CURSE in content:
        print("a cursed text", file=sys.stderr, flush=True)
        os.abort()
    return _preprocess(self, content)


how, _, CURSE = sys.argv[1].partition(" ")
if how == "slow":
    FakeEncoder.forward = slow_forward  # type: ignore[method-assign]
elif how == "dies-at":
    FakeEncoder.preprocess = dying_preprocess  # type: ignore[assignment,method-assign]
elif how == "late":
    while not list(Path(sys.argv[2]).parents[1].glob("shard-*.json")):
        time.sleep(0.01)
sys.exit(main(sys.argv[2:]))
