"""Fixtures for everybody."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from recsys.workspace import Workspace

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kill-points", type=int, default=3, help="random points at which each job is killed -9")
    parser.addoption("--kill-seed", type=int, default=0, help="another seed draws other points")
    parser.addoption("--schemathesis-cases", type=int, default=1000, help="generated requests to the service, at least")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The optional folder of real test data beside the project."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the optional test data is not beside the project (folder ../shared/data)")
    return SHARED / "data"


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A checkerboard workspace with profiles, taken through all jobs to a published release; copy it to change it."""
    from tests.worlds.workspaces import run_jobs, write_workspace

    workspace, _ = write_workspace(tmp_path_factory.mktemp("released"))
    run_jobs(workspace)
    return workspace
