"""The taxonomy: which tags there are, what they are called, and how they belong together. A TOML file:

    [tags.dog]
    names = { en = "dog", zh = "狗" }
    prompts = ["a photo of a dog", "一张狗的照片"]
    labels = ["Dog", "Bark", "Labrador retriever"]   # what models with classes of their own call it
    parent = "animal"
    group = ""                                        # of the tags of one group an item has one
    modalities = ["image", "audio"]                   # heads that may give it; all where left out
    threshold = 0.6

A tag implies its parent and that one's parent. Labels and ids are compared without case.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from recsys.config import Config, load_config
from recsys.errors import ConfigError
from recsys.tags import MAX_TAG_CHARACTERS

_NOT_PLAIN = re.compile(r"[^\w]+")


class TagDefinition(Config):
    """One tag.

    Attributes:
        names: language → what people call it; the first one stands in prompts. None: its id.
        prompts: for zero-shot heads, in any language; none: the head's templates around its name.
        labels: classes of models that mean it.
        parent: tag that it implies; "" = none.
        group: name shared by tags that exclude each other; "" = none.
        modalities: heads that may give it (image, detection, audio, speech, text, fusion); empty = all.
        threshold: confidence from which it counts; None: training or the configuration says.
    """

    names: dict[str, str] = Field(default_factory=dict)
    prompts: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    parent: str = ""
    group: str = ""
    modalities: tuple[str, ...] = ()
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None


class Taxonomy(Config):
    """All tags, by id."""

    tags: dict[str, TagDefinition]

    @field_validator("tags")
    @classmethod
    def _have_plain_ids(cls, tags: dict[str, TagDefinition]) -> dict[str, TagDefinition]:
        for tag in tags:
            if not tag.strip() or len(tag) > MAX_TAG_CHARACTERS or not tag.isprintable():
                raise ValueError(f"{tag!r} is no id of a tag: 1 to {MAX_TAG_CHARACTERS} printable characters")
        return tags

    @model_validator(mode="after")
    def _have_parents(self) -> Taxonomy:
        for tag, definition in self.tags.items():
            if definition.parent and definition.parent not in self.tags:
                raise ValueError(f"the parent of {tag!r} is {definition.parent!r}, which is no tag here")
            seen, above = {tag}, definition.parent
            while above:
                if above in seen:
                    raise ValueError(f"{tag!r} is among its own parents")
                seen.add(above)
                above = self.tags[above].parent
        return self

    @staticmethod
    def of_labels(labels: Sequence[str]) -> Taxonomy:
        """Where there is none: each label of a model is a tag."""
        return Taxonomy(
            tags={slug: TagDefinition(names={"en": label}, labels=(label,)) for slug, label in _slugs(labels)}
        )

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(self.tags)

    def for_head(self, head: str) -> tuple[str, ...]:
        """The tags that this head may give."""
        return tuple(tag for tag, each in self.tags.items() if not each.modalities or head in each.modalities)

    def name(self, tag: str, language: str = "en") -> str:
        names = self.tags[tag].names
        return names.get(language) or next(iter(names.values()), "") or tag

    def ancestors(self, tag: str) -> tuple[str, ...]:
        """Its parent, that one's parent, and so on."""
        found = []
        while tag := self.tags[tag].parent:
            found.append(tag)
        return tuple(found)

    @cached_property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """group → its tags."""
        groups: dict[str, tuple[str, ...]] = {}
        for tag, each in self.tags.items():
            if each.group:
                groups[each.group] = (*groups.get(each.group, ()), tag)
        return groups

    def meant_by(self, tag: str) -> tuple[str, ...]:
        """Labels that mean a tag: its own; without any, what it is called."""
        return self.tags[tag].labels or (tag, *self.tags[tag].names.values())

    def labels_of(self, head: str, labels: Sequence[str | Sequence[str]]) -> dict[str, tuple[int, ...]]:
        """tag → the places among a model's `labels` that mean it; tags without any are left out.

        A tag without labels of its own is meant by a label that is called like it. A label may have several names, each
        of which stands for it.
        """
        places: dict[str, list[int]] = {}
        for place, label in enumerate(labels):
            for name in (label,) if isinstance(label, str) else label:
                places.setdefault(name.casefold(), []).append(place)
        found = {}
        for tag in self.for_head(head):
            here = sorted({place for label in self.meant_by(tag) for place in places.get(label.casefold(), ())})
            if here:
                found[tag] = tuple(here)
        return found


def load_taxonomy(path: Path) -> Taxonomy:
    """Raises ConfigError: the file is absent, no TOML, or says what cannot be; the message names the tag."""
    if not path.exists():
        raise ConfigError(f"{path} is not there: write the taxonomy, or leave `taxonomy` out of [tagging]")
    taxonomy = load_config(path, Taxonomy)
    spelt: dict[str, str] = {}
    for tag in taxonomy.ids:
        first = spelt.setdefault(tag.casefold(), tag)
        if tag != first:  # a blocked `nsfw` would let `NSFW` pass
            raise ConfigError(f"{path}: tags {first!r} and {tag!r} differ in case alone: make them one")
    return taxonomy


def _slugs(labels: Iterable[str]) -> Iterable[tuple[str, str]]:
    taken: set[str] = set()
    for label in labels:
        plain = _NOT_PLAIN.sub("-", label.casefold()).strip("-")[:MAX_TAG_CHARACTERS] or "tag"
        slug, n = plain, 2
        while slug in taken:
            slug = f"{plain[: MAX_TAG_CHARACTERS - 5]}-{n}"
            n += 1
        taken.add(slug)
        yield slug, label
