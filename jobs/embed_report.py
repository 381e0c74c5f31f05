"""`recsys embed report`: what is odd about the vectors that `recsys embed` made, as a page with thumbnails and as JSON.

load → propose duplicates → look at pictures → judge duplicates → blank → disagreement → drift → coverage → page
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embeddings.isolation.pool import DecodePool
from embeddings.item_text import item_text
from embeddings.quality.agreement import nothing_agrees, pictures_agree, texts_agree
from embeddings.quality.disagreement import Disagreement, find_disagreement
from embeddings.quality.drift import is_changed, measure_drift
from embeddings.quality.findings import findings_of
from embeddings.quality.near_duplicates import Candidates, find_candidates, group_duplicates
from embeddings.quality.page import render_page, shown_items
from embeddings.quality.page_parts import Card
from embeddings.quality.pictures import LOOK, THUMBNAIL, Decode, Looks, Read, look_at, thumbnails
from embeddings.quality.report import (
    Json,
    Refusal,
    blank_json,
    disagreement_json,
    drift_json,
    duplicates_json,
    presence_json,
)
from embeddings.shards import write_atomically
from jobs.artifacts import Content, Dataset, load_content, load_dataset
from jobs.bootstrap import releases_of
from jobs.embed_streams import decode_workers, n_threads, reader_of, refused_path
from jobs.progress import console, progress_bar
from recsys.manifest import EmbeddingSpace
from recsys.workspace import Workspace

DEFAULT_SAMPLE = 20_000
_NORM_OFF = 0.01
_CHUNK = 8192

Vectors = NDArray[np.float16]
Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]


def embed_report_job(
    workspace: Workspace, *, html: Path | None = None, sample: int = DEFAULT_SAMPLE, seed: int = 0
) -> tuple[dict[str, Any], int]:
    """Write the report; exit code 1 when the new batch drifts from the release, or vectors are not usable.

    Args:
        html: where the page goes, the JSON beside it; default: artifacts/report/embed.html of the workspace.
        sample: pictures that are read again at most, the members of duplicate groups first; 0 = all.
        seed: of the samples and permutations; the same workspace and seed give the same bytes.

    Raises:
        MissingArtifact: nothing was embedded, or the items have changed since.
    """
    dataset = load_dataset(workspace)
    content = load_content(workspace, dataset)
    catalog = Catalog(dataset)
    kinds = {name: _kind(content, name) for name in sorted(content.spaces)}
    with _reading(workspace) as read:
        report = _report(workspace, content, catalog, kinds, read, sample=sample, seed=seed)
        page = render_page(report, _cards(workspace, catalog, shown_items(report), read))
    path = html or workspace.root / "artifacts" / "report" / "embed.html"
    write_atomically(path, page.encode("utf-8", "replace"))
    text = json.dumps(report, indent=1, ensure_ascii=False, sort_keys=True, allow_nan=False) + "\n"
    write_atomically(path.with_suffix(".json"), text.encode("utf-8", "replace"))
    for finding in report["findings"]:
        colour = {"alarm": "red", "look": "yellow", "fine": "green", "note": "dim"}[finding["level"]]
        console.print(f"  [{colour}]{finding['level']:<5}[/]", finding["text"], markup=True, soft_wrap=True)
    console.print(f"  {path}", soft_wrap=True)
    return report, 1 if any(each["level"] == "alarm" for each in report["findings"]) else 0


@dataclass(frozen=True)
class Kind:
    """One kind of content: float16 [N, D] (memory-mapped), which rows can be used, and which are broken."""

    vectors: Vectors
    present: Mask
    broken: Rows


@dataclass(frozen=True)
class Catalog:
    """The dataset's items, as far as the report speaks of them."""

    dataset: Dataset

    @cached_property
    def ids(self) -> list[str]:
        return list(self.dataset.items["item_id"].to_pylist())

    @cached_property
    def titles(self) -> list[str | None]:
        return list(self.dataset.items["title"].to_pylist())

    @cached_property
    def descriptions(self) -> list[str | None]:
        return list(self.dataset.items["description"].to_pylist())

    @cached_property
    def images(self) -> list[str | None]:
        return list(self.dataset.items["image"].to_pylist())

    @cached_property
    def row_of(self) -> dict[str, int]:
        return {item_id: row for row, item_id in enumerate(self.ids)}

    def text_of(self, row: int) -> str | None:
        """The words that were encoded, without the categories: those are alike by design."""
        return item_text(self.titles[row], self.descriptions[row], ())

    def references(self, rows: Sequence[int]) -> list[tuple[int, str]]:
        return [(row, image) for row in rows if (image := self.images[row]) is not None]


def _report(
    workspace: Workspace,
    content: Content,
    catalog: Catalog,
    kinds: Mapping[str, Kind],
    read: Read,
    *,
    sample: int,
    seed: int,
) -> Json:
    candidates = {name: _candidates(name, kind, n_threads(workspace)) for name, kind in kinds.items()}
    looks = _looks(workspace, catalog, candidates.get("image"), read, sample=sample, seed=seed)
    judges = {"image": pictures_agree(looks), "text": texts_agree(catalog.text_of)}
    duplicates = {name: group_duplicates(each, judges.get(name, nothing_agrees)) for name, each in candidates.items()}
    blank = blank_json(looks, candidates["image"], catalog.ids) if "image" in candidates else NOTHING_LOOKED_AT
    present = {name: kind.present for name, kind in kinds.items()}
    refused = {name: _refused(workspace, name) for name in kinds}
    broken = {name: kind.broken for name, kind in kinds.items()}
    report: Json = {
        "content": content.key,
        "spaces": {name: content.spaces[name].space_id for name in kinds},
        "encoders": {name: content.spaces[name].encoder for name in kinds},
        "presence": presence_json(catalog.ids, present, refused, broken),
        "near_duplicates": {name: duplicates_json(each, catalog.ids) for name, each in duplicates.items()},
        "blank_images": blank,
        "disagreement": _disagreement(content.spaces, catalog, kinds, seed),
        "drift": _drift(workspace, content.spaces, catalog, kinds, seed),
    }
    return report | {"findings": findings_of(report)}


NOTHING_LOOKED_AT: Json = {
    "pictures": 0,
    "looked_at": 0,
    "sampled": False,
    "unreadable": [],
    "by_kind": {},
    "images": [],
}


@contextmanager
def _reading(workspace: Workspace) -> Iterator[Read]:
    reader = reader_of(workspace)
    try:
        yield reader.read
    finally:
        reader.close()


@contextmanager
def _decoding(workspace: Workspace, preprocessing: str) -> Iterator[Decode]:
    """Pictures may be hostile: they are decoded in processes of their own, here as when they were embedded."""
    with DecodePool(preprocessing, workers=max(1, decode_workers(workspace))) as pool:
        yield pool.map


def _kind(content: Content, name: str) -> Kind:
    vectors = np.load(content.path / f"{name}.npy", mmap_mode="r")
    present = np.load(content.path / f"{name}_present.npy")
    usable = np.empty(len(vectors), dtype=np.bool_)
    for start in range(0, len(vectors), _CHUNK):
        norms = np.linalg.norm(vectors[start : start + _CHUNK].astype(np.float32), axis=1)
        usable[start : start + _CHUNK] = np.isfinite(norms) & (np.abs(norms - 1.0) <= _NORM_OFF)
    return Kind(vectors, present & usable, np.flatnonzero(present & ~usable))


def _candidates(name: str, kind: Kind, threads: int) -> Candidates:
    rows = np.flatnonzero(kind.present)
    with progress_bar(f"neighbours {name}") as bar:
        return find_candidates(kind.vectors[rows], rows, threads=threads, on_progress=bar)


def _looks(
    workspace: Workspace, catalog: Catalog, candidates: Candidates | None, read: Read, *, sample: int, seed: int
) -> Looks:
    """Members of groups first, then others at random: each distinct picture once."""
    if candidates is None:
        return look_at([], read, lambda contents: iter(()))
    rows = candidates.rows_to_look_at
    others = np.random.default_rng(seed).permutation(np.setdiff1d(candidates.firsts, rows))
    chosen = np.concatenate([rows, others])[: sample or None]
    with _decoding(workspace, LOOK) as decode, progress_bar("look at pictures") as bar:
        return look_at(catalog.references(chosen.tolist()), read, decode, on_progress=bar)


def _disagreement(spaces: Mapping[str, EmbeddingSpace], catalog: Catalog, kinds: Mapping[str, Kind], seed: int) -> Json:
    if "image" not in kinds or "text" not in kinds:
        none = Disagreement("none", "that needs an image encoder and a text encoder")
        return disagreement_json(none, np.empty(0, np.int64), catalog.ids)
    image, text = kinds["image"], kinds["text"]
    rows = np.flatnonzero(image.present & text.present)
    aligned = _is_aligned(spaces["image"], spaces["text"])
    with console.status("picture and words"):
        found = find_disagreement(image.vectors[rows], text.vectors[rows], aligned=aligned, seed=seed)
    return disagreement_json(found, rows, catalog.ids)


def _is_aligned(image: EmbeddingSpace, text: EmbeddingSpace) -> bool:
    """As `embeddings.registry.EncoderPair.aligned`, of spaces: one model trained on pairs made both."""
    same = (image.encoder, image.weights_sha256) == (text.encoder, text.weights_sha256)
    return same and image.encoder != "fake" and image.dim == text.dim


def _drift(
    workspace: Workspace,
    spaces: Mapping[str, EmbeddingSpace],
    catalog: Catalog,
    kinds: Mapping[str, Kind],
    seed: int,
) -> Json:
    """The items that the current release has not, or has with other content, against the release."""
    releases = releases_of(workspace)
    current = releases.current()
    if current is None:
        return {"why_not": "there is no release yet"}
    manifest = releases.manifest(current)
    ids = pq.read_table(releases.open(manifest, "items.parquet"), columns=["item_id"])["item_id"].to_pylist()
    released_row = {item_id: row for row, item_id in enumerate(ids)}
    there = np.array([released_row.get(item_id, -1) for item_id in catalog.ids], dtype=np.int64)
    known = np.flatnonzero(there >= 0)
    changed: dict[str, Rows] = {}
    released: dict[str, tuple[Vectors, Mask]] = {}
    for name, kind in kinds.items():
        if name not in manifest.spaces or manifest.spaces[name].space_id != spaces[name].space_id:
            continue
        vectors = np.load(releases.open(manifest, f"content_{name}.npy"), mmap_mode="r")
        present = np.load(releases.open(manifest, f"content_{name}_present.npy"))
        released[name] = vectors, present
        changed[name] = known[_changed(kind, known, vectors, present, there[known])]
    if not released:
        return {"why_not": "the release's vectors live in other embedding spaces, so nothing can be compared"}
    added = np.flatnonzero(there < 0)
    every = np.unique(np.concatenate([np.empty(0, np.int64), *changed.values()]))
    told: Json = {
        "release": current,
        "added": len(added),
        "changed": len(every),
        "removed": len(ids) - len(known),
        "kinds": {},
        "other_spaces": sorted(set(kinds) - set(released)),
    }
    if not len(added) and not len(every):
        return told | {"why_not": "nothing is new or changed since the current release"}
    for name, (vectors, present) in released.items():
        rows = np.sort(np.concatenate([added, changed[name]]))
        kind = kinds[name]
        found = measure_drift(kind.vectors[rows], kind.present[rows], vectors, present, seed=seed)
        told["kinds"][name] = drift_json(found, [catalog.ids[row] for row in rows.tolist()])
    return told


def _changed(kind: Kind, rows: Rows, released: Vectors, released_present: Mask, released_rows: Rows) -> Mask:
    """bool [R]: content that came, went or is another one."""
    differs = np.empty(len(rows), dtype=np.bool_)
    for start in range(0, len(rows), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        differs[chunk] = is_changed(kind.vectors[rows[chunk]], released[released_rows[chunk]])
    now, then = kind.present[rows], released_present[released_rows]
    mask: Mask = (now != then) | (now & then & differs)
    return mask


def _refused(workspace: Workspace, name: str) -> list[Refusal]:
    path = refused_path(workspace, name)
    if not path.exists():
        return []
    table = pq.read_table(path, columns=["item_id", "reason", "message"])
    return [Refusal(**row) for row in table.to_pylist()]


def _cards(workspace: Workspace, catalog: Catalog, item_ids: Sequence[str], read: Read) -> dict[str, Card]:
    rows = [catalog.row_of[item_id] for item_id in item_ids]
    with _decoding(workspace, THUMBNAIL) as decode, console.status("thumbnails"):
        pictures = thumbnails(catalog.references(rows), read, decode)
    return {
        item_id: Card(catalog.titles[row], catalog.descriptions[row], pictures.get(row))
        for item_id, row in zip(item_ids, rows, strict=True)
    }
