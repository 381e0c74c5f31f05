"""Which of an upserted item's content is other than what the release holds, so that nobody has judged it for tags."""

from __future__ import annotations

import numpy as np

from recsys.ports import LiveItem
from recsys.release import LoadedRelease

SAME_CONTENT = 0.999
"""Cosine from which an upserted picture is the one that the release holds: what two engines and precisions make of one
picture differs by some 1e-4. A picture that a shop sends and then takes into its catalogue is so known again."""

WORDS = ("title", "description")
OTHER_WORDS = frozenset({"categories", "attributes"})
FILES = ("image", "audio")


def unjudged_content(item: LiveItem, row: int, release: LoadedRelease) -> tuple[str, ...]:
    """The kinds of content, sorted; none in a release for which nobody looked at any. `row` may be of an item that came
    after it. A price is nothing that heads look at; categories and attributes are words where they change the text."""
    nobody_looked = not release.schema.tag_heads and release.objects is None
    if nobody_looked or item.deleted:
        return ()
    found = {name for name in item.vectors if name != "text" and not _is_released(item, name, row, release)}
    found |= {name for name in FILES if _differs(item, name, row, release)}
    if any(_differs(item, name, row, release) for name in WORDS) or _says_else(item, row, release):
        found.add("text")
    return tuple(sorted(found))


def _says_else(item: LiveItem, row: int, release: LoadedRelease) -> bool:
    """Whether upserted categories or attributes make another text: most say nothing, as a stock."""
    if "text" not in item.vectors or not OTHER_WORDS & item.fields.keys():
        return False
    return not _is_released(item, "text", row, release)


def _is_released(item: LiveItem, name: str, row: int, release: LoadedRelease) -> bool:
    """Whether the vector is that of the release's own content."""
    modality = next((each for each in release.modalities if each.name == name), None)
    if modality is None or row >= release.n_items or not modality.present[row]:
        return False
    mine, released = item.vectors[name], modality.vectors[row]
    if item.space_ids.get(name) != modality.space_id or mine.shape != released.shape:
        return False
    lengths = float(np.linalg.norm(mine)) * float(np.linalg.norm(released))
    return bool(float(mine @ released) >= SAME_CONTENT * lengths > 0)


def _differs(item: LiveItem, name: str, row: int, release: LoadedRelease) -> bool:
    """Whether an upsert put something else into a field."""
    new = item.fields.get(name)
    if not new:
        return False
    return row >= release.n_items or bool(new != release.items[name][row].as_py())
