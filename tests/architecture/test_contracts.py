"""Who may import whom, and what no file may contain."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("recsys", "embeddings", "serving", "jobs")
MAX_LINES = 400
THIS_FILE = Path(__file__).relative_to(ROOT)


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def project_files() -> list[Path]:
    """Tracked files, and those that would be; without a repository, everything that is not ignored by name."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    if shutil.which("git") and (ROOT / ".git").exists():
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
        return [ROOT / name for name in listed if name and (ROOT / name).is_file()]
    ignored = {line.strip("/*\n") for line in (ROOT / ".gitignore").read_text().splitlines()} | {".git"}
    return [p for p in ROOT.rglob("*") if p.is_file() and not ignored & set(p.relative_to(ROOT).parts)]


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports_of(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def where(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"


def test_the_import_contracts_hold() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_is_pickled() -> None:
    pickles = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    found = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in python_files(*PACKAGES, "tests")
        for name in imports_of(tree_of(path))
        if name.split(".")[0] in pickles
    ]
    assert not found


def test_torch_files_are_read_without_their_pickles() -> None:
    """torch.load unpickles unless told not to; torch.save of a whole object pickles."""
    found = []
    for path in python_files(*PACKAGES):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"torch.load", "torch.save"}:
                safe = any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords)
                if not (ast.unparse(node.func) == "torch.load" and safe):
                    found.append(where(path, node))
    assert not found


def test_only_the_settings_read_the_environment() -> None:
    readers = {"os.environ", "os.getenv", "os.environb", "os.putenv"}
    found = []
    for path in python_files(*PACKAGES):
        if path == ROOT / "serving" / "settings.py":
            continue
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in readers:
                found.append(where(path, node))
            elif isinstance(node, ast.ImportFrom) and node.module == "os":
                found += [where(path, node) for alias in node.names if alias.name in {"environ", "getenv"}]
    assert not found


def _is_quiet(node: ast.stmt) -> bool:
    """A statement that may stand at module level: definitions, imports, constants and their documentation."""
    match node:
        case ast.Import() | ast.ImportFrom() | ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return True
        case ast.Assign() | ast.AnnAssign():
            return True
        case ast.Expr(value=ast.Constant()):
            return True
        case ast.If(test=test, body=body, orelse=orelse):
            guards = {"TYPE_CHECKING", "__name__ == '__main__'"}
            return ast.unparse(test) in guards or all(map(_is_quiet, [*body, *orelse]))
        case _:
            return False


def test_nothing_happens_at_import() -> None:
    found = [
        where(path, node)
        for path in python_files(*PACKAGES)
        for node in tree_of(path).body
        if not _is_quiet(node) and not _registers_a_command(path, node)
    ]
    assert not found


def _registers_a_command(path: Path, node: ast.stmt) -> bool:
    """The command line is declared by calls: `app.command()(job)`, `app.add_typer(...)`."""
    return (
        path in (ROOT / "jobs" / "cli.py", ROOT / "jobs" / "cli_tag.py")
        and isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and bool(re.match(r"\w*app\.", ast.unparse(node.value.func)))
    )


def test_importing_the_service_loads_neither_torch_nor_transformers() -> None:
    assert (ROOT / "serving" / "app.py").exists()
    code = (
        "import sys, serving.app\n"
        "heavy = {'torch', 'torchrec', 'fbgemm_gpu', 'transformers', 'open_clip', 'timm', 'jobs'} & set(sys.modules)\n"
        "sys.exit(f'serving.app loads {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", ["recsys", "embeddings", "serving", "jobs.cli"])
def test_a_package_imports_quietly_in_a_fresh_process(package: str, tmp_path: Path) -> None:
    """Nothing printed, no file written, no thread left, no socket opened."""
    code = (
        f"import sys, threading, {package}\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
        "assert 'torch' not in sys.modules, 'torch'"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())


def test_no_source_file_has_outgrown_its_subject() -> None:
    found = {
        str(path.relative_to(ROOT)): lines
        for path in python_files(*PACKAGES, "tests")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) >= MAX_LINES
    }
    assert not found


def test_no_module_has_a_name_that_says_nothing() -> None:
    empty_words = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
    assert not [str(p.relative_to(ROOT)) for p in python_files(*PACKAGES, "tests") if p.stem in empty_words]


def test_every_test_folder_is_a_package() -> None:
    """Without __init__.py, tests/recsys shadows the real package."""
    folders = {path.parent for path in python_files("tests")}
    assert not [str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").exists()]


# Hosts of package registries, and paths that exist on one machine only. Assembled, so that this file passes itself.
_FORBIDDEN = re.compile(
    "|".join(
        [
            r"py[p]i\.org|python[h]osted\.org|npm[j]s\.(?:org|com)|download\.py[t]orch\.org|conda\.ana[c]onda\.org",
            r"(?<![\w.])/(?:work|home/\w+|Users/\w+|root)/",
            r"(?<![\w.])/opt/(?:pypi|wheels)",
        ]
    )
)


def test_no_file_names_a_registry_or_a_path_of_one_machine() -> None:
    found = []
    for path in project_files():
        if path.relative_to(ROOT) == THIS_FILE:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            if _FORBIDDEN.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    assert not found
