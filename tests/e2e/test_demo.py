"""The demo as a user runs it, on a small world and the fake encoders: twice, and once more on other data."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.demo import demo_workspace
from tests.worlds.checkerboard import write_world

pytestmark = pytest.mark.slow
KEYS = {
    "items", "users", "interactions", "default", "models", "served", "seconds", "request_cpu_us", "request_p50_ms",
    "peak_rss_bytes", "release", "store",
}  # fmt: skip


def demo(folder: Path, data: Path, *options: str) -> dict[str, Any]:
    """The JSON of the last line, from `recsys demo` run in `folder`."""
    recsys = Path(sys.executable).with_name("recsys")
    command = [str(recsys), "demo", "--data", str(data), "--encoder", "fake", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_the_demo_runs_to_its_end_again_and_on_other_data(tmp_path: Path) -> None:
    large, small = tmp_path / "large", tmp_path / "small"
    write_world(large, n_items=80, n_users=120)
    write_world(small, n_items=16, n_users=60, seed=1)
    first = demo(tmp_path, large)
    assert first.keys() >= KEYS
    assert {"popularity", "item_knn", first["default"]} <= first["models"].keys()
    assert first["served"]["ndcg@10"]["low"] > first["models"]["popularity"]["ndcg@10"]["high"]
    assert (first["items"], first["store"]) == (80, "redis")
    assert first["new_item_median_rank"]["with_content"] < first["new_item_median_rank"]["without_content"]
    assert demo(tmp_path, large)["release"] == first["release"]
    pictures = tmp_path / "pictures"
    shutil.copytree(small / "images", pictures)
    before = (small / "items.jsonl").read_bytes()
    assert demo(tmp_path, small, "--images", str(pictures))["items"] == 16
    assert (small / "items.jsonl").read_bytes() == before


def test_each_data_has_a_folder_of_its_own() -> None:
    shop, pictures = Path("shop"), Path("pictures")
    folders = [
        demo_workspace(None, None, None),
        demo_workspace(shop, None, None),
        demo_workspace(shop, pictures, None),
        demo_workspace(shop, None, "fake"),
    ]
    assert len(set(folders)) == 4
    assert demo_workspace(shop, None, None) == folders[1]
