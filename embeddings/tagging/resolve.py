"""What counts: of all that models and people said of the items, which tags they have.

- A person's latest word on an item and a tag decides it, whatever models say, then or later.
- Else the item has the tag if any head says yes; nobody can tell if a head says `unsure`, or if one that covers the tag
  could not look and no other one that covers it, and judges by the same content or more, did.
- A tag implies those above it, and so does a doubt. A person's no to one of them takes models' word on the tag away.
- Tags of one group exclude each other: a person's yes takes models' word on the others away; of models' yes the surest
  stays, with those above it. What contradicts it goes, unless another head is unsure of it.

Letters: N items, R rows, K keys (an item and a tag in one number, see `TagTree.key`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embeddings.tagging.head_run import HeadRun, Unseen
from embeddings.tagging.said import VERDICTS, Said
from embeddings.tagging.tag_tree import Ints, TagTree, among, distinct
from embeddings.tagging.taxonomy import Taxonomy
from recsys.tags import TAGS_SCHEMA, ItemTags

__all__ = ["HeadRun", "resolve"]

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


def resolve(item_ids: Sequence[str], runs: Sequence[HeadRun], human: pa.Table | None, taxonomy: Taxonomy) -> ItemTags:
    """Of each item what counts, whatever the order of the runs. Rows of other items are left out."""
    tables = [*(run.tags for run in runs), *(() if human is None else (human,))]
    named = {tag for table in tables for tag in pc.unique(table["tag"]).to_pylist()}
    tree = TagTree.of(taxonomy, named.union(*(run.covers for run in runs)))
    ids = pa.array(item_ids, pa.string())
    said = Said.of(ids, tables, tree)
    people = _People.of(said, tree)
    unseen = Unseen.of(ids, runs, tree)
    spoken_of = distinct(said.key // max(tree.size, 1))
    yes = _yes(said, people, tree)
    unsure = _unsure(said, people, yes, unseen.keys(spoken_of, tree), tree)
    return ItemTags(
        tags=_names([()] * len(ids), yes, tree),
        unsure=_names(unseen.names(len(ids), spoken_of, tree), unsure, tree),
        details=_details(said, (yes, unsure, _Told.plain(people.no_places, said)), tree),
    )


@dataclass(frozen=True)
class _Told:
    """What counts, `K` keys in ascending order.

    Attributes:
        key: int64 [K].
        confidence: float32 [K].
        place: int64 [K], the row of `Said` behind it; -1 = none.
        child: int64 [K], the key that implies it; -1 = it was said.
    """

    key: Ints
    confidence: Floats
    place: Ints
    child: Ints

    @staticmethod
    def plain(places: Ints, said: Said) -> _Told:
        return _Told(said.key[places], said.confidence[places], places, np.full(len(places), -1, np.int64))

    def keep(self, kept: Mask) -> _Told:
        return _Told(self.key[kept], self.confidence[kept], self.place[kept], self.child[kept])


@dataclass(frozen=True)
class _People:
    """People's words; all keys ascend.

    Attributes:
        decided: keys that somebody decided.
        no: those with a no.
        no_places, yes_places, unsure_places: rows of `Said`.
        yes: keys with a yes, and all that they imply.
        groups: `TagTree.group_key` of these.
    """

    decided: Ints
    no: Ints
    no_places: Ints
    yes_places: Ints
    unsure_places: Ints
    yes: Ints
    groups: Ints

    @staticmethod
    def of(said: Said, tree: TagTree) -> _People:
        places = said.latest_of_people()
        yes_places, unsure_places, no_places = (places[said.verdict[places] == at] for at in range(len(VERDICTS)))
        no = said.key[no_places]
        implied, _ = tree.with_ancestors(said.key[yes_places])
        yes = distinct(implied[~among(implied, no)])
        groups = distinct(tree.group_key(yes))
        return _People(said.key[places], no, no_places, yes_places, unsure_places, yes, groups[groups >= 0])

    def leave_open(self, keys: Ints, tree: TagTree) -> Mask:
        """bool [K]: whether models may still say it: nobody decided it, nor anything that rules it out."""
        out = ~among(keys, self.decided)
        if len(self.decided):
            above, origin = tree.with_ancestors(keys)
            excluded = among(tree.group_key(above), self.groups) & ~among(above, self.yes)
            out[origin[among(above, self.no) | excluded]] = False
        return out


def _yes(said: Said, people: _People, tree: TagTree) -> _Told:
    places = said.surest("yes")
    places = places[people.leave_open(said.key[places], tree)]
    places = places[_without_contradictions(said.key[places], said.confidence[places], tree)]
    return _with_implied(_Told.plain(np.concatenate([people.yes_places, places]), said), people, tree)


def _unsure(said: Said, people: _People, yes: _Told, unseen: Ints, tree: TagTree) -> _Told:
    places = said.surest("unsure")
    places = places[people.leave_open(said.key[places], tree)]
    told = _Told.plain(np.concatenate([people.unsure_places, places]), said)
    unseen = unseen[people.leave_open(unseen, tree)]
    none = np.full(len(unseen), -1, np.int64)
    told = _Told(
        np.concatenate([told.key, unseen]),
        np.concatenate([told.confidence, np.zeros(len(unseen), np.float32)]),
        np.concatenate([told.place, none]),
        np.concatenate([told.child, none]),
    )
    told = _with_implied(told, people, tree)
    return told.keep(~among(told.key, yes.key))


def _with_implied(told: _Told, people: _People, tree: TagTree) -> _Told:
    """Each key once, as sure as the surest that says or implies it; what people decided they decided."""
    key, origin = tree.with_ancestors(told.key)
    child = np.where(key == told.key[origin], -1, told.key[origin])
    everything = _Told(key, told.confidence[origin], told.place[origin], child)
    found = everything.keep((child < 0) | ~among(key, people.decided))
    order = np.lexsort((found.child, found.place < 0, -found.confidence, found.key))
    order = order[np.flatnonzero(np.diff(found.key[order], prepend=-1))]
    return _Told(found.key[order], found.confidence[order], found.place[order], found.child[order])


def _without_contradictions(keys: Ints, confidence: Floats, tree: TagTree) -> Mask:
    """bool [K]: the surest first, what neither excludes a surer one nor implies one that does."""
    kept = np.ones(len(keys), np.bool_)
    groups = np.sort(tree.group_key(distinct(tree.with_ancestors(keys)[0])))
    twice = distinct(groups[1:][(groups[1:] >= 0) & (groups[1:] == groups[:-1])])
    contested = distinct(twice // max(tree.n_groups, 1))
    rows = np.flatnonzero(among(keys // max(tree.size, 1), contested))
    taken: dict[tuple[int, int], int] = {}
    for row in rows[np.lexsort((keys[rows], -confidence[rows]))].tolist():
        item, tag = divmod(int(keys[row]), tree.size)
        claims = {(item, group): member for group, member in tree.claims[tag]}
        kept[row] = all(taken.get(claim, member) == member for claim, member in claims.items())
        if kept[row]:
            taken.update(claims)
    return kept


def _names(out: list[tuple[str, ...]], told: _Told, tree: TagTree) -> tuple[tuple[str, ...], ...]:
    """`out` with the told tags of each item that has any, the surest first."""
    items, tags = np.divmod(told.key, max(tree.size, 1))
    order = np.lexsort((tags, -told.confidence, items))
    names = np.array(tree.tags, object)[tags[order]].tolist()
    starts = np.flatnonzero(np.diff(items[order], prepend=-1))
    for item, (start, end) in zip(items[order][starts].tolist(), pairwise([*starts.tolist(), len(names)]), strict=True):
        out[item] = tuple(names[start:end])
    return tuple(out)


def _details(said: Said, told: Sequence[_Told], tree: TagTree) -> pa.Table:
    """`TAGS_SCHEMA`, by item row, then tag. What is implied says by what, in place of the evidence of that."""
    key, place, child, confidence = (
        np.concatenate([getattr(each, name) for each in told]) for name in ("key", "place", "child", "confidence")
    )
    items, tags = np.divmod(key, max(tree.size, 1))
    order = np.lexsort((tree.alphabetical[tags], items))
    order = order[place[order] >= 0]
    rows = said.rows.take(pa.array(place[order]))
    names = pa.array(tree.tags, pa.string())
    implied = np.flatnonzero(child[order] >= 0)
    evidence = _replaced(rows["evidence"], implied, child[order][implied] % max(tree.size, 1), tree)
    columns = {
        "tag": names.take(pa.array(tags[order])),
        "confidence": pa.array(confidence[order], pa.float32()),
        "evidence": evidence,
    }
    return pa.table({name: columns.get(name, rows[name]) for name in TAGS_SCHEMA.names}, schema=TAGS_SCHEMA)


def _replaced(evidence: pa.ChunkedArray, rows: Ints, by: Ints, tree: TagTree) -> pa.ChunkedArray:
    """The evidence, but of these rows the tag that implies theirs."""
    mask = np.zeros(len(evidence), np.bool_)
    mask[rows] = True
    said = pa.array([json.dumps({"implied_by": tag}, ensure_ascii=False) for tag in tree.tags], pa.string())
    return pc.replace_with_mask(evidence.combine_chunks(), pa.array(mask), said.take(pa.array(by)))
