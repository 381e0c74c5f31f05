"""One process of a training on the chain, for tests that kill it or run several: `python -m ... FOLDER KILL_AT LOSS`.

With KILL_AT > 0 the process kills itself (SIGKILL) after that step.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from recsys.models.run import train_into
from recsys.models.training import Progress
from tests.recsys.models.chain import MODEL, TRAINING, chain_data


def main(folder: str, kill_at: str, table_optimizer: str, max_tokens: str) -> None:
    def on_progress(progress: Progress) -> None:
        if progress.step == int(kill_at):
            os.kill(os.getpid(), signal.SIGKILL)

    training = TRAINING.model_copy(update={"table_optimizer": table_optimizer, "max_tokens": int(max_tokens)})
    train_into(Path(folder), chain_data(), MODEL, training, on_progress=on_progress)


if __name__ == "__main__":
    main(*sys.argv[1:])
