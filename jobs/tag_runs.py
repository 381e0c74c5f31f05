"""What heads said when they last ran: `artifacts/tags-<head>/`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from embeddings.tagging.heads import Threshold
from embeddings.tagging.taxonomy import TagDefinition, Taxonomy, load_taxonomy
from recsys.errors import ConfigError, CorruptArtifact, MissingArtifact
from recsys.storage.artifact_files import latest, read_artifact
from recsys.tagging_config import HeadName
from recsys.tags import JUDGED_SCHEMA, TAGS_SCHEMA
from recsys.workspace import Workspace

PREFIX = "tags-"
_PLAIN = re.compile(r"[a-z0-9_-]+")


@dataclass(frozen=True)
class TagRun:
    """The last run of one head.

    Attributes:
        tags: `TAGS_SCHEMA`.
        judged: `JUDGED_SCHEMA`.
        covers: tags that it can give.
        summary: of the artifact's manifest.
    """

    head: str
    tags: pa.Table
    judged: pa.Table
    covers: tuple[str, ...]
    summary: Mapping[str, Any]


def tag_run(workspace: Workspace, head: str) -> TagRun:
    """Raises ConfigError: no head is called so; MissingArtifact: it never ran; CorruptArtifact: what it left cannot be
    read."""
    if not _PLAIN.fullmatch(head):
        raise ConfigError(f"there is no head called {head!r}: the heads are {', '.join(get_args(HeadName))}")
    try:
        folder, manifest = read_artifact(workspace.root, f"{PREFIX}{head}", latest(workspace.root, f"{PREFIX}{head}"))
    except MissingArtifact:
        raise MissingArtifact(f"the {head} head has not tagged anything yet: run `recsys tag --head {head}`") from None
    try:
        tags = pq.read_table(folder / "tags.parquet").select(TAGS_SCHEMA.names).cast(TAGS_SCHEMA)
        judged = pq.read_table(folder / "judged.parquet").select(JUDGED_SCHEMA.names).cast(JUDGED_SCHEMA)
        covers = tuple(manifest.made_from["covers"])
    except (pa.ArrowException, OSError, KeyError) as error:
        raise CorruptArtifact(f"{folder} cannot be read ({error}): run `recsys tag --head {head}` again") from None
    return TagRun(head, tags, judged, covers, manifest.summary)


def heads_that_ran(workspace: Workspace) -> list[str]:
    folders = (workspace.root / "artifacts").glob(f"{PREFIX}*/current")
    return sorted(path.parent.name.removeprefix(PREFIX) for path in folders)


def taxonomy_or_tags(workspace: Workspace, tags: tuple[str, ...]) -> Taxonomy:
    """The workspace's taxonomy; without one these tags, each by itself. Raises ConfigError."""
    named = workspace.config.tagging.taxonomy
    return load_taxonomy(workspace.root / named) if named else Taxonomy(tags={tag: TagDefinition() for tag in tags})


def thresholds_of_run(workspace: Workspace, run: TagRun) -> dict[str, Threshold]:
    """tag → from where it counts: as the run told, else as its own rows show, else as the configuration says."""
    told = run.summary.get("thresholds", {})
    shown = _shown_thresholds(run.tags)
    taxonomy = taxonomy_or_tags(workspace, run.covers)
    config = workspace.config.tagging
    found = {}
    for tag in run.covers:
        own = taxonomy.tags[tag].threshold if tag in taxonomy.tags else None
        yes = shown.get(tag, config.threshold if own is None else own)
        found[tag] = Threshold(**told[tag]) if tag in told else Threshold(yes=yes, unsure=yes * config.unsure_from)
    return found


def _shown_thresholds(tags: pa.Table) -> dict[str, float]:
    """Of tags that were given and doubted: the middle between the least sure yes and the surest doubt."""
    grouped = tags.group_by(["tag", "verdict"]).aggregate([("confidence", "min"), ("confidence", "max")]).to_pylist()
    least = {each["tag"]: each["confidence_min"] for each in grouped if each["verdict"] == "yes"}
    most = {each["tag"]: each["confidence_max"] for each in grouped if each["verdict"] == "unsure"}
    return {tag: (least[tag] + most[tag]) / 2 for tag in least.keys() & most.keys()}
