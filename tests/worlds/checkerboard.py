"""The checkerboard: a small world whose right answers are known.

Items stand in a circle, `item-0000`, `item-0001`, ... (an even number of them). A user is even or odd, and so is an
item; a user meets items of its own parity only, one after the other around the circle:

    item i  ->  item i + 2 (mod n_items)

so after any history the next item is known (`next_items`). A user starts anywhere on the circle and meets at least
`MIN_LENGTH` and at most `MAX_LENGTH` items; nobody meets an item twice while that is at most half the circle.

Content tells the parity too, and nothing else: even items have red pictures and words of fire, odd items have blue
pictures and words of water. So a model of behaviour can be perfect, a model of content can halve the catalogue, and
popularity can do nothing, because all items are equally likely.

With profiles, every user but the last quarter told what they like in the words of their own parity, and there are two
users more who did nothing but tell: `NEWCOMERS`, one for each parity.

    world = checkerboard(n_users=300, n_items=200, seed=0)       # in memory
    write_world(tmp_path)                                        # the same world as input files
    world.next_items(["item-0003", "item-0005"], k=2)            # ["item-0007", "item-0009"]
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recsys.dataset import ItemContent, Modality, Sequences

MIN_LENGTH, MAX_LENGTH = 5, 20
PICTURE_SIZE = (48, 48)
CATEGORIES = ("Fire", "Water")
NEWCOMERS = ("newcomer-fire", "newcomer-water")
_WORDS = (("ember", "flame", "furnace", "scarlet"), ("river", "ocean", "rain", "azure"))
_COLOURS = ((200, 40, 30), (30, 60, 200))
_FIRST_TIME = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class WorldItem:
    """One item; `picture` is PNG bytes."""

    item_id: str
    title: str
    categories: tuple[str, ...]
    picture: bytes


@dataclass(frozen=True)
class World:
    """Items in the order of their rows (which is also the order of their ids), and the users' interactions."""

    items: tuple[WorldItem, ...]
    sequences: Sequences
    content: ItemContent

    @property
    def item_ids(self) -> tuple[str, ...]:
        return tuple(item.item_id for item in self.items)

    def next_items(self, history: Sequence[str], k: int = 1) -> list[str]:
        """The items that come next, in order; of an empty history none is known."""
        return next_items(history, n_items=len(self.items), k=k)


def item_id(row: int) -> str:
    """The id of an item row; ids sort as rows do."""
    return f"item-{row:04d}"


def user_id(row: int) -> str:
    """The id of a user row; ids sort as rows do."""
    return f"user-{row:04d}"


def next_items(history: Sequence[str], n_items: int = 200, k: int = 1) -> list[str]:
    """The right answer: the next `k` items after the last of `history`."""
    if not history:
        return []
    last = int(history[-1].removeprefix("item-"))
    return [item_id((last + 2 * step) % n_items) for step in range(1, k + 1)]


def checkerboard(n_users: int = 300, n_items: int = 200, seed: int = 0, *, dimension: int = 16) -> World:
    """The world in memory; the same arguments give the same world.

    User u has the parity of u. `content` holds what a perfect encoder would see: float32 [n_items, dimension]
    unit vectors for "image" and for "text", near one of two orthogonal directions by parity.
    """
    if n_items % 2 or n_items < 4:
        raise ValueError(f"n_items must be even and at least 4, so that each parity closes its circle, not {n_items}")
    rng = np.random.default_rng(seed)
    lengths = rng.integers(MIN_LENGTH, MAX_LENGTH + 1, n_users)
    starts = 2 * rng.integers(0, n_items // 2, n_users) + np.arange(n_users) % 2
    rows = [(start + 2 * np.arange(length)) % n_items for start, length in zip(starts, lengths, strict=True)]
    # Users begin one minute apart and meet an item each hour, so a cut in time goes through most histories.
    minutes = [user + 60 * np.arange(length) for user, length in enumerate(lengths)]
    n_events = int(lengths.sum())
    sequences = Sequences(
        user_ids=tuple(user_id(user) for user in range(n_users)),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        item_rows=np.concatenate([np.empty(0, np.int64), *rows]).astype(np.int64),
        event_types=np.ones(n_events, np.int64),
        occurred_at_ms=_first_ms() + 60_000 * np.concatenate([np.empty(0, np.int64), *minutes]).astype(np.int64),
    )
    items = tuple(_item(row, rng) for row in range(n_items))
    return World(items, sequences, _content(n_items, dimension, rng))


def write_world(
    directory: Path, n_items: int = 200, n_users: int = 300, seed: int = 0, *, profiles: bool = False
) -> World:
    """Write `items.jsonl`, `images/` and `interactions.jsonl` as a user would bring them; returns the same world.

    With `profiles` also `users.jsonl`.
    """
    world = checkerboard(n_users, n_items, seed)
    (directory / "images").mkdir(parents=True, exist_ok=True)
    with (directory / "items.jsonl").open("w", encoding="utf-8") as items_file:
        for item in world.items:
            image = f"images/{item.item_id}.png"
            (directory / image).write_bytes(item.picture)
            row = {"item_id": item.item_id, "title": item.title, "categories": item.categories, "image": image}
            items_file.write(json.dumps(row) + "\n")
    sequences = world.sequences
    with (directory / "interactions.jsonl").open("w", encoding="utf-8") as interactions_file:
        for user, item, at_ms in zip(
            sequences.user_rows, sequences.item_rows, sequences.occurred_at_ms.tolist(), strict=True
        ):
            occurred_at = (_FIRST_TIME + timedelta(milliseconds=at_ms - _first_ms())).isoformat()
            row = {"user_id": user_id(user), "item_id": item_id(item), "occurred_at": occurred_at}
            interactions_file.write(json.dumps(row) + "\n")
    if profiles:
        rows = [*(_profile(user_id(user), user % 2) for user in range(n_users * 3 // 4))]
        rows += [_profile(name, parity) for parity, name in enumerate(NEWCOMERS)]
        (directory / "users.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return world


def _profile(name: str, parity: int) -> dict[str, object]:
    return {"user_id": name, "attributes": {"likes": CATEGORIES[parity]}, "text": " ".join(_WORDS[parity])}


def _first_ms() -> int:
    return int(_FIRST_TIME.timestamp()) * 1000


def _item(row: int, rng: np.random.Generator) -> WorldItem:
    parity = row % 2
    words = rng.permutation(_WORDS[parity])[:3]
    return WorldItem(item_id(row), " ".join([*words.tolist(), str(row)]), (CATEGORIES[parity],), _picture(parity, rng))


def _picture(parity: int, rng: np.random.Generator) -> bytes:
    noise = rng.integers(-30, 31, (PICTURE_SIZE[1], PICTURE_SIZE[0], 3))
    pixels = np.clip(np.array(_COLOURS[parity]) + noise, 0, 255).astype(np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def _content(n_items: int, dimension: int, rng: np.random.Generator) -> ItemContent:
    parities = np.arange(n_items) % 2
    everywhere = np.ones(n_items, np.bool_)
    modalities = tuple(
        Modality(name, f"checkerboard/{name}", _vectors(parities, dimension, rng), everywhere)
        for name in ("image", "text")
    )
    return ItemContent(n_items, modalities, CATEGORIES, np.eye(2, dtype=np.bool_)[parities])


def _vectors(parities: NDArray[np.int64], dimension: int, rng: np.random.Generator) -> NDArray[np.float32]:
    vectors = np.eye(2, dimension)[parities] + rng.normal(0, 0.3 / np.sqrt(dimension), (len(parities), dimension))
    lengths: NDArray[np.float64] = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / lengths, dtype=np.float32)
