"""Tags drawn at random, in a release and upserted, and which of them an item may have told in plain Python."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa

from recsys.ports import LiveItem
from recsys.release import LoadedRelease

HEADS = {"image": ("nsfw",), "text": ("gore",)}
JUDGED = ("nsfw", "gore")
LISTS = pa.list_(pa.string())


def tagged(rng: np.random.Generator, release: LoadedRelease) -> LoadedRelease:
    """The release with what models and people say of its items."""
    n = release.n_items
    denied = [_some(rng, 0.15) for _ in range(n)]
    said, unsure = ([_some(rng, 0.2) - no for no in denied] for _ in range(2))
    objects = release.items["attributes"].to_pylist()
    own = [set(json.loads(text or "{}").get("tags", ())) for text in objects]
    columns = {
        "tags": [_has(mine, says, no) for mine, says, no in zip(own, said, denied, strict=True)],
        "tags_unsure": unsure,
        "tags_said": said,
        "tags_denied": denied,
    }
    items = release.items
    for name, lists in columns.items():
        items = items.append_column(pa.field(name, LISTS), pa.array([sorted(each) for each in lists], LISTS))
    schema = release.schema.model_copy(update={"tag_heads": HEADS})
    return replace(release, items=items, schema=schema)


def blocked_tags(rng: np.random.Generator) -> tuple[str, ...]:
    """None most often."""
    return tuple(str(each) for each in rng.choice(JUDGED, int(rng.integers(1, 3)), replace=False)) * bool(
        rng.random() < 0.4
    )


def may_have(release: LoadedRelease, live: Iterable[LiveItem]) -> Mapping[str, set[str]]:
    """item_id → the tags that it has, or of which nobody can tell, after these upserts; everything where nothing was
    ever tagged."""
    now = {each.item_id: each for each in live}
    released = {row["item_id"]: row for row in release.items.to_pylist()}
    ids = {*now, *released}
    if not release.schema.tag_heads:
        return {item_id: set(JUDGED) for item_id in ids}
    return {item_id: _may_have(released.get(item_id, {}), now.get(item_id)) for item_id in ids}


def _may_have(released: Mapping[str, object], live: LiveItem | None) -> set[str]:
    if live is None:
        return {*_list(released, "tags"), *_list(released, "tags_unsure")}
    own = set(live.fields["attributes"].get("tags", ()))
    found = _has(own, _list(released, "tags_said"), _list(released, "tags_denied"))
    found |= _list(released, "tags_unsure")
    if "image" in live.vectors:  # a picture that no head has seen
        found.add("nsfw")
    # Its attributes were sent, and with them words that no head has read: another title, or another text.
    if "text" in live.vectors or (live.fields["title"] and live.fields["title"] != released.get("title")):
        found.add("gore")
    return found


def _has(own: set[str], said: set[str], denied: set[str]) -> set[str]:
    named = own | {"nsfw" for tag in own if tag == "NSFW"}
    return {tag for tag in named | said if tag.lower() not in denied}


def _list(row: Mapping[str, object], name: str) -> set[str]:
    there = row.get(name)
    return set(there) if isinstance(there, list) else set()


def _some(rng: np.random.Generator, share: float) -> set[str]:
    return {tag for tag in JUDGED if rng.random() < share}
