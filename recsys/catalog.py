"""What an item is, and the one set of rules that files and HTTP requests are held to."""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field, field_validator

from recsys.config import Config
from recsys.fields import encode_object, kind_of, parse_id, parse_object, parse_text, type_reason
from recsys.quarantine import RowRefused
from recsys.references import is_web, normal_root, url_below, url_scheme
from recsys.times import STRICT, TimeFormat, TimeRules, parse_time_ms

MAX_TITLE_CHARACTERS = 2_000
MAX_DESCRIPTION_CHARACTERS = 100_000
MAX_CATEGORIES = 200
MAX_CATEGORY_CHARACTERS = 256
MAX_REFERENCE_CHARACTERS = 2_048
MAX_CATEGORY_NAMES = 512
TAG_PREFIX = "tag:"

TIMESTAMP = pa.timestamp("ms", "UTC")
ITEMS_SCHEMA = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        ("title", pa.string()),
        ("description", pa.string()),
        ("categories", pa.list_(pa.string())),
        ("image", pa.string()),
        ("audio", pa.string()),
        ("price", pa.float64()),
        ("available_from", TIMESTAMP),
        ("available_until", TIMESTAMP),
        pa.field("hidden", pa.bool_(), nullable=False),
        ("attributes", pa.string()),  # a JSON object with sorted keys; null = none
        ("line", pa.int64()),
    ]
)

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:")


class ColumnMaps(Config):
    """How a company's files call their columns: our name = theirs.

    Attributes:
        items: as `{ item_id = "sku", "attributes.year" = "release_year" }`; the second fills one key of an object.
        interactions: as `{ occurred_at = "ts", "context.device" = "device" }`.
        users: as `{ user_id = "customer", text = "bio" }`.
    """

    items: dict[str, str] = Field(default_factory=dict)
    interactions: dict[str, str] = Field(default_factory=dict)
    users: dict[str, str] = Field(default_factory=dict)


class DataConfig(Config):
    """The `[data]` section: where the files lie and how a company's export is read.

    Attributes:
        dir: the folder, relative to the workspace.
        items_file, interactions_file, users_file: names inside it, where they are not `items.*` and so on.
        timezone: zone of times without one, such as "Europe/Berlin"; without it they are quarantined.
        time_format: what a bare number counts; "rfc3339" refuses bare numbers.
        columns: how columns are called, where not as here.
        category_separator: splits a text of several categories.
        image_root: the folder, relative to the items file, that image and audio paths may lie in; or a URL such as
            `s3://bucket/pictures` that they are relative to.
    """

    dir: str = "data"
    items_file: str | None = None
    interactions_file: str | None = None
    users_file: str | None = None
    timezone: str | None = None
    time_format: TimeFormat = "rfc3339"
    columns: ColumnMaps = ColumnMaps()
    category_separator: str = "|"
    image_root: str = "."

    @field_validator("timezone")
    @classmethod
    def _is_a_zone(cls, name: str | None) -> str | None:
        if name is not None:
            try:
                ZoneInfo(name)
            except (KeyError, ValueError, OSError):
                raise ValueError(f"{name!r} is not a time zone; write one like Europe/Berlin or UTC") from None
        return name

    @field_validator("image_root")
    @classmethod
    def _is_relative_or_a_url(cls, root: str) -> str:
        if "://" in root:
            return normal_root(root)
        if posixpath.isabs(root):
            message = "must be relative to the items file, like . or ../pictures, or a URL like file:///srv/pictures"
            raise ValueError(message)
        return root

    @field_validator("category_separator")
    @classmethod
    def _is_not_empty(cls, separator: str) -> str:
        if not separator:
            raise ValueError("must not be empty")
        return separator


@dataclass(frozen=True, slots=True)
class CatalogItem:
    """One item. Absent texts, files, price and times are None.

    Attributes:
        categories: each once, in the order given.
        image, audio: path relative to the items file (or to `image_root` where that is a URL), an http(s) URL, or a URL
            below `image_root`.
        price: in the catalogue's own currency, >= 0.
        available_from, available_until: UTC; shown from the first on, and before the second.
        hidden: never shown, but still learned from.
        attributes: anything else, as a JSON object.
    """

    item_id: str
    title: str | None = None
    description: str | None = None
    categories: tuple[str, ...] = ()
    image: str | None = None
    audio: str | None = None
    price: float | None = None
    available_from: datetime | None = None
    available_until: datetime | None = None
    hidden: bool = False
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values, times as RFC 3339."""
        return dict(msgspec.to_builtins(self))


ITEM_FIELDS = tuple(each.name for each in fields(CatalogItem))


@dataclass(frozen=True, slots=True)
class ItemRules:
    """What differs between a file and a request.

    Attributes:
        file_root: None refuses image and audio (over HTTP a file is bytes in the request); otherwise the folder,
            relative to the items file, that paths may lie in, or the URL that they must lie below.
    """

    file_root: str | None = None
    times: TimeRules = STRICT


OVER_HTTP = ItemRules()


def validate_item(fields: Mapping[str, Any], rules: ItemRules = OVER_HTTP) -> CatalogItem:
    """Check the fields of one item, as JSON, Arrow or CSV readers give them.

    Raises:
        RowRefused: an `InvalidRequest` that names the first field at fault, and why.
    """
    for name in fields:
        if name not in ITEM_FIELDS:
            raise RowRefused("unknown_field", name, f"{name} is not a field of an item: put it into attributes")
    get = fields.get
    starts_ms, ends_ms = (parse_time_ms(get(name), name, rules.times) for name in ("available_from", "available_until"))
    if starts_ms is not None and ends_ms is not None and ends_ms < starts_ms:
        message = "available_until lies before available_from: swap them or leave one out"
        raise RowRefused("ends_before_it_starts", "available_until", message)
    return CatalogItem(
        item_id=parse_id(get("item_id"), "item_id"),
        title=parse_text(get("title"), "title", MAX_TITLE_CHARACTERS),
        description=parse_text(get("description"), "description", MAX_DESCRIPTION_CHARACTERS),
        categories=_categories(get("categories")),
        image=_file_reference(get("image"), "image", rules),
        audio=_file_reference(get("audio"), "audio", rules),
        price=_price(get("price")),
        available_from=_moment(starts_ms, "available_from"),
        available_until=_moment(ends_ms, "available_until"),
        hidden=_flag(get("hidden"), "hidden"),
        attributes=parse_object(get("attributes"), "attributes"),
    )


def _categories(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        message = f"categories must be a list of names, not {kind_of(value)}"
        raise RowRefused(type_reason(value), "categories", message, value=value)
    if len(value) > MAX_CATEGORIES:
        raise RowRefused("too_long", "categories", f"{len(value)} categories; at most {MAX_CATEGORIES} are allowed")
    names: dict[str, None] = {}
    for each in value:
        name = parse_text(str(each) if type(each) is int else each, "categories", MAX_CATEGORY_CHARACTERS)
        if name is not None:
            names[name] = None
    return tuple(names)


def _file_reference(value: Any, column: str, rules: ItemRules) -> str | None:
    reference = parse_text(value, column, MAX_REFERENCE_CHARACTERS)
    if reference is None:
        return None
    if rules.file_root is None:
        message = f"{column} as a path or URL is not taken here: send the file's bytes in the request"
        raise RowRefused("bad_reference", column, message, value=reference)
    if is_web(reference):
        return reference
    scheme = _SCHEME.match(reference)
    if not scheme and "\\" in reference:
        raise RowRefused("bad_reference", column, f"{column}: write paths with /, not \\", value=reference)
    if url_scheme(rules.file_root):
        return _below_url(reference, column, rules.file_root)
    if scheme:
        message = f"{column} must be a relative path or an http(s) URL, not {scheme.group()}"
        if url_scheme(reference):
            message += ": set image_root under [data] to the URL that all of them lie below"
        raise RowRefused("bad_reference", column, message, value=reference)
    if not _lies_within(reference, rules.file_root):
        message = f"{column} lies outside the items file's folder: move it there, or set image_root under [data]"
        raise RowRefused("outside_folder", column, message, value=reference)
    return posixpath.normpath(reference)


def _below_url(reference: str, column: str, root: str) -> str:
    scheme = _SCHEME.match(reference)
    if scheme and url_scheme(reference) != url_scheme(root):
        message = f"{column} must be a path relative to {root}, a URL below it, or an http(s) URL, not {scheme.group()}"
        raise RowRefused("bad_reference", column, message, value=reference)
    if url_below(reference, root) is None:
        message = f"{column} lies outside {root}: move it there, or set image_root under [data] to what holds them all"
        raise RowRefused("outside_folder", column, message, value=reference)
    return reference if scheme else posixpath.normpath(reference)


def _lies_within(path: str, root: str) -> bool:
    """Whether `path` stays in the items file's folder or in `root` (relative to it), judged by their text alone."""
    if posixpath.isabs(path):
        return False
    parts, root_parts = posixpath.normpath(path).split("/"), posixpath.normpath(root).split("/")
    if parts[0] != "..":
        return True
    if root_parts[-1] == "..":
        return parts.count("..") <= len(root_parts)
    return parts[: len(root_parts)] == root_parts


def _price(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise RowRefused(type_reason(value), "price", f"price must be a number, not {kind_of(value)}", value=value)
    try:
        price = float(value)
    except OverflowError:
        price = math.inf
    if not math.isfinite(price):
        raise RowRefused("not_finite", "price", "price must be finite", value=value)
    if price < 0:
        raise RowRefused("out_of_range", "price", "price must not be negative", value=value)
    return price


def _flag(value: Any, column: str) -> bool:
    if value is None:
        return False
    if not isinstance(value, bool):
        message = f"{column} must be true or false, not {kind_of(value)}"
        raise RowRefused(type_reason(value), column, message, value=value)
    return value


def _moment(milliseconds: int | None, column: str) -> datetime | None:
    if milliseconds is None:
        return None
    try:
        return datetime.fromtimestamp(milliseconds // 1000, UTC).replace(microsecond=milliseconds % 1000 * 1000)
    except (ValueError, OverflowError, OSError):
        raise RowRefused("impossible_time", column, f"{column} is outside the years 1 to 9999") from None


def category_matrix(items: pa.Table, max_names: int = MAX_CATEGORY_NAMES) -> tuple[tuple[str, ...], NDArray[np.bool_]]:
    """What a catalogue's items are: the `max_names` most frequent categories and as many tags, sorted by name (ties go
    to the earlier name), and bool [N, C]."""
    kept: set[str] = set()
    for names, _ in _listed_names(items):
        counts = pc.value_counts(names).to_pylist()
        counted = sorted((-each["counts"], each["values"]) for each in counts if each["values"])
        kept.update(name for _, name in counted[:max_names])
    ordered = tuple(sorted(kept))
    return ordered, category_columns(items, ordered)


def category_columns(items: pa.Table, names: Sequence[str]) -> NDArray[np.bool_]:
    """bool [N, C], which of these categories and tags (`category_names_of`) each item has."""
    matrix = np.zeros((len(items), len(names)), dtype=np.bool_)
    for found, parents in _listed_names(items):
        columns = pc.index_in(found, value_set=pa.array(names, pa.string()))
        known = np.asarray(pc.is_valid(columns))
        matrix[np.asarray(parents)[known], np.asarray(columns.drop_null())] = True
    return matrix


def category_names_of(categories: Iterable[str] | None, tags: Iterable[str] | None) -> set[str]:
    """The names of one item's columns: its categories, and `tag:ID` of its tags."""
    return {*(categories or ()), *(f"{TAG_PREFIX}{tag}" for tag in tags or ())}


def _listed_names(items: pa.Table) -> Iterator[tuple[pa.Array, pa.Array]]:
    """Of the categories, then of the tags where the catalogue was tagged: names and the row that each is of."""
    for column, prefix in (("categories", ""), ("tags", TAG_PREFIX)):
        if column in items.column_names:
            lists = items[column].combine_chunks()
            names = pc.cast(pc.list_flatten(lists), pa.string())
            yield pc.binary_join_element_wise(prefix, names, "") if prefix else names, pc.list_parent_indices(lists)


def items_table(items: list[CatalogItem], lines: list[int]) -> pa.Table:
    """`ITEMS_SCHEMA`, one row an item, in the order given; `lines` are their places in the file."""
    getters: dict[str, Callable[[CatalogItem], Any]] = {"attributes": lambda item: encode_object(item.attributes)}
    columns = {
        name: [getters[name](item) if name in getters else getattr(item, name) for item in items]
        for name in ITEM_FIELDS
    }
    return pa.table({**columns, "line": lines}, schema=ITEMS_SCHEMA)
