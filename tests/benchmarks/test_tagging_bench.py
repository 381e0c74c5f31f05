"""`make bench-tagging` works: one part of it, its bars, and what it says where it cannot measure."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks import tagging
from tests.benchmarks._table import Figure

ROOT = Path(__file__).resolve().parents[2]


def test_a_part_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(SystemExit, match="detection,audio,photographs,posters,speech,throughput"):
        tagging.main(["--only", "smell"])


def test_absent_data_are_said_and_not_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = {name: (part, (Path("/nowhere/weights.onnx"),)) for name, (part, _) in tagging.PARTS.items()}
    monkeypatch.setattr(tagging, "PARTS", nowhere)
    assert tagging.main([]) == 0
    told = capsys.readouterr().out
    assert told.count("not measured") == len(nowhere)
    assert "weights.onnx absent" in told


def test_a_row_stands_beside_its_bar_and_falls_short_below_it() -> None:
    row = {"what": "recall", "value": 0.5, "low": 0.4, "high": 0.6, "bar": 0.6, "at_least": True, "note": "two missed"}
    assert tagging.figure_of(row) == Figure("recall", 0.5, ">= 0.6", "0.4 to 0.6; two missed")
    assert tagging.figure_of(row).falls_short
    assert not tagging.figure_of({**row, "at_least": False}).falls_short


@pytest.mark.slow
def test_the_part_on_detection_is_measured(tmp_path: Path) -> None:
    if not (tagging.MODELS / "yolox_nano.onnx").exists() or not (tagging.DATA / "tagging" / "detection").is_dir():
        pytest.skip("the photographs or the detector's weights are absent (../shared)")
    kept = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.benchmarks.tagging", "--only", "detection", "--json", str(kept)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(kept.read_text())[0]["value"] >= 0.6
