"""The checkerboard is what it claims to be."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recsys.dataset import leave_last_out
from tests.worlds.checkerboard import MAX_LENGTH, MIN_LENGTH, NEWCOMERS, checkerboard, next_items, write_world


def test_the_next_item_is_two_places_on_around_the_circle() -> None:
    world = checkerboard(n_users=2, n_items=10)
    assert next_items(["item-0003", "item-0005"], n_items=10) == ["item-0007"]
    assert world.next_items(["item-0007"], k=3) == ["item-0009", "item-0001", "item-0003"]
    assert world.next_items([]) == []


def test_the_held_out_item_of_every_user_is_the_known_answer() -> None:
    world = checkerboard(n_users=300, n_items=200, seed=0)
    split = leave_last_out(world.sequences, part="test")
    assert len(split.target_users) == 300
    for user, target in zip(split.target_users.tolist(), split.target_items.tolist(), strict=True):
        history = [world.item_ids[row] for row in split.history.item_rows[split.history.of(user)]]
        assert world.next_items(history) == [world.item_ids[target]]


def test_users_stay_on_their_parity_and_meet_no_item_twice() -> None:
    sequences = checkerboard(n_users=60, n_items=40, seed=3).sequences
    assert (sequences.item_rows % 2 == sequences.user_rows % 2).all()
    assert sequences.lengths.min() >= MIN_LENGTH
    assert sequences.lengths.max() <= MAX_LENGTH
    for user in range(sequences.n_users):
        rows, times = sequences.item_rows[sequences.of(user)], sequences.occurred_at_ms[sequences.of(user)]
        assert len(set(rows.tolist())) == len(rows)
        assert (np.diff(times) > 0).all()


def test_popularity_knows_nothing() -> None:
    counts = checkerboard(n_users=4000, n_items=20, seed=1).sequences.item_counts(20)
    assert counts.max() / counts.min() < 1.2


def test_content_tells_the_parity_and_only_the_parity() -> None:
    world = checkerboard(n_users=4, n_items=40)
    words = [set(item.title.split()[:-1]) for item in world.items]
    assert {word for even in words[0::2] for word in even}.isdisjoint(word for odd in words[1::2] for word in odd)
    for row, item in enumerate(world.items):
        red, _, blue = np.asarray(Image.open(io.BytesIO(item.picture))).mean(axis=(0, 1))
        assert (red > blue) == (row % 2 == 0)
    for modality in world.content.modalities:
        np.testing.assert_allclose(np.linalg.norm(modality.vectors, axis=1), 1, atol=1e-6)
        similarity = modality.vectors @ modality.vectors.T
        same = np.equal.outer(np.arange(40) % 2, np.arange(40) % 2)
        assert similarity[same].min() > similarity[~same].max()
    assert world.content.categories.sum() == 40


def test_the_files_hold_the_world_that_is_returned(tmp_path: Path) -> None:
    world = write_world(tmp_path, n_items=20, n_users=7, seed=5)
    items = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    events = [json.loads(line) for line in (tmp_path / "interactions.jsonl").read_text().splitlines()]
    assert [item["item_id"] for item in items] == list(world.item_ids)
    assert [(tmp_path / item["image"]).read_bytes() for item in items] == [item.picture for item in world.items]
    assert [event["item_id"] for event in events] == [world.item_ids[row] for row in world.sequences.item_rows]
    assert [event["user_id"] for event in events] == [
        world.sequences.user_ids[row] for row in world.sequences.user_rows
    ]
    assert all(event["occurred_at"].endswith("+00:00") for event in events)


def test_users_tell_what_they_like_in_the_words_of_their_parity(tmp_path: Path) -> None:
    write_world(tmp_path, n_items=20, n_users=8, profiles=True)
    users = [json.loads(line) for line in (tmp_path / "users.jsonl").read_text().splitlines()]
    assert [user["user_id"] for user in users] == [*(f"user-{row:04d}" for row in range(6)), *NEWCOMERS]
    assert [user["attributes"]["likes"] for user in users] == ["Fire", "Water"] * 4
    fire, water = (set(user["text"].split()) for user in users[-2:])
    assert fire.isdisjoint(water)


def test_the_same_seed_gives_the_same_world_and_another_seed_another() -> None:
    same = checkerboard(20, 20, 1)
    assert np.array_equal(same.sequences.item_rows, checkerboard(20, 20, 1).sequences.item_rows)
    assert same.items == checkerboard(20, 20, 1).items
    assert not np.array_equal(same.sequences.item_rows, checkerboard(20, 20, 2).sequences.item_rows)


def test_an_odd_circle_is_refused() -> None:
    with pytest.raises(ValueError, match="even"):
        checkerboard(2, 7)
