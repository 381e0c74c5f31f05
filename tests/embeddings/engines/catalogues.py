"""Small catalogues on disk, the fake encoder's spec for workers, and what a store holds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from embeddings.batching import BatchLimits
from embeddings.contents import Item
from embeddings.embed import EmbedOptions
from embeddings.engines.spec import ReaderSpec, WorkerSpec
from embeddings.fake_encoder import FakeEncoder
from embeddings.shards import MANIFEST
from tests.embeddings.conftest import picture, saved

LIMITS = BatchLimits(max_items=4)


def texts(n: int) -> list[Item]:
    """`n` texts, among them some doubles, absent ones and one that cannot be encoded."""
    items: list[Item] = [(f"item-{at}", f"film number {at} of {n}") for at in range(n)]
    items[3], items[n // 2], items[-1] = ("item-3", None), ("empty", " "), ("double", items[0][1])
    return items


def pictures(folder: Path, n: int) -> list[Item]:
    """`n` picture files of different pixels; one of them is damaged and one name leads nowhere."""
    folder.mkdir()
    for at in range(n):
        (folder / f"{at}.png").write_bytes(saved(picture(24, 16, seed=at)))
    (folder / "5.png").write_bytes(b"not a picture")
    return [("nowhere", "nowhere.png"), *((f"item-{at}", f"{at}.png") for at in range(n))]


def text_spec(store_dir: Path) -> WorkerSpec:
    space = FakeEncoder("text").space
    return WorkerSpec(modality="text", encoder="fake", device="cpu", space=space, store_dir=store_dir, limits=LIMITS)


def image_spec(store_dir: Path, folder: Path, *, decode_workers: int = 0) -> WorkerSpec:
    return WorkerSpec(
        modality="image",
        encoder="fake",
        device="cpu",
        space=FakeEncoder("image").space,
        store_dir=store_dir,
        reader=ReaderSpec(items_folder=folder, cache_folder=folder.parent / "fetched"),
        readers=2,
        decode_workers=decode_workers,
        limits=LIMITS,
    )


def options(shard_size: int = 6) -> EmbedOptions:
    return EmbedOptions(shard_size=shard_size, limits=LIMITS, readers=2)


def stored_bytes(store_dir: Path) -> dict[str, str]:
    """sha256 of each file of a store; what remains of a job beside them would be in it too."""
    found = (path for path in sorted(store_dir.rglob("*")) if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(store_dir)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def markers(store_dir: Path) -> list[Path]:
    return sorted(path for path in store_dir.glob("*.json") if path.name != MANIFEST)


def descendants(pid: int) -> Iterator[tuple[int, str]]:
    """Processes started by `pid` and by those, with their command lines, as they are now."""
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in tasks.read_text().split()]
        except OSError:
            continue
        for child in children:
            try:
                command = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            yield child, command
            yield from descendants(child)
