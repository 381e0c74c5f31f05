"""What counts of all that heads and people said of a dataset's items: the one place that reads it.

artifacts/tags-<head>/<key>/    tags.parquet (`TAGS_SCHEMA`), judged.parquet (`JUDGED_SCHEMA`), and in the manifest's
                                `made_from["covers"]` the tags that the head can give, in `["reads"]` the kinds of
                                content that it judges by
data/tags/human.jsonl           people's words
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embeddings.tagging.taxonomy import TagDefinition, Taxonomy, load_taxonomy
from jobs.artifacts import Dataset
from jobs.tagged_items import Tagging
from recsys.errors import CorruptArtifact, MissingArtifact
from recsys.storage.artifact_files import read_artifact
from recsys.tags import JUDGED_SCHEMA, TAGS_SCHEMA, ItemTags, looks_at
from recsys.workspace import Workspace

PREFIX = "tags-"
PEOPLE = "tags/human.jsonl"
FIELDS_OF = {"image": ("image",), "audio": ("audio",), "text": ("title", "description")}


def item_tags(workspace: Workspace, dataset: Dataset) -> ItemTags | None:
    """What counts of the dataset's items, in their order; None where nothing was ever tagged."""
    tagging = tagging_of(workspace, dataset)
    return None if tagging is None else tagging.tags


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
    ran = {head: read_artifact(workspace.root, f"{PREFIX}{head}") for head in _heads(workspace)}
    if not ran and not (workspace.data_dir / PEOPLE).exists():
        return None
    # Resolving is for those who have tags: everybody else starts without it.
    from embeddings.tagging.human import read_words  # type: ignore[import-not-found,unused-ignore]
    from embeddings.tagging.resolve import HeadRun, resolve  # type: ignore[import-not-found,unused-ignore]

    words = read_words(workspace.data_dir / PEOPLE)
    covers = {head: _covers(manifest.made_from, head) for head, (_, manifest) in ran.items()}
    reads = {head: _reads(manifest.made_from, head) for head, (_, manifest) in ran.items()}
    taxonomy = _taxonomy(workspace, covers.values())
    runs = [
        HeadRun(
            _table(folder / "tags.parquet", TAGS_SCHEMA),
            with_unmet(_table(folder / "judged.parquet", JUDGED_SCHEMA), dataset.items, reads[head]),
            covers[head],
            reads[head],
        )
        for head, (folder, _) in ran.items()
    ]
    human = words.table() if words.words else None
    tags: ItemTags = resolve(dataset.vocabulary.item_ids, runs, human, taxonomy)
    return Tagging(tags, with_implied(covers, taxonomy), {head: tuple(sorted(each)) for head, each in reads.items()})


def with_unmet(judged: pa.Table, items: pa.Table, reads: Iterable[str]) -> pa.Table:
    """`JUDGED_SCHEMA`, with the items that came after the head ran: refused where there is content that it reads."""
    unmet = items.filter(pc.invert(pc.is_in(items["item_id"], value_set=judged["item_id"].combine_chunks())))
    has_content = pa.nulls(len(unmet), pa.bool_()).fill_null(False)
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


def _heads(workspace: Workspace) -> list[str]:
    """Those that ran to an end, by name."""
    folders = (workspace.root / "artifacts").glob(f"{PREFIX}*/current")
    return sorted(path.parent.name.removeprefix(PREFIX) for path in folders)


def _covers(made_from: Mapping[str, object], head: str) -> tuple[str, ...]:
    covers = made_from.get("covers")
    if not isinstance(covers, list) or not all(isinstance(tag, str) for tag in covers):
        raise CorruptArtifact(f"{PREFIX}{head} does not say which tags it covers: run `recsys tag --head {head}` again")
    return tuple(covers)


def _reads(made_from: Mapping[str, object], head: str) -> frozenset[str]:
    """An artifact of an earlier version does not say."""
    reads = made_from.get("reads")
    return frozenset(map(str, reads)) if isinstance(reads, list) else looks_at(head)


def _taxonomy(workspace: Workspace, covers: Iterable[Sequence[str]]) -> Taxonomy:
    """The workspace's; where there is none, each tag stands alone."""
    name = workspace.config.tagging.taxonomy
    if name:
        return load_taxonomy(workspace.root / name)
    return Taxonomy(tags={tag: TagDefinition() for tags in covers for tag in tags})


def _table(path: Path, schema: pa.Schema) -> pa.Table:
    try:
        return pq.read_table(path).select(schema.names).cast(schema)
    except FileNotFoundError:
        raise MissingArtifact(f"{path} is not there: run `recsys tag` again") from None
    except (pa.ArrowException, OSError, KeyError) as error:
        raise CorruptArtifact(f"{path} cannot be read ({error}): run `recsys tag` again") from None
