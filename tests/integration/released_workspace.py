"""A small workspace, taken through the jobs on the command line to a published release."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.worlds.checkerboard import World, write_world

CONFIG = """\
[encoders]
image = "fake"
text = "fake"

[model]
dim = 32
n_blocks = 1

[training]
n_evaluations = 2
max_tokens = 40000
threads = 1

[gate]
min_lift_over_popularity = 0.0

[serving]
store_url = "{store_url}"
"""


def write_workspace(folder: Path, store_url: str = "sqlite:///store.sqlite3") -> World:
    """A checkerboard of 60 items and 120 users in `folder/data`, with the fake encoder; nothing is run yet."""
    (folder / "recsys.toml").write_text(CONFIG.format(store_url=store_url), encoding="utf-8")
    return write_world(folder / "data", n_items=60, n_users=120)


def recsys(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """One job as a user would run it; its output is in the error when it fails."""
    command = [str(Path(sys.executable).parent / "recsys"), *arguments, "--workspace", str(folder)]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done
