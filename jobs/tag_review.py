"""`recsys tag review`: what is worth a person's time goes out as a file and a page, and comes back as people's words.

export: the head's last run → choose → artifacts/review/<head>.csv and .html
import: a filled-in file → data/tags/human.jsonl; refused rows → artifacts/review/quarantine.parquet
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.markup import escape

from embeddings.shards import write_atomically
from embeddings.tagging.human import HUMAN_FILE, Words, append_words, read_words
from embeddings.tagging.review import RANDOM_SHARE, Floats, Pool, Rows, select_of
from embeddings.tagging.review_page import Question, render_review
from embeddings.tagging.said import places_of
from embeddings.tagging.tag_tree import distinct
from embeddings.tagging.word_files import new_words, read_word_file
from jobs.artifacts import Dataset, load_content, load_dataset
from jobs.progress import console
from jobs.tag_pictures import shown_items
from jobs.tag_runs import TagRun, heads_that_ran, tag_run, taxonomy_or_tags, thresholds_of_run
from recsys.errors import InputError, MissingArtifact
from recsys.fields import parse_id
from recsys.interactions import write_table
from recsys.quarantine import RowRefused
from recsys.workspace import Workspace

COLUMNS = ("item_id", "tag", "verdict", "confidence", "propensity", "why", "title", "image", "audio", "selected_at")
MOST_ON_A_PAGE = 400
_MODALITY = {"detection": "image", "speech": "transcript", "fusion": "image"}


def export_job(
    workspace: Workspace,
    *,
    head: str,
    n: int,
    now: datetime,
    out: Path | None = None,
    seed: int = 0,
    random_share: float = RANDOM_SHARE,
) -> tuple[dict[str, Any], int]:
    """Choose `n` items and tags; the file to fill in (CSV, or Parquet by its name), and a page to click through.

    Raises:
        MissingArtifact: the head has not tagged these items.
        InputError: the file's name says neither.
    """
    path = out or workspace.root / "artifacts" / "review" / f"{head}.csv"
    if path.suffix not in (".csv", ".parquet"):
        raise InputError(f"{path} must end in .csv or .parquet")
    dataset, run = load_dataset(workspace), tag_run(workspace, head)
    words = _words(workspace)
    pool = pool_of(dataset, run, _others(workspace, head), words)
    value = dataset.sequences.item_counts(len(dataset.vocabulary))
    vectors = _vectors(workspace, dataset, head)
    item_ids = dataset.vocabulary.item_ids
    thresholds = thresholds_of_run(workspace, run)
    chosen = select_of(pool, item_ids, thresholds, value, vectors, n, seed=seed, now=now, random_share=random_share)
    table = _with_items(chosen, dataset)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, _as_csv(table) if path.suffix == ".csv" else _as_parquet(table))
    page = path.with_suffix(".html")
    write_atomically(page, _page(workspace, dataset, head, table.slice(0, MOST_ON_A_PAGE)).encode())
    console.print(f"  {len(table):,} questions on {len(set(pool.tags)):,} tags: {path}", soft_wrap=True)
    console.print(f"  to answer them by mouse or keyboard, open {page}", soft_wrap=True)
    return {"questions": len(table), "file": str(path), "page": str(page), "decided": len(pool.known)}, 0


def import_job(workspace: Workspace, file: Path, by: str, *, now: datetime) -> tuple[dict[str, Any], int]:
    """Take people's words from a file; exit code 1 where a row was refused. Importing it again changes nothing.

    Raises:
        InputError: the file is not what it claims, or lacks a column; or `by` is no name.
        MissingArtifact: there are no items, or no tags, yet.
    """
    _require_name(by)
    dataset = load_dataset(workspace)
    tags = tuple(tag for head in heads_that_ran(workspace) for tag in tag_run(workspace, head).covers)
    tags = (*tags, *taxonomy_or_tags(workspace, tags).ids)
    if not tags:
        raise MissingArtifact("there are no tags yet: name a taxonomy under [tagging], or run `recsys tag`")
    found = read_word_file(file, tags, dataset.vocabulary, by=by, now=now)
    new = new_words(found.words, _words(workspace))
    append_words(workspace.data_dir / HUMAN_FILE, new)
    kept = workspace.root / "artifacts" / "review" / "quarantine.parquet"
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_table(found.quarantine, kept)
    known = len(found.words) - len(new)
    console.print(f"  {len(new):,} words taken, {known:,} known already, {found.not_filled_in:,} not filled in")
    if len(found.quarantine):
        first = found.quarantine.slice(0, 1).to_pylist()[0]
        example = escape(f"{first['file']}:{first['line']}: {first['message']}")
        console.print(f"  [yellow]{len(found.quarantine)} rows refused[/], as {example}; all of them: {kept}")
    figures = {"new": len(new), "known": known, "not_filled_in": found.not_filled_in, "refused": len(found.quarantine)}
    return figures, int(len(found.quarantine) > 0)


def _require_name(by: str) -> None:
    """Raises InputError: it is no name that could be read back."""
    try:
        parse_id(by, "--by")
    except RowRefused as error:
        raise InputError(f"{error}: say who it was") from None


def pool_of(dataset: Dataset, run: TagRun, others: Sequence[TagRun], words: Words) -> Pool:
    """What the head gave or doubted, and what other heads did where it says no."""
    ids = pa.array(dataset.vocabulary.item_ids, pa.string())
    tags = pa.array(run.covers, pa.string())
    judged = _judged(run, ids)
    key, confidence = _told(run, ids, tags)
    tells = [(_judged(each, ids), np.isin(run.covers, each.covers), *_told(each, ids, tags)) for each in others]
    keys = distinct(np.concatenate([key, *(each[2] for each in tells)]))
    item, tag = np.divmod(keys, max(len(run.covers), 1))
    keys = keys[np.isin(item, judged)]
    item, tag = np.divmod(keys, max(len(run.covers), 1))
    own = _at(keys, key, confidence)
    spread = np.zeros(len(keys), np.float32)
    for looked, covers, other_key, other_confidence in tells:
        both = np.isin(item, looked) & covers[tag]
        spread = np.maximum(spread, np.where(both, np.abs(own - _at(keys, other_key, other_confidence)), 0))
    known = _decided(words, ids, tags)
    is_open = ~np.isin(keys, known)
    return Pool(run.covers, judged, item[is_open], tag[is_open], own[is_open], spread[is_open], known)


def _told(run: TagRun, ids: pa.Array, tags: pa.Array) -> tuple[Rows, Floats]:
    """(key, confidence) of the rows on these items and tags."""
    item, tag = places_of(run.tags["item_id"], ids), places_of(run.tags["tag"], tags)
    here = (item >= 0) & (tag >= 0)
    return item[here] * len(tags) + tag[here], run.tags["confidence"].to_numpy()[here]


def _at(keys: Rows, told: Rows, confidence: Floats) -> Floats:
    """float32: what was told of each key; 0 where nothing was, which is a no."""
    order = np.argsort(told, kind="stable")
    out = np.zeros(len(keys), np.float32)
    if len(order):
        at = order[np.minimum(np.searchsorted(told[order], keys), len(order) - 1)]
        out = np.where(told[at] == keys, confidence[at], np.float32(0))
    return out


def _judged(run: TagRun, ids: pa.Array) -> Rows:
    looked = run.judged.filter(pc.equal(run.judged["status"], "judged"))
    rows = places_of(looked["item_id"], ids)
    return distinct(rows[rows >= 0])


def _decided(words: Words, ids: pa.Array, tags: pa.Array) -> Rows:
    table = words.table()
    item, tag = places_of(table["item_id"], ids), places_of(table["tag"], tags)
    here = (item >= 0) & (tag >= 0)
    return distinct(item[here] * len(tags) + tag[here])


def _words(workspace: Workspace) -> Words:
    path = workspace.data_dir / HUMAN_FILE
    words = read_words(path)
    for bad in words.bad_lines[:3]:
        console.print(f"  [yellow]{path}:{bad.line} cannot be read[/]: {escape(bad.message)}", soft_wrap=True)
    return words


def _others(workspace: Workspace, head: str) -> list[TagRun]:
    return [tag_run(workspace, each) for each in heads_that_ran(workspace) if each != head]


def _vectors(workspace: Workspace, dataset: Dataset, head: str) -> NDArray[np.float16] | None:
    """float16 [N, D] of what the head looks at, as it was embedded for the release; None where there is none."""
    try:
        content = load_content(workspace, dataset)
    except MissingArtifact:
        return None
    modality = _MODALITY.get(head, head)
    names = [name for name in (modality, "image", "audio", "text") if name in content.spaces]
    return np.load(content.path / f"{names[0]}.npy", mmap_mode="r") if names else None


def _with_items(chosen: pa.Table, dataset: Dataset) -> pa.Table:
    rows, _ = dataset.vocabulary.rows(chosen["item_id"].to_pylist())
    items = dataset.items.select(["title", "image", "audio"]).take(rows)
    columns = {name: chosen[name] for name in chosen.column_names} | {name: items[name] for name in items.column_names}
    columns["verdict"] = pa.nulls(len(chosen), pa.string())
    return pa.table({name: columns[name] for name in COLUMNS})


def _as_parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def _as_csv(table: pa.Table) -> bytes:
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(table.column_names)
    for row in table.to_pylist():
        row["title"] = _no_formula(row["title"])
        row["selected_at"] = row["selected_at"].isoformat()
        row["confidence"] = None if row["confidence"] is None else f"{row['confidence']:.4f}"
        writer.writerow(row.values())
    return sink.getvalue().encode("utf-8", "replace")


def _no_formula(title: str | None) -> str | None:
    """A spreadsheet would run what begins so."""
    return f"'{title}" if title and title[0] in "=+-@\t\r" else title


def _page(workspace: Workspace, dataset: Dataset, head: str, table: pa.Table) -> str:
    shown = shown_items(workspace, dataset, table["item_id"].to_pylist())
    names = _names(workspace, tuple(dict.fromkeys(table["tag"].to_pylist())))
    rows, _ = dataset.vocabulary.rows(table["item_id"].to_pylist())
    descriptions = dataset.items["description"].take(rows).to_pylist()
    questions = [
        Question(
            item_id=row["item_id"],
            tag=row["tag"],
            tag_name=names[row["tag"]],
            title=row["title"],
            text=description,
            why=row["why"],
            confidence=row["confidence"],
            picture=shown.pictures.get(row["item_id"]),
            sound=shown.sounds.get(row["item_id"]),
        )
        for row, description in zip(table.to_pylist(), descriptions, strict=True)
    ]
    return render_review(head, questions)


def _names(workspace: Workspace, tags: tuple[str, ...]) -> Mapping[str, str]:
    taxonomy = taxonomy_or_tags(workspace, tags)
    return {tag: taxonomy.name(tag) if tag in taxonomy.tags else tag for tag in tags}
