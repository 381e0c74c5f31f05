"""`recsys doctor`: can the main job run here, and if not, what to do."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from rich.markup import escape

from jobs import checks
from jobs.checks import Check
from jobs.progress import console
from recsys.errors import ConfigError, UsageError
from recsys.workspace import Workspace, WorkspaceConfig

_MARKS = {"ok": "[green]ok[/]  ", "warn": "[yellow]warn[/]", "fail": "[red]fail[/]"}


def doctor(workspace: Path, json_file: Path | None = None) -> int:
    """Check this machine and tell; the exit code: 2 when the main job could not run."""
    return report(run_doctor(workspace), json_file)


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
    return any(spec.partition("@")[0] == "bundled" for spec in (encoders.image, encoders.text))


def report(found: list[Check], json_file: Path | None = None) -> int:
    """Print one line a check, and write them to `json_file`; the exit code."""
    for check in found:
        todo = f" [bold]→ {escape(check.todo)}[/]" if check.todo else ""
        console.print(f"{_MARKS[check.status]} {check.name:<11} {escape(check.found)}{todo}", soft_wrap=True)
    failed = [check.name for check in found if check.status == "fail"]
    if failed:
        console.print(f"[red]The main job cannot run here[/]: {', '.join(failed)}.")
    else:
        console.print("The main job can run here.")
    if json_file is not None:
        summary = {"able": not failed, "checks": [asdict(check) for check in found]}
        json_file.write_text(json.dumps(summary, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return UsageError.exit_code if failed else 0
