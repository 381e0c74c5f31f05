"""What the API says of one item. As `serving.schemas`: the client shares these, so nothing is imported but msgspec."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from serving.schemas import Moment


class ItemTag(Struct, omit_defaults=True):
    """One tag of an item: `verdict` is yes, no (a person's) or unsure, `confidence` the calibrated probability of yes.

    `by` is model, human or catalogue. `head` and `version` name what computed it, `model` that or the person;
    `evidence` is what it was seen by, as boxes or moments.
    """

    tag: str
    verdict: Annotated[str, Meta(extra_json_schema={"enum": ["yes", "no", "unsure"]})]
    confidence: float
    by: Annotated[str, Meta(extra_json_schema={"enum": ["model", "human", "catalogue"]})]
    head: str | None = None
    model: str | None = None
    version: str | None = None
    at: Moment | None = None
    evidence: Any = None


class ItemObject(Struct):
    """One object in the item's picture: `number` is what `object=` of similar items takes, `box` its left, upper, right
    and lower edge in pixels of the original picture."""

    number: int
    tag: str
    confidence: float
    box: tuple[float, float, float, float]


class ItemReply(Struct):
    """An item as it is now: the release's fields, and what was upserted over them.

    `tags_unsure` are tags of which nobody can tell, `unjudged` kinds of its content that were upserted and that no
    model has looked at. `shown` says whether slates may show it now, `reasons` why not.
    """

    item_id: str
    title: str | None
    description: str | None
    categories: tuple[str, ...]
    image: str | None
    audio: str | None
    price: float | None
    available_from: str | None
    available_until: str | None
    hidden: bool
    attributes: dict[str, Any]
    tags: tuple[ItemTag, ...]
    tags_unsure: tuple[str, ...]
    unjudged: tuple[str, ...]
    objects: tuple[ItemObject, ...]
    release: str
    shown: bool
    reasons: tuple[str, ...]
