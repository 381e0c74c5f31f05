"""Covers: real pictures, from any text, the same on each run, and none lost to a kill."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from jobs.covers import COVER_SIZE, CoverItem, cover_file_name, draw_cover, draw_covers, read_cover_items
from jobs.covers.layouts import LAYOUTS, Layout, decide_look
from jobs.covers.palettes import GENRES_BY_WEIGHT
from jobs.covers.pen import Pen
from jobs.covers.typography import fit, print_block, printable, title_words

FACES = ("sans-bold", "serif-italic", "book-italic", "mono-bold", "plain")
HOSTILE_TITLES = (
    "",
    "   ",
    "😀🎬",
    "霸王别姬",
    "A" * 500,
    "word " * 300,
    "e\u0301\u0302\u0303\u0304" * 60,
    "\ud800 lone surrogate",
    "line\nbreak\ttab\x00nul",
    "\u202eright to left\u200b",
    "العربية",
    "((()))",
    "):",
    " , The",
    "\uffff\U0010ffff",
)
texts = st.text(max_size=80) | st.sampled_from(HOSTILE_TITLES)


def _items(count: int) -> list[CoverItem]:
    return [
        CoverItem(str(number), f"Movie {number}", 1930 + number % 80, (GENRES_BY_WEIGHT[number % 19],))
        for number in range(count)
    ]


def _pixels(cover: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(cover)).convert("RGB")).astype(float)


@pytest.mark.parametrize("genre", [*GENRES_BY_WEIGHT, "", "Unheard Of"])
def test_every_genre_gives_a_picture_of_the_stated_size_with_something_on_it(genre: str) -> None:
    for number in range(8):
        picture = Image.open(io.BytesIO(draw_cover(f"{genre}-{number}", "Some Title", 1999, (genre,))))
        assert picture.size == COVER_SIZE == (192, 288)
        assert picture.mode == "RGB"
        assert np.asarray(picture).std() > 10


@settings(max_examples=60, deadline=None)
@given(item_id=texts, title=texts, year=st.none() | st.integers(), genres=st.lists(texts, max_size=4))
def test_no_text_makes_drawing_fail(item_id: str, title: str, year: int | None, genres: list[str]) -> None:
    assert draw_cover(item_id, title, year, genres)[:2] == b"\xff\xd8"


@pytest.mark.parametrize("title", HOSTILE_TITLES)
def test_hostile_titles_are_drawn(title: str) -> None:
    assert draw_cover(title, title, None, ()) == draw_cover(title, title, None, ())


@settings(max_examples=80, deadline=None)
@given(text=texts, face=st.sampled_from(FACES), width=st.integers(60, 170), height=st.integers(12, 140))
def test_printed_words_stay_in_their_box(text: str, face: str, width: int, height: int) -> None:
    block = fit(printable(text, face), face, width, height, largest=40)
    picture = Image.new("RGB", (width + 80, height + 80))
    print_block(ImageDraw.Draw(picture), block, 40, 40, width, (255, 255, 255), "left")
    box = picture.getbbox()
    assert box is None or (box[0] >= 40 and box[1] >= 40 and box[2] <= 40 + width and box[3] <= 40 + height)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__.strip("_"))
@pytest.mark.parametrize("title", ["M", "Eternal Sunshine of the Spotless Mind", "Long: " + "title " * 60, "X" * 200])
def test_each_layout_keeps_its_words_in_the_picture_and_apart(layout: Layout, title: str) -> None:
    for seed in range(6):
        rng = random.Random(seed)
        look = decide_look(title, 1950 + 10 * seed, ("Drama", "Film-Noir"), rng)
        words = [part for part in layout(Pen(*COVER_SIZE, (0, 0, 0)), look) if part.block.lines]
        assert any(part.block.face == look.heading_face for part in words)
        spans = sorted((part.top, part.top + part.block.height_px) for part in words)
        assert spans[0][0] >= 4
        assert spans[-1][1] <= COVER_SIZE[1] - 4
        assert all(upper[1] <= lower[0] for upper, lower in pairwise(spans))
        assert all(part.left >= 0 and part.left + part.block.width_px <= COVER_SIZE[0] for part in words)


def test_there_are_at_least_five_layouts_and_one_movie_under_other_ids_looks_otherwise() -> None:
    assert len(LAYOUTS) >= 5
    assert len({draw_cover(str(number), "One Title", 2000, ("Comedy",)) for number in range(40)}) > len(LAYOUTS)


def test_a_genre_can_be_told_by_its_colours() -> None:
    def colourfulness(genre: str) -> float:
        covers = [_pixels(draw_cover(str(number), "Title", 2000, (genre,))) for number in range(30)]
        return float(np.mean([np.ptp(cover, axis=2).mean() for cover in covers]))

    assert 2 * colourfulness("Film-Noir") < colourfulness("Children")


def test_another_process_with_another_hash_seed_draws_the_same_bytes() -> None:
    code = (
        "import hashlib, jobs.covers as c;"
        "print(hashlib.sha256(b''.join(c.draw_cover(str(n), 'A Title', 1990, ('Horror', 'Comedy'))"
        " for n in range(20))).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_titles_are_printed_as_people_say_them() -> None:
    assert title_words("Matrix, The").heading == "The Matrix"
    assert title_words("Amelie (Fabuleux destin d'Amélie Poulain, Le)").line == "Le Fabuleux destin d'Amélie Poulain"
    assert title_words("Seven (a.k.a. Se7en)").heading == "Seven"
    assert title_words("(500) Days of Summer").heading == "(500) Days of Summer"
    assert title_words("Star Trek: First Contact").line == "First Contact"


def test_what_a_face_cannot_print_is_left_out_or_made_plain() -> None:
    assert printable("caf\u0065\u0301 \x00\ud800霸", "sans") == "café"
    assert printable("a\n  b", "sans") == "a b"
    assert printable("8½", "plain") in ("8½", "8 1/2")


def test_covers_that_are_there_are_kept_and_missing_or_empty_ones_drawn(tmp_path: Path) -> None:
    items = _items(12)
    assert draw_covers(items, tmp_path, workers=1).drawn == 12
    (tmp_path / "3.jpg").unlink()
    (tmp_path / "4.jpg").write_bytes(b"")
    (tmp_path / "5.jpg").write_bytes(b"mine")
    told: list[tuple[int, int]] = []
    report = draw_covers(items, tmp_path, workers=1, on_progress=lambda done, total: told.append((done, total)))
    assert (report.drawn, report.kept) == (2, 10)
    assert told == [(10, 12), (12, 12)]
    assert (tmp_path / "4.jpg").read_bytes() == draw_cover("4", "Movie 4", 1934, (GENRES_BY_WEIGHT[4],))
    assert (tmp_path / "5.jpg").read_bytes() == b"mine"


def test_two_workers_draw_what_one_draws(tmp_path: Path) -> None:
    items = _items(130)
    assert draw_covers(items, tmp_path / "one", workers=1) == draw_covers(items, tmp_path / "two", workers=2)
    assert _bytes_in(tmp_path / "one") == _bytes_in(tmp_path / "two")


def test_a_killed_run_is_continued_to_the_same_files_and_leaves_no_worker_behind(tmp_path: Path) -> None:
    items_path, killed, whole = tmp_path / "items.jsonl", tmp_path / "killed", tmp_path / "whole"
    rows = [{"item_id": i.item_id, "title": i.title, "categories": i.genres} for i in _items(1500)]
    items_path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    script = tmp_path / "draw.py"
    script.write_text(
        "from pathlib import Path\nfrom jobs.covers import draw_covers, read_cover_items\n"
        f"if __name__ == '__main__':\n"
        f"    draw_covers(read_cover_items(Path({str(items_path)!r})), Path({str(killed)!r}))\n"
    )
    root = Path(__file__).parents[2]
    run = subprocess.Popen([sys.executable, str(script)], env={**os.environ, "PYTHONPATH": str(root)}, cwd=tmp_path)
    while len(list(killed.glob("*.jpg"))) < 100:
        assert run.poll() is None
        time.sleep(0.02)
    workers = [int(pid) for pid in Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()]
    run.send_signal(signal.SIGKILL)
    run.wait()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}/cmdline").exists() and _alive(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert 100 <= len(list(killed.glob("*.jpg"))) < 1500

    items = list(read_cover_items(items_path))[:400]
    draw_covers(items, killed, workers=1)
    draw_covers(items, whole, workers=1)
    finished = _bytes_in(killed)
    assert {name: finished[name] for name in _bytes_in(whole)} == _bytes_in(whole)


@pytest.mark.parametrize(
    "item_id", ["../up", "a/b", ".", "..", "", "ü", "x" * 256, "霸" * 256, "\ud800", "a.jpg", "nul\0"]
)
def test_any_id_has_a_file_of_its_own_inside_the_folder(item_id: str, tmp_path: Path) -> None:
    draw_covers([CoverItem(item_id, "Title", None, ())], tmp_path / "covers", workers=1)
    assert [path.name for path in (tmp_path / "covers").iterdir()] == [cover_file_name(item_id)]
    assert [path.name for path in tmp_path.iterdir()] == ["covers"]


@given(st.text(max_size=30), st.text(max_size=30))
def test_two_ids_never_share_a_file(one: str, other: str) -> None:
    assert (cover_file_name(one) == cover_file_name(other)) == (one == other)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def _bytes_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.jpg")}
