"""Tags: what models and people say is in an item, and how that is written down.

One row says one thing of one item: who says it, how sure, and when. What counts of it is decided once, when a release
is built (`embeddings.tagging.resolve`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

Verdict = Literal["yes", "no", "unsure"]
"""`unsure`: the model is too little sure either way, or could not look; a safety rule treats it as yes."""

By = Literal["model", "human"]

TAGS_SCHEMA = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("tag", pa.string(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("confidence", pa.float32(), nullable=False),  # calibrated probability of yes; 1 or 0 from a person
        pa.field("by", pa.string(), nullable=False),
        ("head", pa.string()),  # image, audio, ...; null from a person
        ("model", pa.string()),  # what computed it; who said it, from a person
        ("version", pa.string()),  # key of the head's artifact; null from a person
        pa.field("at", pa.timestamp("ms", "UTC"), nullable=False),
        ("evidence", pa.string()),  # a JSON object, as boxes or moments; null = none
    ]
)
"""A model's rows are its `yes` and `unsure`; what it looked at and does not list is a no."""

JUDGED_SCHEMA = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),  # judged, absent (no such content), refused (not readable)
    ]
)
"""Which items a head could look at; one row for each item of the catalogue."""

MAX_TAG_CHARACTERS = 64


@dataclass(frozen=True)
class ItemTags:
    """What counts, of `N` items in the order of a catalogue.

    Attributes:
        tags: of each item, the surest first; parents are among them.
        unsure: of each item, the tags of which nobody can tell: a safety rule takes them for yes.
        details: `TAGS_SCHEMA`, the rows behind `tags` and `unsure` and every no of a person, by item row, then tag; one
            row for each item and tag. What no model could look at has none; an implied parent has its child's, with
            `{"implied_by": child}` as its evidence.
    """

    tags: tuple[tuple[str, ...], ...]
    unsure: tuple[tuple[str, ...], ...]
    details: pa.Table


TAG_COLUMNS = ("tags", "tags_unsure", "tags_said", "tags_denied")
"""What a tagged catalogue says of each item, lists of texts: the tags that it has, by its own `attributes.tags`, models
and people; those of which nobody can tell; and of the former what models and people say, and what people say no to."""

ANY_CONTENT = frozenset({"image", "audio", "text"})
_LOOKS_AT: Mapping[str, frozenset[str]] = {
    "image": frozenset({"image"}),
    "detection": frozenset({"image"}),
    "audio": frozenset({"audio"}),
    "speech": frozenset({"audio"}),
    "text": frozenset({"text"}),
}


def looks_at(head: str) -> frozenset[str]:
    """The kinds of content that a head judges by, where its run does not say; one that is not known here, as fusion,
    looks at all there is."""
    return _LOOKS_AT.get(head, ANY_CONTENT)


def kinds_of(modalities: Iterable[str]) -> frozenset[str]:
    """The kinds of content that vectors of these modalities are made from: a transcript is from the sound."""
    return frozenset("audio" if each == "transcript" else each for each in modalities)


def tags_of(field: Any, attribute: Any) -> list[Any] | None:
    """An item's tags from its field `tags` and `attributes.tags`, either of which may be None or no list."""
    if isinstance(field, list | tuple):
        return list(field)
    return list(attribute) if isinstance(attribute, list | tuple) else None


def joined_tags(own: Any, said: Iterable[str], denied: Collection[str], ids: Mapping[str, str]) -> list[str]:
    """What an item has: what its catalogue says, then what models and people say; without what people say no to.

    Args:
        own: `attributes.tags`; what is no list of texts counts for nothing.
        said: the surest first.
        ids: tags by their names in one case (`by_casefold`): one of the catalogue's that is called like one of them
            but for case counts as that one too, or a blocked `nsfw` would let `NSFW` pass.
    """
    names = [each for each in own if isinstance(each, str)] if isinstance(own, list | tuple) else []
    named = [tag for name in names for tag in (name, ids.get(name.casefold(), name))]
    no = {tag.casefold() for tag in denied}
    return [tag for tag in dict.fromkeys([*named, *said]) if tag.casefold() not in no]


def by_casefold(tags: Iterable[str]) -> dict[str, str]:
    """name in one case → tag."""
    return {tag.casefold(): tag for tag in tags}


def covered_by(heads: Mapping[str, Sequence[str]]) -> frozenset[str]:
    """The tags that any of the heads (name → tags) can give."""
    return frozenset(tag for tags in heads.values() for tag in tags)
