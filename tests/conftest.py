"""Fixtures for everybody."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The optional folder of real test data beside the project."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the optional test data is not beside the project (folder ../shared/data)")
    return SHARED / "data"
