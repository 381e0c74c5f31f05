"""Catalogues of a size that matters, each step in a process of its own, so that its peak of memory can be told.

python -m tests.benchmarks._million prepare FOLDER     a workspace with 1e6 items, validated
python -m tests.benchmarks._million embed FOLDER       `recsys embed` there
python -m tests.benchmarks._million pictures FOLDER    1e5 pictures: embed, then measure the rerun
"""

from __future__ import annotations

import io
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

N_TEXTS = 1_000_000
N_PICTURES = 100_000
CONFIG = '[encoders]\nimage = "{image}"\ntext = "{text}"\n'
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def prepare(root: Path) -> dict[str, Any]:
    from jobs.validate import validate_job

    (root / "data").mkdir()
    (root / "recsys.toml").write_text(CONFIG.format(image="none", text="fake"))
    rng = np.random.default_rng(0)
    words = np.array([f"word{number}" for number in range(20_000)])
    titles = [" ".join(words[rng.integers(0, len(words), 12)]) for _ in range(N_TEXTS)]
    ids = [f"item-{number:07d}" for number in range(N_TEXTS)]
    pq.write_table(pa.table({"item_id": ids, "title": titles}), root / "data" / "items.parquet")
    _interactions(root, ids)
    validate_job(_workspace(root), now=NOW)
    return {}


def embed(root: Path) -> dict[str, Any]:
    from jobs.embed import embed_job

    started = time.perf_counter()
    result, _ = embed_job(_workspace(root))
    return {"encoded": result["text"]["encoded"], "seconds": time.perf_counter() - started}


def pictures(root: Path) -> dict[str, Any]:
    from jobs.embed import embed_job
    from jobs.validate import validate_job

    folder = root / "data" / "images"
    folder.mkdir(parents=True)
    (root / "recsys.toml").write_text(CONFIG.format(image="fake", text="none"))
    ids = [f"item-{number:06d}" for number in range(N_PICTURES)]
    for number, item_id in enumerate(ids):
        (folder / f"{item_id}.png").write_bytes(_picture(number))
    images = [f"images/{item_id}.png" for item_id in ids]
    pq.write_table(pa.table({"item_id": ids, "image": images}), root / "data" / "items.parquet")
    _interactions(root, ids)
    workspace = _workspace(root)
    validate_job(workspace, now=NOW)
    embed_job(workspace)
    started = time.perf_counter()
    result, _ = embed_job(workspace)
    return {"encoded": result["image"]["encoded"], "seconds": time.perf_counter() - started}


def peak_gib() -> float:
    """Most memory that this process ever held; getrusage would begin with what its parent held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20


def _picture(number: int) -> bytes:
    pixels = np.full((4, 4, 3), 128, np.uint8)
    pixels.reshape(-1)[:4] = np.frombuffer(number.to_bytes(4, "little"), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _interactions(root: Path, ids: list[str]) -> None:
    columns = {"user_id": ["u"] * 2, "item_id": ids[:2], "occurred_at": ["2025-01-01T00:00:00Z"] * 2}
    pq.write_table(pa.table(columns), root / "data" / "interactions.parquet")


def _workspace(root: Path) -> Any:
    from recsys.workspace import Workspace

    return Workspace.open(root)


if __name__ == "__main__":
    step, folder = sys.argv[1:]
    told = {"prepare": prepare, "embed": embed, "pictures": pictures}[step](Path(folder))
    print(json.dumps({**told, "peak_gib": peak_gib()}))
