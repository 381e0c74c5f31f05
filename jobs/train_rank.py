"""One rank of a training under torchrun: `torchrun --nproc_per_node 2 -m jobs.train_rank WORKSPACE FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from jobs.artifacts import load_content, load_dataset
from jobs.tags_of import tagged
from jobs.train import fit_towers
from recsys.storage.atomic import locked_folder
from recsys.workspace import Workspace


def main(root: str, working: str) -> None:
    workspace = Workspace.open(Path(root))
    dataset = tagged(workspace, load_dataset(workspace))
    with locked_folder(Path(working), shared=True):
        fit_towers(workspace, dataset, load_content(workspace, dataset), Path(working))


if __name__ == "__main__":
    main(*sys.argv[1:])
