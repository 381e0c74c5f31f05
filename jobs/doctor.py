"""`recsys doctor`: can the main job run here, and if not, what to do."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from jobs import checks
from jobs.checks import Check
from jobs.progress import console
from recsys.errors import ConfigError, UsageError
from recsys.workspace import Workspace, WorkspaceConfig

_MARKS = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[red]fail[/]"}


def doctor(workspace: Path, json_file: Path | None = None) -> int:
    """Print one line a check, and write them to `json_file`; the exit code: 2 when the main job could not run."""
    found = run_doctor(workspace)
    _print(found)
    able = all(check.status != "fail" for check in found)
    if json_file is not None:
        report = {"able": able, "checks": [asdict(check) for check in found]}
        json_file.write_text(json.dumps(report, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return 0 if able else UsageError.exit_code


def run_doctor(workspace: Path) -> list[Check]:
    """All checks, in the order in which they are printed. Takes some seconds: it really loads the libraries."""
    installed = checks.installed_versions(("torch", "torchrec", *checks.FBGEMM_PACKAGES))
    with ThreadPoolExecutor() as pool:
        probes = (checks.TORCH_PROBE, checks.FAISS_PROBE, checks.ONNX_PROBE, checks.WEIGHTS_PROBE)
        torch, faiss, onnx, weights = pool.map(checks.run_probe, probes)
    return [
        checks.check_python(),
        checks.check_torch_triple(torch, installed),
        checks.check_faiss(faiss),
        checks.check_onnxruntime(onnx),
        checks.check_gpu(torch, installed),
        checks.check_redis(),
        checks.check_weights(weights, wanted=_wants_bundled(workspace)),
        checks.check_workspace(workspace),
        checks.check_disk(workspace),
        checks.check_threads(torch),
    ]


def _wants_bundled(workspace: Path) -> bool:
    """Whether the workspace's encoders are the bundled ones, as they are by default."""
    try:
        encoders = Workspace.open(workspace).config.encoders
    except ConfigError:
        encoders = WorkspaceConfig().encoders
    return "bundled" in (encoders.image, encoders.text)


def _print(found: list[Check]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("status", "name", "found"):
        table.add_column(column, no_wrap=column != "found", overflow="fold")
    for check in found:
        todo = f" [bold]→ {_plain(check.todo)}[/]" if check.todo else ""
        table.add_row(_MARKS[check.status], check.name, _plain(check.found) + todo)
    console.print(table)
    failed = [check.name for check in found if check.status == "fail"]
    if failed:
        console.print(f"[red]The main job cannot run here[/]: {', '.join(failed)}.")
    else:
        console.print("The main job can run here.")


def _plain(text: str) -> str:
    """Text as it is: rich would read `[serving]` as markup."""
    return text.replace("[", r"\[")
