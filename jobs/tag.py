"""`recsys tag`: models say what is in the items; only what is new is looked at.

    dataset → contents (the embedding job) → head → verdicts → artifacts/tags-<head>

Each head leaves `tags.parquet` and `judged.parquet` (`recsys.tags`); what of them counts is decided when a release is
built, where people's own words win (`embeddings.tagging.resolve`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.table import Table

from embeddings.tagging.heads import Head, Threshold
from embeddings.tagging.taxonomy import Taxonomy
from embeddings.tagging.verdicts import carried, judged_table, verdict_rows
from jobs.artifacts import Dataset, load_dataset
from jobs.embed_streams import EmbedChoice
from jobs.progress import console, progress_bar
from jobs.tag_heads import head_of, heads_to_run, thresholds_of
from jobs.tag_runs import JUDGED, PREFIX, TAGS, tag_run, taxonomy_of
from jobs.tag_vectors import TagContent, Vectors, tag_contents
from jobs.transcripts import write_transcripts
from recsys.errors import ArtifactError, ConfigError
from recsys.manifest import canonical_json, fingerprint
from recsys.storage.artifact_files import write_artifact
from recsys.tagging_config import DetectionConfig
from recsys.tags import kinds_of, looks_at
from recsys.workspace import Workspace

CHUNK = 16_384
_SHOWN = 12


@dataclass(frozen=True)
class Tagged:
    """What one head said.

    Attributes:
        rows: `TAGS_SCHEMA`.
        judged: `JUDGED_SCHEMA`.
        thresholds: of the tags that it can give.
        version: what decides its verdicts, as a fingerprint.
        reads: the kinds of content that it judges by.
    """

    rows: pa.Table
    judged: pa.Table
    thresholds: Mapping[str, Threshold]
    version: str
    reads: frozenset[str]


def tag_job(
    workspace: Workspace, heads: Sequence[str], choice: EmbedChoice | None = None, *, now: datetime
) -> tuple[dict[str, Any], int]:
    """Run these heads, or all that the configuration and the catalogue have work for; exit code 1 where some content
    could not be read."""
    dataset = load_dataset(workspace)
    figures = tag_dataset(workspace, dataset, heads or heads_to_run(workspace, dataset), choice, now=now)
    if not figures:
        console.print("  nothing to tag: no head has content here (see [tagging] in recsys.toml)")
    return figures, int(any(each["refused"] for each in figures.values()))


def tag_dataset(
    workspace: Workspace, dataset: Dataset, heads: Sequence[str], choice: EmbedChoice | None = None, *, now: datetime
) -> dict[str, Any]:
    """Run these heads: head → its figures. What they looked at before is not looked at again."""
    figures: dict[str, Any] = {}
    for name in heads:
        console.print(f"[bold]{name}[/]")
        tagged = TAGGERS.get(name, tag_by_vectors)(workspace, dataset, name, choice or EmbedChoice(), now)
        keep(workspace, dataset, name, tagged)
        figures[name] = show(tagged)
    return figures


def tag_by_vectors(workspace: Workspace, dataset: Dataset, name: str, choice: EmbedChoice, now: datetime) -> Tagged:
    """Heads on content vectors: image, audio, text, fusion."""
    head, encoders = head_of(workspace, name, taxonomy_of(workspace))
    contents = tag_contents(workspace, dataset, tuple(head.spec.spaces), choice, encoders=encoders)
    head.require({modality: each.space for modality, each in contents.items()})
    vectors = {modality: each.vectors(workspace, np.float16) for modality, each in contents.items()}
    item_ids = dataset.vocabulary.item_ids
    rows = pa.concat_tables(_verdicts(head, item_ids, vectors, now)).combine_chunks()
    refused = set().union(*(each.refused_ids() for each in contents.values()))
    # An item whose picture cannot be read is not judged by its title alone.
    judged = head.present(vectors) & np.array([each not in refused for each in item_ids], np.bool_)
    reads = kinds_of(head.spec.spaces)
    return Tagged(rows, judged_table(item_ids, judged, refused), head.spec.thresholds, head.version, reads)


def _verdicts(head: Head, item_ids: Sequence[str], vectors: Vectors, now: datetime) -> Iterator[pa.Table]:
    """`TAGS_SCHEMA`, some thousand items at a time: all confidences of a large catalogue would not fit."""
    version = head.version
    with progress_bar(f"judge by {head.spec.name}") as bar:
        for start in range(0, max(len(item_ids), 1), CHUNK):
            part = slice(start, start + CHUNK)
            here = {name: (x[part].astype(np.float32), present[part]) for name, (x, present) in vectors.items()}
            yield verdict_rows(
                head, item_ids[part], head.confidences(here), model=head.spec.model, version=version, now=now
            )
            bar(min(start + CHUNK, len(item_ids)), len(item_ids))


def tag_by_detection(workspace: Workspace, dataset: Dataset, name: str, choice: EmbedChoice, now: datetime) -> Tagged:
    """Boxes; the objects in them are embedded by themselves, so that things like one can be found."""
    from embeddings.tagging.detection import Detector, detection_spec
    from embeddings.tagging.objects import tags_of_records
    from jobs.tag_objects import embed_objects, tags_of_labels

    told = taxonomy_of(workspace)
    spec = detection_spec(_as_unsure_as_tags_ask(workspace, told), told, folder=workspace.root)
    content = _records_of(workspace, dataset, "image", spec, "detection", choice)
    detector = content.stream.encoder
    assert isinstance(detector, Detector)
    labels, are_tags = detector.labels, detector.labels_are_tags
    taxonomy = told or Taxonomy.of_labels(labels)
    meaning = tags_of_labels(taxonomy, labels, labels_are_tags=are_tags)
    version = fingerprint({"space": content.space.space_id, "taxonomy": taxonomy.model_dump(mode="json")})
    item_ids, records = dataset.vocabulary.item_ids, content.records(workspace)
    may_give = labels if are_tags else taxonomy.labels_of("detection", labels)
    thresholds = thresholds_of(workspace, taxonomy, dict.fromkeys(may_give))
    rows = tags_of_records(
        item_ids,
        records,
        taxonomy,
        thresholds,
        labels=labels,
        labels_are_tags=are_tags,
        model=content.space.encoder.split(" ")[0],
        version=version,
        now=now,
    )
    embed_objects(workspace, dataset, records, meaning, choice)
    judged = judged_table(item_ids, content.present, content.refused_ids())
    return Tagged(rows, judged, thresholds, version, looks_at(name))


def _as_unsure_as_tags_ask(workspace: Workspace, taxonomy: Taxonomy | None) -> DetectionConfig:
    """The detector keeps what any tag is unsure of: a box that it left out would be a no."""
    config = workspace.config.tagging.detection
    tags = thresholds_of(workspace, taxonomy, taxonomy.for_head("detection")).values() if taxonomy else ()
    return config.model_copy(update={"min_confidence": min([config.min_confidence, *(each.unsure for each in tags)])})


def tag_by_speech(workspace: Workspace, dataset: Dataset, name: str, choice: EmbedChoice, now: datetime) -> Tagged:
    """Transcripts, which become texts of the items; and tags of languages, where the taxonomy has them."""
    from embeddings.tagging.speech import SHARD_SIZE, speech_spec
    from embeddings.tagging.spoken_tags import labels_of_transcripts, may_give, tags_of_transcripts

    spec = speech_spec(workspace.config.tagging.speech)
    content = _records_of(workspace, dataset, "audio", spec, "speech", choice, shard_size=SHARD_SIZE)
    item_ids, records = dataset.vocabulary.item_ids, content.records(workspace)
    write_transcripts(workspace, item_ids, records, {"space": content.space.space_id, "hashes": _hashes(content)})
    taxonomy = taxonomy_of(workspace) or Taxonomy.of_labels(labels_of_transcripts(records))
    version = fingerprint({"space": content.space.space_id, "taxonomy": taxonomy.model_dump(mode="json")})
    thresholds = thresholds_of(workspace, taxonomy, may_give(taxonomy))
    model = content.space.encoder.split(" ")[0]
    rows = tags_of_transcripts(item_ids, records, taxonomy, thresholds, model=model, version=version, now=now)
    judged = judged_table(item_ids, content.present, content.refused_ids())
    return Tagged(rows, judged, thresholds, version, looks_at(name))


Tagger = Callable[[Workspace, Dataset, str, EmbedChoice, datetime], Tagged]
TAGGERS: Mapping[str, Tagger] = {"detection": tag_by_detection, "speech": tag_by_speech}
"""All others read vectors."""


def keep(workspace: Workspace, dataset: Dataset, name: str, tagged: Tagged) -> Path:
    """The artifact `tags-<head>`; what it said before keeps the time when it was said first."""
    rows = carried(tagged.rows, earlier_tags(workspace, name))
    said = rows.drop_columns(["at"])
    made_from = {
        "content_of": dataset.content_key,
        "covers": list(tagged.thresholds),
        "reads": sorted(tagged.reads),
        "version": tagged.version,
        "says": fingerprint([_sums(said), _sums(tagged.judged)]),
    }

    def fill(folder: Path) -> dict[str, Any]:
        pq.write_table(rows, folder / TAGS, compression="zstd")
        pq.write_table(tagged.judged, folder / JUDGED, compression="zstd")
        thresholds = {tag: each.model_dump() for tag, each in tagged.thresholds.items()}
        return {"items": len(tagged.judged), "rows": len(rows), "thresholds": thresholds}

    return write_artifact(workspace.root, f"{PREFIX}{name}", fingerprint(made_from), made_from, fill)


def earlier_tags(workspace: Workspace, name: str) -> pa.Table | None:
    """What this head said last; None where it never ran, or left nothing that can be read."""
    try:
        return tag_run(workspace, name).tags
    except ArtifactError:
        return None


def show(tagged: Tagged) -> dict[str, Any]:
    """A table of the most frequent tags, and the figures of it all."""
    yes, unsure = (_counts(tagged.rows, verdict) for verdict in ("yes", "unsure"))
    status = Counter(tagged.judged["status"].to_pylist())
    table = Table("  tag", "items", "unsure", box=None, pad_edge=False)
    for tag, n in yes.most_common(_SHOWN):
        table.add_row(f"  {tag}", f"{n:,}", f"{unsure[tag]:,}")
    if yes:
        console.print(table)
    looked = f"{status['judged']:,} items looked at, {status['absent']:,} without, {status['refused']:,} refused"
    console.print(f"  {looked}; {sum(yes.values()):,} tags of {len(yes):,} kinds, {sum(unsure.values()):,} unsure")
    return {
        "judged": status["judged"],
        "absent": status["absent"],
        "refused": status["refused"],
        "tags": sum(yes.values()),
        "unsure": sum(unsure.values()),
        "by_tag": dict(sorted(yes.items())),
        "version": tagged.version,
    }


def _records_of(
    workspace: Workspace,
    dataset: Dataset,
    modality: str,
    spec: str,
    name: str,
    choice: EmbedChoice,
    *,
    shard_size: int = 0,
) -> TagContent:
    encoders, names = {modality: spec}, {modality: name}
    found = tag_contents(workspace, dataset, (modality,), choice, encoders=encoders, names=names, shard_size=shard_size)
    if modality not in found:
        raise ConfigError(f"the {name} head is switched off: name its model in [tagging.{name}]")
    return found[modality]


def _counts(rows: pa.Table, verdict: str) -> Counter[str]:
    counted = pc.value_counts(rows.filter(pc.equal(rows["verdict"], verdict))["tag"].combine_chunks())
    return Counter({each["values"]: each["counts"] for each in counted.to_pylist()})


def _hashes(content: TagContent) -> str:
    return fingerprint(list(content.hashes))


def _sums(table: pa.Table) -> str:
    """Fingerprint of a table's rows, with confidences as far as they are the same on every machine."""
    sums = sha256()
    for start in range(0, len(table), CHUNK):
        columns = table.slice(start, CHUNK).to_pydict()
        rounded = {
            name: [round(each, 6) if isinstance(each, float) else each for each in values]
            for name, values in columns.items()
        }
        sums.update(canonical_json(rounded).encode())
    return sums.hexdigest()
