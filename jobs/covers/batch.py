"""Many covers into a folder: in worker processes, resumable, each file whole or absent."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from jobs.covers.layouts import draw_cover

COVER_SUFFIX = ".jpg"
_BATCH_SIZE = 64
_LONGEST_STEM = 200


@dataclass(frozen=True)
class CoverItem:
    """What a cover is drawn from."""

    item_id: str
    title: str
    year: int | None
    genres: tuple[str, ...]


@dataclass(frozen=True)
class CoverReport:
    """How many covers this run drew, and how many were there already."""

    drawn: int
    kept: int


def cover_file_name(item_id: str) -> str:
    """A name that any file system takes and that no other item has: the id itself where it is plain letters and digits.

    Other characters are percent-encoded, so an id never leaves its folder; what is then too long is hashed.
    """
    stem = quote(item_id.encode("utf-8", "surrogatepass"), safe="")
    if len(stem) > _LONGEST_STEM:
        stem = "~" + hashlib.sha256(item_id.encode("utf-8", "surrogatepass")).hexdigest()
    return stem + COVER_SUFFIX


def read_cover_items(items_path: Path) -> Iterator[CoverItem]:
    """The items of an `items.jsonl` as `jobs.demo_data` writes it: year in the attributes, genres as categories."""
    with items_path.open(encoding="utf-8") as lines:
        for line in lines:
            item = json.loads(line)
            year = (item.get("attributes") or {}).get("year")
            genres = tuple(item.get("categories") or ())
            yield CoverItem(item["item_id"], item.get("title") or "", year, genres)


def draw_covers(
    items: Iterable[CoverItem],
    directory: Path,
    *,
    workers: int = 2,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> CoverReport:
    """Draw the covers that `directory` lacks; a run that was killed is continued by the next.

    Args:
        items: what to draw; of items with one item_id the first counts.
        directory: made if need be; the files are named by `cover_file_name`.
        workers: processes; 1 draws in this one.
        on_progress: told (covers there, covers wanted) at the start and after each batch.
    """
    directory.mkdir(parents=True, exist_ok=True)
    wanted = {cover_file_name(item.item_id): item for item in reversed(list(items))}
    there = {entry.name for entry in os.scandir(directory) if entry.name in wanted and entry.stat().st_size > 0}
    missing = [item for name, item in wanted.items() if name not in there]
    missing.sort(key=lambda item: item.item_id)
    batches = [missing[start : start + _BATCH_SIZE] for start in range(0, len(missing), _BATCH_SIZE)]
    done = len(there)
    on_progress(done, len(wanted))
    for drawn in _drawn_batches(batches, directory, workers):
        done += drawn
        on_progress(done, len(wanted))
    return CoverReport(drawn=len(missing), kept=len(there))


def _drawn_batches(batches: Sequence[Sequence[CoverItem]], directory: Path, workers: int) -> Iterator[int]:
    folders = [directory] * len(batches)
    if workers <= 1 or len(batches) <= 1:
        yield from map(_draw_batch, batches, folders)
        return
    # Spawned, not forked: the caller may hold threads (of torch, say) that a fork would leave half alive.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(batches)), mp_context=context, initializer=_end_with_parent) as pool:
        yield from pool.map(_draw_batch, batches, folders)


def _draw_batch(items: Sequence[CoverItem], directory: Path) -> int:
    for item in items:
        name = cover_file_name(item.item_id)
        # The same unfinished name on each run: what a killed run left is overwritten, never collected.
        unfinished = directory / f".{name}.unfinished"
        unfinished.write_bytes(draw_cover(item.item_id, item.title, item.year, item.genres))
        unfinished.replace(directory / name)
    return len(items)


def _end_with_parent() -> None:
    """A pool's workers would wait for ever after a parent that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()


def _exit_after(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)
