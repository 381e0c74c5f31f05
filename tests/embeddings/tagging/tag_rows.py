"""Rows of tags and runs of heads for tests."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from embeddings.tagging.head_run import HeadRun
from embeddings.tagging.taxonomy import TagDefinition, Taxonomy
from recsys.tags import ANY_CONTENT, JUDGED_SCHEMA, TAGS_SCHEMA

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def said(item: str, tag: str, verdict: str, confidence: float, head: str = "image", **other: Any) -> dict[str, Any]:
    row = {"item_id": item, "tag": tag, "verdict": verdict, "confidence": confidence, "by": "model", "head": head}
    return {**row, "model": "m", "version": "v1", "at": NOON, "evidence": None, **other}


def person(item: str, tag: str, verdict: str, after_s: int = 0, who: str = "ann") -> dict[str, Any]:
    at = NOON + timedelta(seconds=after_s)
    return said(item, tag, verdict, float(verdict == "yes"), by="human", head=None, model=who, version=None, at=at)


def tags_table(rows: Iterable[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=TAGS_SCHEMA)


def run(
    rows: Iterable[dict[str, Any]],
    judged: dict[str, str],
    covers: tuple[str, ...],
    reads: frozenset[str] = ANY_CONTENT,
) -> HeadRun:
    statuses = [{"item_id": item, "status": status} for item, status in judged.items()]
    return HeadRun(tags_table(rows), pa.Table.from_pylist(statuses, schema=JUDGED_SCHEMA), covers, reads)


def taxonomy(**tags: dict[str, str]) -> Taxonomy:
    return Taxonomy(tags={tag: TagDefinition.model_validate(each) for tag, each in tags.items()})


ANIMALS = taxonomy(
    animal={"group": "thing"},
    vehicle={"group": "thing"},
    dog={"parent": "animal", "group": "species"},
    cat={"parent": "animal", "group": "species"},
    puppy={"parent": "dog"},
    beach={},
)
