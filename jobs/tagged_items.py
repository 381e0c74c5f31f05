"""What models and people say of a dataset's items, as columns beside those of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.errors import CorruptArtifact, MissingArtifact
from recsys.expressions.attributes import read_values
from recsys.manifest import fingerprint
from recsys.tags import TAG_COLUMNS, ItemTags, by_casefold, covered_by, joined_tags
from recsys.workspace import WorkspaceConfig

LISTS = pa.list_(pa.string())


@dataclass(frozen=True)
class Tagging:
    """What counts of the items of one dataset.

    Attributes:
        tags: in the order of its items.
        heads: head → the tags that it can give, with those that they imply; empty where people alone said something.
        reads: head → the kinds of content that it judges by.
    """

    tags: ItemTags
    heads: Mapping[str, tuple[str, ...]]
    reads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """Of what models learn from."""
        return fingerprint([list(each) for each in self.tags.tags])


def with_tags(items: pa.Table, tagging: Tagging | None) -> pa.Table:
    """The items with `recsys.tags.TAG_COLUMNS`; as they are where nothing was ever tagged.

    Raises:
        CorruptArtifact: the tags are of other items.
    """
    if tagging is None:
        return items
    tags = tagging.tags
    if len(tags.tags) != len(items) or len(tags.unsure) != len(items):
        raise CorruptArtifact("the tags are of other items than the catalogue's: run `recsys tag` again")
    own = read_values(items["attributes"], ("tags",))
    ids, denied = by_casefold(sorted(covered_by(tagging.heads))), _denied(items, tags.details)
    joined = [joined_tags(*each, ids) for each in zip(own, tags.tags, denied, strict=True)]
    for name, lists in zip(TAG_COLUMNS, (joined, tags.unsure, tags.tags, denied), strict=True):
        items = items.append_column(pa.field(name, LISTS), pa.array(lists, LISTS))
    return items


def _denied(items: pa.Table, details: pa.Table) -> list[list[str]]:
    """Of each item, what people say no to."""
    no = details.filter(pc.and_(pc.equal(details["by"], "human"), pc.equal(details["verdict"], "no")))
    out: list[list[str]] = [[] for _ in range(len(items))]
    rows = pc.index_in(no["item_id"], value_set=items["item_id"]).to_pylist()
    for row, tag in zip(rows, no["tag"].to_pylist(), strict=True):
        out[row].append(tag)
    return out


def details_by_row(items: pa.Table, details: pa.Table) -> pa.Table:
    """The details in the order of the items."""
    rows = np.asarray(pc.fill_null(pc.index_in(details["item_id"], value_set=items["item_id"]), -1), dtype=np.int64)
    return details if (np.diff(rows) >= 0).all() else details.take(pa.array(np.argsort(rows, kind="stable")))


def blocked_tags(config: WorkspaceConfig) -> tuple[str, ...]:
    """All that any surface or variant blocks, sorted."""
    surfaces = (surface.recommender.filter for _, surface in config.resolved_surfaces().every())
    return tuple(sorted({tag for each in surfaces for tag in each.blocked_tags}))


def uncovered_problem(blocked: Sequence[str], heads: Mapping[str, Sequence[str]]) -> str:
    """What is wrong with a release of these heads where these tags are blocked; "" = nothing."""
    covered = covered_by(heads)
    unknown = [tag for tag in blocked if tag not in covered]
    if not unknown:
        return ""
    names = ", ".join(map(repr, unknown))
    is_spelt = by_casefold(sorted(covered))
    near = [is_spelt[tag.casefold()] for tag in unknown if tag.casefold() in is_spelt]
    spelling = f"; there is {', '.join(map(repr, near))}" if near else ""
    return (
        f"blocked_tags names {names}, which no head covers{spelling}: nothing would be shown. Run `recsys tag` with a "
        "head whose taxonomy has it, or take it out"
    )


def require_covered(config: WorkspaceConfig, tagging: Tagging | None) -> None:
    """Raises MissingArtifact: a tag is blocked that no head can give, so that nobody knows which items have it."""
    problem = uncovered_problem(blocked_tags(config), {} if tagging is None else tagging.heads)
    if problem:
        raise MissingArtifact(problem)
