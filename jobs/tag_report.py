"""`recsys tag report`: what a head says of the catalogue and how good it is, as a page with pictures and sounds.

last run + evaluation.json + people's words → counts and examples → page
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.shards import write_atomically
from embeddings.tagging.heads import Threshold
from embeddings.tagging.human import HUMAN_FILE, Word, read_words
from embeddings.tagging.report import render_tag_report
from embeddings.tagging.report_figures import (
    Box,
    Evaluation,
    Example,
    HeadReport,
    Segment,
    SpokenItem,
    TagCount,
    TagExamples,
    read_evaluation,
)
from embeddings.tagging.report_findings import findings_of
from jobs.artifacts import Dataset, load_dataset
from jobs.progress import console
from jobs.tag_pictures import Shown, shown_items
from jobs.tag_runs import TagRun, tag_run, taxonomy_or_tags, thresholds_of_run
from jobs.transcripts import read_written
from recsys.errors import CorruptArtifact, MissingArtifact
from recsys.storage.artifact_files import read_artifact
from recsys.workspace import Workspace

MAX_TAGS, N_SURE, N_DOUBTFUL, MAX_SPOKEN = 40, 5, 5, 12
COLOURS = {"alarm": "red", "look": "yellow", "fine": "green", "note": "dim"}


def report_job(workspace: Workspace, *, head: str, html: Path | None = None) -> tuple[dict[str, Any], int]:
    """Write the page; exit code 1 when something is alarming.

    Args:
        html: where the page goes; default: artifacts/report/tags-<head>.html of the workspace.

    Raises:
        MissingArtifact: the head has not tagged anything yet.
    """
    dataset, run = load_dataset(workspace), tag_run(workspace, head)
    report = _report(workspace, dataset, run)
    path = html or workspace.root / "artifacts" / "report" / f"tags-{head}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, render_tag_report(report).encode("utf-8", "replace"))
    findings = findings_of(report)
    for each in findings:
        console.print(f"  [{COLOURS[each.level]}]{each.level:<5}[/]", each.text, markup=True, soft_wrap=True)
    console.print(f"  {path}", soft_wrap=True)
    figures = {
        "page": str(path),
        "findings": [each._asdict() for each in findings],
        "tags": {each.tag: {"yes": each.yes, "unsure": each.unsure} for each in report.counts},
    }
    return figures, int(any(each.level == "alarm" for each in findings))


def _report(workspace: Workspace, dataset: Dataset, run: TagRun) -> HeadReport:
    taxonomy = taxonomy_or_tags(workspace, run.covers)
    names = {tag: taxonomy.name(tag) if tag in taxonomy.tags else tag for tag in run.covers}
    words = read_words(workspace.data_dir / HUMAN_FILE).latest()
    examples = _examples(dataset, run, thresholds_of_run(workspace, run))
    spoken = _spoken(workspace, dataset) if run.head == "speech" else []
    wanted = [each.item_id for tag in examples for each in (*tag.sure, *tag.doubtful)]
    with console.status("pictures and sounds"):
        shown = shown_items(workspace, dataset, [*(each.item_id for each in spoken), *wanted])
    return HeadReport(
        head=run.head,
        model=next(iter(pc.unique(run.tags["model"]).to_pylist()), None) or "",
        version=next(iter(pc.unique(run.tags["version"]).to_pylist()), None) or "",
        at=pc.max(run.tags["at"]).as_py(),
        status=Counter(run.judged["status"].to_pylist()),
        counts=_counts(run, names, words),
        evaluation=_evaluation(workspace, run.head),
        examples=tuple(_with_contents(each, shown) for each in examples),
        spoken=tuple(replace(each, sound=shown.sounds.get(each.item_id)) for each in spoken),
    )


def _evaluation(workspace: Workspace, head: str) -> Evaluation | None:
    try:
        folder, _ = read_artifact(workspace.root, f"head-{head}")
    except MissingArtifact:
        return None
    return read_evaluation(folder / "evaluation.json")


def _counts(run: TagRun, names: Mapping[str, str], words: Mapping[tuple[str, str], Word]) -> tuple[TagCount, ...]:
    """Of each tag, how many items; and how the head's word compares with people's, on items that it judged."""
    grouped = run.tags.group_by(["tag", "verdict"]).aggregate([([], "count_all")]).to_pylist()
    counted = {(each["tag"], each["verdict"]): each["count_all"] for each in grouped}
    judged = run.judged.filter(pc.equal(run.judged["status"], "judged"))["item_id"]
    looked = set(judged.to_pylist()) if words else set()
    about = run.tags.filter(pc.is_in(run.tags["item_id"], pa.array([item for item, _ in words], pa.string())))
    pairs = zip(about["item_id"].to_pylist(), about["tag"].to_pylist(), strict=True)
    said = dict(zip(pairs, about["verdict"].to_pylist(), strict=True))
    agreed: Counter[tuple[str, bool]] = Counter()
    for (item_id, tag), word in words.items():
        verdict = said.get((item_id, tag), "no")
        if item_id in looked and verdict != "unsure":
            agreed[tag, verdict == word.verdict] += 1
    return tuple(
        TagCount(
            tag,
            name,
            counted.get((tag, "yes"), 0),
            counted.get((tag, "unsure"), 0),
            agree=agreed[tag, True],
            disagree=agreed[tag, False],
        )
        for tag, name in names.items()
    )


def _examples(dataset: Dataset, run: TagRun, thresholds: Mapping[str, Threshold]) -> list[TagExamples]:
    """Of the tags that most items have."""
    counts = pc.value_counts(run.tags["tag"].combine_chunks()).to_pylist()
    most = sorted(counts, key=lambda each: (-each["counts"], each["values"]))[:MAX_TAGS]
    found = []
    for tag in (each["values"] for each in most if each["values"] in thresholds):
        rows = run.tags.filter(pc.equal(run.tags["tag"], tag))
        confidence = rows["confidence"].to_numpy()
        is_yes = pc.equal(rows["verdict"], "yes").to_numpy()
        surest = np.flatnonzero(is_yes)[np.argsort(-confidence[is_yes], kind="stable")][:N_SURE]
        others = np.setdiff1d(np.arange(len(rows)), surest)
        nearest = others[np.argsort(np.abs(confidence[others] - thresholds[tag].yes), kind="stable")][:N_DOUBTFUL]
        found.append(TagExamples(tag, _of_rows(rows, surest, dataset), _of_rows(rows, nearest, dataset)))
    return found


def _of_rows(rows: pa.Table, places: Sequence[int] | np.ndarray, dataset: Dataset) -> tuple[Example, ...]:
    chosen = rows.take(pa.array(places, pa.int64())).to_pylist()
    titles = _titles(dataset, [each["item_id"] for each in chosen])
    examples = []
    for each in chosen:
        size, boxes, moments = _evidence(each["evidence"])
        examples.append(
            Example(
                each["item_id"],
                titles.get(each["item_id"]),
                each["verdict"],
                each["confidence"],
                size=size,
                boxes=boxes,
                moments=moments,
            )
        )
    return tuple(examples)


def _titles(dataset: Dataset, item_ids: Iterable[str]) -> dict[str, str | None]:
    known = [item_id for item_id in item_ids if item_id in dataset.vocabulary]
    rows, _ = dataset.vocabulary.rows(known)
    return dict(zip(known, dataset.items["title"].take(pa.array(rows)).to_pylist(), strict=True))


def _evidence(
    evidence: str | None,
) -> tuple[tuple[float, float] | None, tuple[Box, ...], tuple[tuple[float, float], ...]]:
    """The picture's size, the boxes in it, and the moments, as far as it says so."""
    if evidence is None:
        return None, (), ()
    try:
        said = json.loads(evidence)
        boxes = tuple(Box(*(float(edge) for edge in box)) for box in said.get("boxes", ()))
        moments = tuple((float(each["start_s"]), float(each["end_s"])) for each in said.get("moments", ()))
        size = (float(said["width"]), float(said["height"])) if boxes else None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorruptArtifact(
            f"the evidence {evidence[:80]!r} cannot be read ({error}): run `recsys tag` again"
        ) from None
    return size, boxes, moments


def _with_contents(found: TagExamples, shown: Shown) -> TagExamples:
    def of(examples: Iterable[Example]) -> tuple[Example, ...]:
        return tuple(
            replace(each, picture=shown.pictures.get(each.item_id), sound=shown.sounds.get(each.item_id))
            for each in examples
        )

    return replace(found, sure=of(found.sure), doubtful=of(found.doubtful))


def _spoken(workspace: Workspace, dataset: Dataset) -> list[SpokenItem]:
    """The first items of the last transcripts in which somebody speaks."""
    table = read_written(workspace)
    if table is None:
        return []
    rows = table.filter(pc.greater(pc.utf8_length(table["text"]), 0)).slice(0, MAX_SPOKEN).to_pylist()
    titles = _titles(dataset, [each["item_id"] for each in rows])
    return [
        SpokenItem(
            each["item_id"],
            titles[each["item_id"]],
            each["language"],
            each["duration_s"],
            tuple(
                Segment(part["start_s"], part["end_s"], part["text"], part["confidence"])
                for part in json.loads(each["segments"])
            ),
        )
        for each in rows
        if each["item_id"] in titles
    ]
