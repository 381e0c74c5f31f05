"""What counts of all that heads and people said of a dataset's items."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from embeddings.tagging.head_run import HeadRun
from embeddings.tagging.human import HUMAN_FILE, read_words
from embeddings.tagging.resolve import resolve
from embeddings.tagging.taxonomy import Taxonomy
from jobs.artifacts import Dataset
from jobs.tag_runs import heads_that_ran, tag_run, taxonomy_or_tags
from jobs.tagged_items import Tagging
from recsys.tags import JUDGED_SCHEMA
from recsys.workspace import Workspace

FIELDS_OF = {"image": ("image",), "audio": ("audio",), "text": ("title", "description")}


def tagged(workspace: Workspace, dataset: Dataset) -> Dataset:
    """The dataset, its items with their tags; as it is where nothing was ever tagged."""
    return replace(dataset, tagging=tagging_of(workspace, dataset))


def tagging_of(workspace: Workspace, dataset: Dataset) -> Tagging | None:
    """The latest word of each head, and of people. None: there is none of any.

    An item that a head has not met yet, and whose content it looks at, counts as one that it could not look at.

    Raises:
        CorruptArtifact: an artifact holds no tags.
        ConfigError: the taxonomy is none.
    """
    ran = [tag_run(workspace, head) for head in heads_that_ran(workspace)]
    people = workspace.data_dir / HUMAN_FILE
    if not ran and not people.exists():
        return None
    words = read_words(people)
    taxonomy = taxonomy_or_tags(workspace, [tag for run in ran for tag in run.covers])
    in_containers = bool(workspace.config.sources.image_files)
    runs = [
        HeadRun(run.tags, with_unmet(run.judged, dataset.items, run.reads, in_containers), run.covers, run.reads)
        for run in ran
    ]
    human = words.table() if words.words else None
    tags = resolve(dataset.vocabulary.item_ids, runs, human, taxonomy)
    reads = {run.head: tuple(sorted(run.reads)) for run in ran}
    return Tagging(tags, with_implied({run.head: run.covers for run in ran}, taxonomy), reads)


def with_unmet(judged: pa.Table, items: pa.Table, reads: Iterable[str], in_containers: bool = False) -> pa.Table:
    """`JUDGED_SCHEMA`, with the items that came after the head ran: refused where there is content that it reads.

    Args:
        in_containers: an item that names no picture or sound may have one in a tar or Parquet file.
    """
    unmet = items.filter(pc.invert(pc.is_in(items["item_id"], value_set=judged["item_id"].combine_chunks())))
    may_be_elsewhere = in_containers and not {"image", "audio"}.isdisjoint(reads)
    has_content = pa.nulls(len(unmet), pa.bool_()).fill_null(may_be_elsewhere)
    for field in (field for kind in sorted(reads) for field in FIELDS_OF[kind]):
        has_content = pc.or_(has_content, pc.is_valid(unmet[field].combine_chunks()))
    status = pc.if_else(has_content, "refused", "absent")
    more = pa.table({"item_id": unmet["item_id"], "status": status}, schema=JUDGED_SCHEMA)
    return pa.concat_tables([judged, more])


def with_implied(covers: Mapping[str, Sequence[str]], taxonomy: Taxonomy) -> dict[str, tuple[str, ...]]:
    """The heads with those of the tags above theirs of which it is known whether an item has them: all that stand
    right below such a tag are covered."""
    covered = {tag for tags in covers.values() for tag in tags}
    below: dict[str, list[str]] = {}
    for tag, definition in taxonomy.tags.items():
        if definition.parent:
            below.setdefault(definition.parent, []).append(tag)
    grows = True
    while grows:
        more = {tag for tag, under in below.items() if tag not in covered and covered.issuperset(under)}
        covered |= more
        grows = bool(more)
    return {
        head: tuple(dict.fromkeys([*tags, *(up for tag in tags for up in _above(tag, taxonomy) if up in covered)]))
        for head, tags in covers.items()
    }


def _above(tag: str, taxonomy: Taxonomy) -> tuple[str, ...]:
    return taxonomy.ancestors(tag) if tag in taxonomy.tags else ()
