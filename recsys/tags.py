"""Tags: what models and people say is in an item, and how that is written down.

One row says one thing of one item: who says it, how sure, and when. What counts of it is decided once, when a release
is built (`embeddings.tagging.resolve`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
