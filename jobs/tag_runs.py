"""What heads said when they last ran: the one place that reads it.

artifacts/tags-<head>/<key>/    tags.parquet (`TAGS_SCHEMA`), judged.parquet (`JUDGED_SCHEMA`); in the manifest the tags
                                that the head can give (`made_from["covers"]`), the kinds of content that it judges by
                                (`made_from["reads"]`) and from where each tag counts (`thresholds`)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from embeddings.tagging.heads import Threshold
from embeddings.tagging.taxonomy import TagDefinition, Taxonomy, load_taxonomy
from recsys.errors import ConfigError, CorruptArtifact, MissingArtifact
from recsys.storage.artifact_files import read_artifact
from recsys.tagging_config import HeadName
from recsys.tags import JUDGED_SCHEMA, TAGS_SCHEMA, looks_at
from recsys.workspace import Workspace

PREFIX = "tags-"
TAGS, JUDGED = "tags.parquet", "judged.parquet"
_PLAIN = re.compile(r"[a-z0-9_-]+")


@dataclass(frozen=True)
class TagRun:
    """The last run of one head.

    Attributes:
        tags: `TAGS_SCHEMA`.
        judged: `JUDGED_SCHEMA`.
        covers: tags that it can give.
        reads: the kinds of content that it judges by.
        summary: of the artifact's manifest.
    """

    head: str
    tags: pa.Table
    judged: pa.Table
    covers: tuple[str, ...]
    reads: frozenset[str]
    summary: Mapping[str, Any]


def tag_run(workspace: Workspace, head: str) -> TagRun:
    """Raises ConfigError: no head is called so; MissingArtifact: it never ran; CorruptArtifact: what it left cannot be
    read."""
    if not _PLAIN.fullmatch(head):
        raise ConfigError(f"there is no head called {head!r}: the heads are {', '.join(get_args(HeadName))}")
    try:
        folder, manifest = read_artifact(workspace.root, f"{PREFIX}{head}")
    except MissingArtifact:
        raise MissingArtifact(f"the {head} head has not tagged anything yet: run `recsys tag --head {head}`") from None
    covers = manifest.made_from.get("covers")
    if not isinstance(covers, list) or not all(isinstance(tag, str) for tag in covers):
        raise CorruptArtifact(f"{PREFIX}{head} does not say which tags it covers: run `recsys tag --head {head}` again")
    tags, judged = _table(folder / TAGS, TAGS_SCHEMA, head), _table(folder / JUDGED, JUDGED_SCHEMA, head)
    reads = manifest.made_from.get("reads")  # an artifact of an earlier version does not say
    kinds = frozenset(map(str, reads)) if isinstance(reads, list) else looks_at(head)
    return TagRun(head, tags, judged, tuple(covers), kinds, manifest.summary)


def heads_that_ran(workspace: Workspace) -> list[str]:
    """Those that ran to an end, by name."""
    folders = (workspace.root / "artifacts").glob(f"{PREFIX}*/current")
    return sorted(path.parent.name.removeprefix(PREFIX) for path in folders)


def taxonomy_of(workspace: Workspace) -> Taxonomy | None:
    """The workspace's taxonomy; None where each label of a model is a tag. Raises ConfigError."""
    named = workspace.config.tagging.taxonomy
    return load_taxonomy(workspace.root / named) if named else None


def taxonomy_or_tags(workspace: Workspace, tags: Iterable[str]) -> Taxonomy:
    """The workspace's taxonomy; without one these tags, each by itself. Raises ConfigError."""
    return taxonomy_of(workspace) or Taxonomy(tags={tag: TagDefinition() for tag in tags})


def thresholds_of_run(workspace: Workspace, run: TagRun) -> dict[str, Threshold]:
    """tag → from where it counts: as the run told, else as the configuration says."""
    config, told = workspace.config.tagging, run.summary.get("thresholds", {})
    usual = {"yes": config.threshold, "unsure": config.threshold * config.unsure_from}
    return {tag: Threshold(**told.get(tag, usual)) for tag in run.covers}


def _table(path: Path, schema: pa.Schema, head: str) -> pa.Table:
    try:
        return pq.read_table(path).select(schema.names).cast(schema)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise CorruptArtifact(f"{path} cannot be read ({error}): run `recsys tag --head {head}` again") from None
