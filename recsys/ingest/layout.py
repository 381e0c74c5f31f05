"""Whose columns these are: our names, a company's own through recsys.toml, Amazon Personalize's, or Gorse's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Literal

from recsys.catalog import ITEM_FIELDS, DataConfig
from recsys.errors import ConfigError, InputError
from recsys.ingest.files import InputFile, Kind
from recsys.times import TimeRules

Dialect = Literal["recsys", "personalize", "gorse"]

FIELDS: dict[Kind, tuple[str, ...]] = {
    "items": ITEM_FIELDS,
    "interactions": (
        "user_id",
        "item_id",
        "event_id",
        "occurred_at",
        "position",
        "event_type",
        "value",
        "context",
        "recommendation_id",
    ),
    "users": ("user_id", "attributes", "text"),
}
REQUIRED: dict[Kind, tuple[str, ...]] = {
    "items": ("item_id",),
    "interactions": ("user_id", "item_id"),
    "users": ("user_id",),
}
OBJECT_FIELD: dict[Kind, str] = {"items": "attributes", "interactions": "context", "users": "attributes"}

# docs.aws.amazon.com/personalize: "Preparing training data" and the items datasets of its domains.
PERSONALIZE: dict[Kind, dict[str, str]] = {
    "items": {
        "item_id": "ITEM_ID",
        "title": "TITLE",
        "description": "DESCRIPTION",
        "categories": "GENRES",
        "price": "PRICE",
    },
    "interactions": {
        "user_id": "USER_ID",
        "item_id": "ITEM_ID",
        "occurred_at": "TIMESTAMP",
        "event_type": "EVENT_TYPE",
        "value": "EVENT_VALUE",
        "recommendation_id": "RECOMMENDATION_ID",
    },
    "users": {"user_id": "USER_ID"},
}
# The e-commerce domain calls them so; used where the column above is absent.
PERSONALIZE_ELSE = {"categories": "CATEGORY_L1", "description": "PRODUCT_DESCRIPTION", "title": "NAME"}
# Gorse exports CSV up to 0.4 and JSON lines from 0.5 on (its master/rest.go).
GORSE_CSV: dict[Kind, dict[str, str]] = {
    "items": {
        "item_id": "item_id",
        "hidden": "is_hidden",
        "categories": "categories",
        "description": "description",
        "attributes": "labels",
        "attributes.created_at": "time_stamp",
    },
    "interactions": {
        "user_id": "user_id",
        "item_id": "item_id",
        "event_type": "feedback_type",
        "occurred_at": "time_stamp",
    },
    "users": {"user_id": "user_id", "attributes": "labels"},
}
GORSE_JSON: dict[Kind, dict[str, str]] = {
    "items": {
        "item_id": "ItemId",
        "hidden": "IsHidden",
        "categories": "Categories",
        "description": "Comment",
        "attributes": "Labels",
        "attributes.created_at": "Timestamp",
    },
    "interactions": {
        "user_id": "UserId",
        "item_id": "ItemId",
        "event_type": "FeedbackType",
        "value": "Value",
        "occurred_at": "Timestamp",
    },
    "users": {"user_id": "UserId", "attributes": "Labels", "text": "Comment"},
}
_GORSE_MARKS: dict[Kind, tuple[set[str], set[str]]] = {
    "items": ({"item_id", "is_hidden", "time_stamp"}, {"ItemId", "IsHidden"}),
    "interactions": ({"user_id", "item_id", "feedback_type"}, {"UserId", "ItemId", "FeedbackType"}),
    "users": ({"user_id", "labels"}, {"UserId", "Labels"}),
}
# Names under which companies keep a field; used for advice only, never to read a column unasked.
ALSO_CALLED: dict[str, tuple[str, ...]] = {
    "user_id": ("user", "uid", "userid", "customer_id", "customer", "visitor_id", "member_id", "account_id"),
    "item_id": (
        "item",
        "iid",
        "itemid",
        "product_id",
        "productid",
        "sku",
        "asin",
        "movie_id",
        "movieid",
        "content_id",
        "id",
    ),
    "occurred_at": ("timestamp", "time", "ts", "date", "datetime", "created_at", "event_time", "unixtime"),
    "event_type": ("event", "type", "action", "event_name"),
    "value": ("rating", "score", "event_value", "weight", "quantity"),
    "title": ("name", "product_name", "item_name"),
    "description": ("desc", "text", "summary", "overview", "plot"),
    "categories": ("category", "genres", "genre", "tags"),
    "image": ("image_path", "image_url", "picture", "poster", "thumbnail"),
    "text": ("bio", "about", "description", "profile"),
}


@dataclass(frozen=True, slots=True)
class Layout:
    """How the columns of one file are read.

    Attributes:
        columns: our name → theirs, for the fields of this kind.
        keys: key of the object field (attributes or context) → their column.
        takes_rest: every other column becomes a key of the object field, as Personalize's own metadata does.
    """

    kind: Kind
    dialect: Dialect
    columns: Mapping[str, str]
    times: TimeRules
    category_separator: str
    keys: Mapping[str, str] = field(default_factory=dict)
    takes_rest: bool = False

    def with_rest(self, names: Iterable[str]) -> Layout:
        """The layout with a key for each column that nothing else reads, where the dialect takes them."""
        if not self.takes_rest:
            return self
        rest = {name.lower(): name for name in names if name not in self.used}
        return replace(self, keys={**rest, **self.keys})

    @property
    def used(self) -> frozenset[str]:
        return frozenset(self.columns.values()) | frozenset(self.keys.values())


def layout_of(file: InputFile, names: Iterable[str], config: DataConfig) -> Layout:
    """Find out whose columns `names` are.

    Raises:
        InputError: a required or a mapped column is missing; the message names the columns found and what maps one.
        ConfigError: [data.columns] maps a field that does not exist.
    """
    found = tuple(names)
    dialect, theirs = _dialect(file.kind, set(found))
    # Events that we exported have our own columns, whatever the files of the company call theirs.
    mapped = {} if file.exported else _configured(file.kind, config)
    every = {name: name for name in FIELDS[file.kind]} if dialect == "recsys" else {}
    all_columns = {**every, **theirs, **mapped}
    prefix = OBJECT_FIELD[file.kind] + "."
    columns = {ours: column for ours, column in all_columns.items() if not ours.startswith(prefix)}
    keys = {ours.removeprefix(prefix): column for ours, column in all_columns.items() if ours.startswith(prefix)}
    for ours in REQUIRED[file.kind]:
        if columns.get(ours) not in found:
            raise InputError(_missing_column(file, ours, columns.get(ours, ours), found, mapped))
    for ours, column in mapped.items():
        if column not in found and file.format != "jsonl":  # lines of JSONL may leave a field out
            raise InputError(_missing_column(file, ours, column, found, mapped))
    time_format = "epoch_s" if dialect == "personalize" and config.time_format == "rfc3339" else config.time_format
    times = TimeRules(config.timezone, time_format)
    layout = Layout(file.kind, dialect, columns, times, config.category_separator, keys, dialect == "personalize")
    return layout.with_rest(found)


def advice(layout: Layout, names: Iterable[str]) -> list[str]:
    """Lines for recsys.toml that would read columns which are ignored now but look like fields of ours."""
    found = tuple(names)
    unused = [name for name in found if name not in layout.used]
    lines = []
    for ours, theirs in layout.columns.items():
        if theirs not in found and (guess := _guess(ours, unused)):
            lines.append(mapping_line(layout.kind, ours, guess))
    return lines


def mapping_line(kind: Kind, ours: str, theirs: str) -> str:
    quoted = theirs.replace("\\", "\\\\").replace('"', '\\"')
    return f'[data.columns.{kind}]\n{ours} = "{quoted}"'


def _dialect(kind: Kind, names: set[str]) -> tuple[Dialect, dict[str, str]]:
    personalize = {"items": {"ITEM_ID"}, "interactions": {"USER_ID", "ITEM_ID"}, "users": {"USER_ID"}}[kind]
    if personalize <= names:
        columns = PERSONALIZE[kind]
        other = {ours: theirs for ours, theirs in PERSONALIZE_ELSE.items() if columns.get(ours, "") not in names}
        return "personalize", {**columns, **(other if kind == "items" else {})}
    in_csv, in_json = _GORSE_MARKS[kind]
    if in_csv <= names:
        return "gorse", GORSE_CSV[kind]
    if in_json <= names:
        return "gorse", GORSE_JSON[kind]
    return "recsys", {}


def _configured(kind: Kind, config: DataConfig) -> dict[str, str]:
    mapped: dict[str, str] = getattr(config.columns, kind)
    prefix = OBJECT_FIELD[kind] + "."
    for ours in mapped:
        if ours not in FIELDS[kind] and not (ours.startswith(prefix) and len(ours) > len(prefix)):
            known = ", ".join((*FIELDS[kind], prefix + "NAME"))
            raise ConfigError(f"[data.columns.{kind}] maps {ours!r}, which is none of {known}")
    return mapped


def _missing_column(file: InputFile, ours: str, theirs: str, found: tuple[str, ...], mapped: Mapping[str, str]) -> str:
    shown = ", ".join(repr(name[:60]) for name in found[:20]) or "none"
    if ours in mapped:
        return f"{file.path} has no column {theirs!r}, which [data.columns.{file.kind}] names as {ours}; it has {shown}"
    unused = [name for name in found if name not in FIELDS[file.kind] and name not in mapped.values()]
    guess = _guess(ours, unused) or "THEIR_NAME"
    line = mapping_line(file.kind, ours, guess)
    return f"{file.path} has no column {theirs!r}; it has {shown}. Say in recsys.toml which one it is:\n{line}"


def _guess(ours: str, candidates: Iterable[str]) -> str | None:
    """The candidate that most looks like our field: an exact other name, or one that differs in a letter or two."""
    by_plain = {_plain(name): name for name in candidates}
    names = (ours, *ALSO_CALLED.get(ours, ()))
    for name in names:
        if _plain(name) in by_plain:
            return by_plain[_plain(name)]
    close = get_close_matches(_plain(ours), by_plain, n=1, cutoff=0.85)
    return by_plain[close[0]] if close else None


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())
