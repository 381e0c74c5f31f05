"""Releases of the tests with tags: what heads and people say of their items, as a build would write it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from jobs.tagged_items import Tagging, details_by_row, with_tags
from recsys.release import LoadedRelease
from recsys.tag_details import TagDetails, write_tag_details
from recsys.tags import TAGS_SCHEMA, ItemTags

AT = datetime(2026, 5, 1, tzinfo=UTC)
HEADS: Mapping[str, Sequence[str]] = {"image": ("beach", "nsfw"), "text": ("gore",)}


def said(item_id: str, tag: str, verdict: str = "yes", confidence: float = 0.9, **more: Any) -> dict[str, Any]:
    """What a model says; a person with `by="human"`."""
    row = {"by": "model", "head": "image", "model": "classifier", "version": "v1", "at": AT, "evidence": None, **more}
    return {"item_id": item_id, "tag": tag, "verdict": verdict, "confidence": confidence, **row}


def tagging(
    item_ids: Sequence[str], rows: Sequence[Mapping[str, Any]], heads: Mapping[str, Sequence[str]] = HEADS
) -> Tagging:
    """As if these rows were what counts."""

    def named(verdict: str) -> tuple[tuple[str, ...], ...]:
        mine = [(each["item_id"], each["tag"]) for each in rows if each["verdict"] == verdict]
        return tuple(tuple(tag for of, tag in mine if of == item_id) for item_id in item_ids)

    details = pa.Table.from_pylist([dict(each) for each in rows], schema=TAGS_SCHEMA)
    return Tagging(
        ItemTags(named("yes"), named("unsure"), details), {name: tuple(tags) for name, tags in heads.items()}
    )


def tagged_release(
    release: LoadedRelease,
    rows: Sequence[Mapping[str, Any]],
    folder: Path | None = None,
    heads: Mapping[str, Sequence[str]] = HEADS,
) -> LoadedRelease:
    """The release with these tags; with their details where there is a folder for the file."""
    given = tagging(release.vocabulary.item_ids, rows, heads)
    items = with_tags(release.items, given)
    details = None
    if folder is not None:
        write_tag_details(details_by_row(items, given.tags.details), folder / "tags.parquet")
        details = TagDetails(folder / "tags.parquet", items["item_id"])
    schema = release.schema.model_copy(update={"tag_heads": dict(given.heads)})
    return replace(release, items=items, schema=schema, tag_details=details)
