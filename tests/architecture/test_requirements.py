"""The pinned requirements: exact, hashed, in agreement, without addresses, and without torch in the serving install."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)


def pins(name: str) -> dict[str, str]:
    return {match[1]: match[2] for match in PIN.finditer((ROOT / "requirements" / f"{name}.txt").read_text())}


def declared(lines: list[str]) -> set[str]:
    """Package names of requirement lines, normalised."""
    names = (re.match(r"[A-Za-z0-9._-]+", line) for line in lines if not line.startswith(("#", "-")))
    return {re.sub(r"[-_.]+", "-", name[0]).lower() for name in names if name}


def test_every_group_is_compiled() -> None:
    assert {path.stem for path in LOCKS} == {"setup", "serve", "cpu", "gpu", "cluster", "weights", "demo", "dev"}


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_every_line_is_a_pin_a_hash_or_a_remark(path: Path) -> None:
    rest = re.sub(r"^ *#.*\n", "", PIN.sub("", path.read_text()), flags=re.MULTILINE)
    assert rest == ""


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_no_lock_holds_an_address_or_a_path(path: Path) -> None:
    text = path.read_text()
    assert "://" not in text
    assert " @ " not in text
    assert not re.search(r"(?:^|\s)/\w", text)


def test_all_groups_agree_on_every_version() -> None:
    versions: dict[str, set[str]] = {}
    for path in LOCKS:
        for name, version in pins(path.stem).items():
            versions.setdefault(name, set()).add(version)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


def test_the_serving_install_has_no_torch_in_it() -> None:
    heavy = {"torch", "torchvision", "torchrec", "fbgemm-gpu", "fbgemm-gpu-cpu", "transformers", "timm"}
    assert not heavy & set(pins("serve"))
    assert not [name for name in pins("serve") if name.startswith("nvidia-")]


def test_each_device_has_exactly_its_own_fbgemm() -> None:
    both = {"fbgemm-gpu", "fbgemm-gpu-cpu"}
    assert both & set(pins("cpu")) == {"fbgemm-gpu-cpu"}
    assert both & set(pins("gpu")) == {"fbgemm-gpu"}
    assert {n: v for n, v in pins("cpu").items() if n not in both} == {
        n: v for n, v in pins("gpu").items() if n not in both
    }


def test_every_declared_package_is_in_its_lock() -> None:
    for path in sorted((ROOT / "requirements").glob("*.in")):
        if path.stem != "train":  # part of cpu and gpu
            assert declared(path.read_text().splitlines()) <= set(pins(path.stem)), path.name


def test_the_package_itself_names_neither_torchrec_nor_fbgemm_and_nothing_unlocked() -> None:
    """A resolving install would follow torchrec to an fbgemm-gpu that does not load without a driver."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {name: lines for name, lines in project["optional-dependencies"].items() if name != "client"}
    named = declared(project["dependencies"]) | declared([line for lines in extras.values() for line in lines])
    assert not named & {"torch", "torchrec", "fbgemm-gpu", "fbgemm-gpu-cpu"}
    assert named <= set(pins("serve"))
    assert declared((ROOT / "requirements" / "serve.in").read_text().splitlines()) == named


def test_a_shops_application_needs_two_packages_to_call_the_service() -> None:
    """The client is not part of the serving install; its tests run in the developers'."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    client = declared(project["optional-dependencies"]["client"])
    assert client == {"httpx", "msgspec"}
    assert client <= set(pins("dev")) | set(pins("serve"))
