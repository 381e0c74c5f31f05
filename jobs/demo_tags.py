"""What the demo shows of tagging: a head learns from some hundred labelled pictures, says how sure it is of the others,
and is held against what is known of those."""

from __future__ import annotations

import csv
import re
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.table import Table

from jobs.artifacts import Dataset
from jobs.progress import console
from jobs.tag import earlier_tags, tag_job
from jobs.tag_train import train_head_job
from recsys.workspace import Workspace

TAXONOMY = "taxonomy.toml"
N_LABELLED = 1_000
MIN_LABELLED = 40
MIN_OF_A_TAG = 15
MAX_TAGS = 12
N_SHOWN, N_SAID = 6, 3
SEED = 7


def tag_pictures(workspace: Workspace, dataset: Dataset, *, now: datetime) -> dict[str, Any]:
    """Learn the most frequent categories from pictures alone, tag all others, and show a few; {} without pictures or
    categories enough. `workspace` names `TAXONOMY`, which is written here."""
    known = labelled(dataset)
    rows = [row for row, tags in enumerate(known) if tags is not None]
    n_labelled = min(N_LABELLED, len(rows) // 2)
    if n_labelled < MIN_LABELLED:
        console.print("  left out: it learns from pictures with categories, and there are too few")
        return {}
    taught = sorted(np.random.default_rng(SEED).permutation(rows)[:n_labelled].tolist())
    counts = Counter(tag for row in taught for tag in known[row] or ())
    tags = [tag for tag, n in counts.most_common(MAX_TAGS) if n >= MIN_OF_A_TAG and n < 0.9 * n_labelled]
    if not tags:
        console.print("  left out: no category is frequent enough to be learned")
        return {}
    write_taxonomy(workspace.root / TAXONOMY, dataset, tags)
    labels = workspace.root / "labels.csv"
    write_labels(labels, dataset, known, taught, tags)
    trained, _ = train_head_job(workspace, head="image", labels=labels)
    figures, _ = tag_job(workspace, ("image",), now=now)
    said = earlier_tags(workspace, "image")
    assert said is not None
    truth = {dataset.vocabulary.item_ids[row]: set(known[row] or ()) & set(tags) for row in set(rows) - set(taught)}
    measured = held_against(said, truth)
    show(dataset, said, truth)
    console.print(
        f"  learned from {n_labelled:,} labelled pictures; of {measured['tags']:,} tags on {len(truth):,} others "
        f"{measured['precision']:.0%} are right, and they are {measured['recall']:.0%} of those there are"
    )
    return {
        "labelled": n_labelled,
        "kinds": len(tags),
        **measured,
        "unsure": figures["image"]["unsure"],
        **trained_of(trained),
    }


def labelled(dataset: Dataset) -> list[set[str] | None]:
    """The categories of each item with a picture, as ids of tags; None where it lacks either."""
    columns = zip(dataset.items["image"].to_pylist(), dataset.items["categories"].to_pylist(), strict=True)
    return [{slug(name) for name in names} if image and names else None for image, names in columns]


def slug(name: str) -> str:
    return re.sub(r"\W+", "-", name.casefold()).strip("-") or "tag"


def write_taxonomy(path: Path, dataset: Dataset, tags: list[str]) -> None:
    names = {slug(name): name for names in dataset.items["categories"].to_pylist() for name in names or ()}
    lines = ["# What the demo's head learns to see; `recsys tag` reads it."]
    for tag in tags:
        told = names[tag].replace("\\", "").replace('"', "'")
        lines += ["", f'[tags."{tag}"]', f'names = {{ en = "{told}" }}', 'modalities = ["image"]']
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_labels(path: Path, dataset: Dataset, known: list[set[str] | None], rows: list[int], tags: list[str]) -> None:
    """item_id, tag, value: every pair of a labelled item, so that what it is not is known too."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("item_id", "tag", "value"))
        for row in rows:
            mine = known[row] or set()
            writer.writerows((dataset.vocabulary.item_ids[row], tag, int(tag in mine)) for tag in tags)


def held_against(said: pa.Table, truth: dict[str, set[str]]) -> dict[str, Any]:
    """Precision and recall over all tags of the items that nobody labelled."""
    yes = [
        (item_id, tag)
        for item_id, tag, verdict in zip(
            *(said[name].to_pylist() for name in ("item_id", "tag", "verdict")), strict=True
        )
        if verdict == "yes" and item_id in truth
    ]
    right = sum(tag in truth[item_id] for item_id, tag in yes)
    there = sum(len(tags) for tags in truth.values())
    return {
        "tags": len(yes),
        "precision": round(right / max(len(yes), 1), 4),
        "recall": round(right / max(there, 1), 4),
    }


def show(dataset: Dataset, said: pa.Table, truth: dict[str, set[str]]) -> None:
    """Some items that nobody labelled, chosen by lot: what is known of them, and what the head says."""
    titles = dict(zip(dataset.vocabulary.item_ids, dataset.items["title"].to_pylist(), strict=True))
    found: dict[str, list[tuple[float, str, str]]] = {}
    columns = ("item_id", "tag", "verdict", "confidence")
    for item_id, tag, verdict, confidence in zip(*(said[name].to_pylist() for name in columns), strict=True):
        found.setdefault(item_id, []).append((confidence, tag, verdict))
    chosen = np.random.default_rng(SEED).permutation(sorted(item_id for item_id in truth if truth[item_id]))[:N_SHOWN]
    table = Table("item", "is", "looks like", box=None, pad_edge=False)
    for item_id in chosen.tolist():
        words = [
            f"{tag} {confidence:.2f}" if verdict == "yes" else f"[dim]{tag} {confidence:.2f} ?[/]"
            for confidence, tag, verdict in sorted(found.get(item_id, ()), reverse=True)[:N_SAID]
        ]
        table.add_row(f"  {(titles[item_id] or item_id)[:38]}", ", ".join(sorted(truth[item_id])), ", ".join(words))
    console.print(table)


def trained_of(trained: dict[str, Any]) -> dict[str, Any]:
    """The figures of training that the demo's last line tells."""
    return {name: trained[name] for name in ("ece_before", "ece_after") if name in trained}
