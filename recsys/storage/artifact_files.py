"""Where jobs leave their output: `artifacts/<kind>/<key>/`, complete exactly when its `manifest.json` is there.

The key is a fingerprint of everything the output was made from, so a job that runs again finds its work done. A job
fills `artifacts/<kind>/<key>.tmp/` (begun anew each time) or, when it can resume, `<key>.partial/` (kept across
kills); the finished folder is renamed into place and never changed again. `artifacts/<kind>/current` names the latest.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from recsys.errors import CorruptArtifact, MissingArtifact
from recsys.manifest import ArtifactManifest, FileEntry
from recsys.storage.atomic import fsync_file, fsync_folder, locked_folder, remove_leftovers, write_atomic

MANIFEST = "manifest.json"
CURRENT = "current"
_JOBS = {
    "dataset": "recsys validate",
    "content": "recsys embed",
    "encoders": "recsys embed",
    "embeddings": "recsys embed",
    "model": "recsys train",
    "evaluation": "recsys evaluate",
    "head": "recsys tag train",
}
_RESERVED = frozenset({"objects"})


def stage(root: Path, kind: str, key: str) -> Path:
    """The folder of one output, whether it is there or not."""
    if kind in _RESERVED or not _plain(kind) or not _plain(key):
        raise ValueError(f"an artifact's kind and key are plain folder names, not {kind!r} and {key!r}")
    return root / "artifacts" / kind / key


def is_complete(root: Path, kind: str, key: str) -> bool:
    return (stage(root, kind, key) / MANIFEST).is_file()


def write_artifact(
    root: Path,
    kind: str,
    key: str,
    made_from: Mapping[str, Any],
    fill: Callable[[Path], Mapping[str, Any]],
    *,
    resumable: bool = False,
) -> Path:
    """Make one output and point `current` at it; an output that is complete already is not made again.

    `fill` is given a folder, leaves in it the files of the artifact and nothing else, and returns the manifest's
    `summary`. Of two processes with one key the second waits, and finds the work done.

    Args:
        resumable: `fill` goes on from what a killed run left in the folder; else it always finds it empty.

    Returns:
        The finished folder; its files are read-only.
    """
    final = stage(root, kind, key)
    final.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(final.parent)
    with _working_folder(final, ".partial" if resumable else ".tmp") as working:
        if working is not None:
            _begin(working, resumable)
            _finish(working, final, ArtifactManifest(kind=kind, key=key, made_from=dict(made_from), files={}), fill)
    with locked_folder(final.parent):
        remove_leftovers(final.parent)
        write_atomic(final.parent / CURRENT, f"{key}\n".encode())
    return final


def read_artifact(root: Path, kind: str, key: str | None = None) -> tuple[Path, ArtifactManifest]:
    """One output and what it is; the latest of its kind when `key` is None.

    Raises:
        MissingArtifact: it is not there or not complete; the message names the job that makes it.
        CorruptArtifact: its manifest cannot be read.
    """
    folder = stage(root, kind, key if key is not None else latest(root, kind))
    try:
        manifest = ArtifactManifest.model_validate_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise MissingArtifact(f"{folder} is not there, or not complete; {_make(kind)}") from None
    except ValidationError as error:
        raise CorruptArtifact(
            f"{folder / MANIFEST} is no manifest ({error}); remove {folder} and {_make(kind)}"
        ) from None
    return folder, manifest


def latest(root: Path, kind: str) -> str:
    """The key of the output that was made (or found made) last. Raises MissingArtifact, naming the job."""
    pointer = stage(root, kind, CURRENT)
    try:
        return pointer.read_text().strip()
    except FileNotFoundError:
        raise MissingArtifact(f"there is no {kind} in {root} yet; {_make(kind)}") from None


def verify(root: Path, kind: str, key: str | None = None) -> tuple[Path, ArtifactManifest]:
    """`read_artifact`, after reading every file. Raises CorruptArtifact, which names the file, as well."""
    folder, manifest = read_artifact(root, kind, key)
    for name, entry in manifest.files.items():
        path = folder / name
        if not path.is_file() or FileEntry.of(path) != entry:
            state = "differs from its manifest" if path.is_file() else "is not there"
            raise CorruptArtifact(f"{path} {state}; remove {folder} and {_make(kind)}")
    return folder, manifest


def _finish(working: Path, final: Path, manifest: ArtifactManifest, fill: Callable[[Path], Mapping[str, Any]]) -> None:
    summary = dict(fill(working))
    folders = [working, *(path for path in working.rglob("*") if path.is_dir())]
    for folder in folders:
        remove_leftovers(folder)
    paths = sorted(path for path in working.rglob("*") if path.is_file())
    for path in paths:
        path.chmod(0o444)
        fsync_file(path)
    files = {path.relative_to(working).as_posix(): FileEntry.of(path) for path in paths}
    complete = manifest.model_copy(update={"files": files, "summary": summary})
    write_atomic(working / MANIFEST, complete.model_dump_json(indent=2).encode() + b"\n")
    for folder in folders:
        fsync_folder(folder)
    if final.exists():  # without a manifest, or we would not be here: somebody's half of a copy
        shutil.rmtree(final)
    os.rename(working, final)
    fsync_folder(final.parent)


@contextmanager
def _working_folder(final: Path, suffix: str) -> Iterator[Path | None]:
    """The folder to fill, ours alone until we end; None when the output is complete, perhaps after a wait."""
    working = final.with_name(final.name + suffix)
    while True:
        if (final / MANIFEST).is_file():
            yield None
            return
        working.mkdir(exist_ok=True)
        try:
            descriptor = os.open(working, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # its owner has just renamed it into place
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_still(working, descriptor):
                yield working
                return
        finally:
            os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the locked folder is the one that has this name now: its last owner may have renamed it."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove_leftovers(folder: Path) -> None:
    """Remove the `.tmp` folders whose owners were killed: nobody holds them any more."""
    for leftover in folder.glob("*.tmp"):
        try:
            descriptor = os.open(leftover, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(leftover, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)


def _begin(working: Path, resumable: bool) -> None:
    """Make the folder what `fill` expects: empty, or as the killed run left it before it began to finish."""
    for path in working.iterdir() if not resumable else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    (working / MANIFEST).unlink(missing_ok=True)
    for path in working.rglob("*"):
        if path.is_file():
            path.chmod(0o644)


def _plain(name: str) -> bool:
    return bool(name) and "/" not in name and not name.startswith(".") and not name.endswith((".tmp", ".partial"))


def _make(kind: str) -> str:
    job = _JOBS.get(kind) or _JOBS.get(kind.partition("-")[0])
    return f"run `{job}`" if job else "run the job that makes it"
