"""The doctor tells what is wrong, what to do, and survives what it looks at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs import checks
from jobs.checks import ProbeResult
from jobs.doctor import doctor, report

WORKS = ProbeResult({"threads": 1, "gpu": None, "gpus": 0})
TRIED = {"torch": "2.14.1", "torchrec": "1.9.0", "fbgemm-gpu-cpu": "1.9.0"}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    workspace = tmp_path_factory.mktemp("workspace")
    file = workspace / "doctor.json"
    exit_code = doctor(workspace, file)
    return {"exit_code": exit_code} | json.loads(file.read_text())


@pytest.mark.slow
def test_the_main_job_can_run_where_these_tests_run(here: dict[str, object]) -> None:
    assert here["exit_code"] == 0, here
    assert here["able"] is True


@pytest.mark.slow
def test_every_part_has_one_line(here: dict[str, object]) -> None:
    lines = here["checks"]
    assert isinstance(lines, list)
    names = [line["name"] for line in lines]
    assert names == [
        "python",
        "torch",
        "faiss",
        "onnxruntime",
        "gpu",
        "redis",
        "weights",
        "workspace",
        "disk",
        "threads",
    ]
    assert all(line["found"] for line in lines)
    assert all(line["todo"] for line in lines if line["status"] != "ok")


def test_a_workspace_that_cannot_be_written_to_ends_with_2_and_says_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = [checks.check_python(), checks.check_workspace(Path("/proc/nowhere"))]
    assert report(found) == 2
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == 3  # one line a check, and the verdict
    assert "cannot be written to" in printed
    assert "--workspace" in printed
    assert "The main job cannot run here: workspace." in printed


def test_a_library_that_crashes_is_reported_and_not_suffered() -> None:
    probe = checks.run_probe("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert probe.problem == "it crashed with SIGSEGV"
    check = checks.check_torch_triple(probe, TRIED)
    assert (check.status, "SIGSEGV" in check.found, "make setup" in check.todo) == ("fail", True, True)


def test_a_library_that_fails_to_import_is_reported_with_its_own_words() -> None:
    assert checks.run_probe("import no_such_library").problem.endswith("No module named 'no_such_library'")


def test_two_fbgemms_are_a_problem_even_when_they_work() -> None:
    both = TRIED | {"fbgemm-gpu": "1.9.0"}
    working, broken = checks.check_torch_triple(WORKS, both), checks.check_torch_triple(ProbeResult({}, "boom"), both)
    assert (working.status, broken.status) == ("warn", "fail")
    assert "pip uninstall -y fbgemm-gpu-cpu fbgemm-gpu" in working.todo


def test_a_serving_install_cannot_train() -> None:
    check = checks.check_torch_triple(ProbeResult({}, "No module named 'torch'"), {})
    assert check.status == "fail"
    assert "torch, torchrec, fbgemm" in check.found


def test_untried_versions_that_work_are_a_warning() -> None:
    assert checks.check_torch_triple(WORKS, TRIED).status == "ok"
    assert checks.check_torch_triple(WORKS, TRIED | {"torch": "2.14.1+cu130"}).status == "ok"
    assert checks.check_torch_triple(WORKS, TRIED | {"torch": "2.15.0"}).status == "warn"


def test_the_gpu_build_without_a_driver_names_the_way_out() -> None:
    problem = "libnvidia-ml.so.1: cannot open shared object file: No such file or directory"
    installed = {"torch": "2.14.1", "torchrec": "1.9.0", "fbgemm-gpu": "1.9.0"}
    check = checks.check_torch_triple(ProbeResult({}, problem), installed)
    assert (check.status, check.todo.endswith("`make setup DEVICE=cpu`")) == ("fail", True)


def test_a_gpu_with_the_cpu_build_is_a_warning() -> None:
    gpu = ProbeResult({"gpu": "H200", "gpus": 1, "threads": 1})
    assert checks.check_gpu(gpu, {"fbgemm-gpu-cpu": "1.9.0"}).status == "warn"
    assert checks.check_gpu(gpu, {"fbgemm-gpu": "1.9.0"}).status == "ok"


def test_missing_weights_stop_only_who_uses_them() -> None:
    missing = ProbeResult({}, "the weights package is missing")
    assert checks.check_weights(missing, wanted=True).status == "fail"
    assert checks.check_weights(missing, wanted=False).status == "warn"


def test_a_full_disk_stops_the_main_job(tmp_path: Path) -> None:
    assert checks.check_disk(tmp_path, min_free_bytes=1).status == "ok"
    assert checks.check_disk(tmp_path, min_free_bytes=1 << 60).status == "fail"


def test_a_wrong_configuration_is_named(tmp_path: Path) -> None:
    (tmp_path / "recsys.toml").write_text("[encoders]\nimgae = 'fake'\n")
    check = checks.check_workspace(tmp_path)
    assert check.status == "fail"
    assert "imgae" in check.found


def test_more_threads_than_cores_is_a_warning() -> None:
    assert checks.check_threads(ProbeResult({"threads": 1})).status == "ok"
    assert checks.check_threads(ProbeResult({"threads": 4096})).status == "warn"
