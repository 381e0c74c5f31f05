"""Faces, the words of a title, and words fitted into a box without leaving it."""

from __future__ import annotations

import importlib.util
import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

LONGEST_TITLE = 160
_REFERENCE_SIZE = 48
_FACES = {
    "sans-bold": "DejaVuSans-Bold.ttf",
    "sans": "DejaVuSans.ttf",
    "serif-bold": "DejaVuSerif-Bold.ttf",
    "serif": "DejaVuSerif.ttf",
    "serif-italic": "DejaVuSerif-Italic.ttf",
    "mono-bold": "DejaVuSansMono-Bold.ttf",
    "book-bold": "STIXGeneralBol.ttf",
    "book": "STIXGeneral.ttf",
    "book-italic": "STIXGeneralBolIta.ttf",
}
_ARTICLES = "The|An|A|Les|Le|La|L'|Las|Los|El|Lo|Il|I|Gli|Der|Die|Das|Den|Det|De|Ein|Eine|Une|Un|Una|O|Os"
_ENDS_IN_ARTICLE = re.compile(rf"^(.+), ({_ARTICLES})$", re.IGNORECASE)
_HAS_NOTE = re.compile(r"^(.+?)\s+\((?!a\.k\.a\.)([^()]+)\)")
_ANY_NOTE = re.compile(r"\s+\([^()]*\)")


@lru_cache(maxsize=512)
def font(face: str, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A face at a size in pixels.

    "plain" is the one that Pillow brings; it also stands in for the others where matplotlib, whose package
    holds them, is not installed.
    """
    path = _font_folder() / _FACES[face] if face in _FACES and _font_folder() else None
    if path is None or not path.is_file():
        return ImageFont.load_default(size=size)
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=1)
def _font_folder() -> Path:
    found = importlib.util.find_spec("matplotlib")
    return Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" if found and found.origin else Path()


def printable(text: str, face: str) -> str:
    """What of `text` the face can print, on one line; a letter without a glyph falls back to its plain form.

    Controls, lone surrogates, stacked accents and scripts that the face lacks are left out, and so are scripts
    written from the right, whose order Pillow's basic layout would turn round; the result may be empty.
    """
    composed = unicodedata.normalize("NFC", text[: 4 * LONGEST_TITLE])
    kept = [
        "" if _from_the_right(c) else " " if c.isspace() else c if _has_glyph(face, c) else _plain(c) for c in composed
    ]
    line = " ".join("".join(kept).split())
    return line if len(line) <= LONGEST_TITLE else f"{line[:LONGEST_TITLE].rstrip()}..."


def face_for(text: str, wish: str, substitute: str) -> str:
    """`wish` where it has every letter of `text`, else `substitute`."""
    return wish if all(c.isspace() or _has_glyph(wish, c) for c in unicodedata.normalize("NFC", text)) else substitute


def _plain(char: str) -> str:
    """The ASCII form of a letter: "e" for "é", " 1/2" for "½", nothing for what has none."""
    parts = unicodedata.normalize("NFKD", char).replace("\u2044", "/")
    ascii_parts = "".join(part for part in parts if part.isascii() and part.isprintable())
    return f" {ascii_parts}" if "/" in ascii_parts else ascii_parts


def _from_the_right(char: str) -> bool:
    return unicodedata.bidirectional(char) in ("R", "AL")


@lru_cache(maxsize=8192)
def _has_glyph(face: str, char: str) -> bool:
    if char.isascii():
        return char.isprintable()
    if unicodedata.category(char)[0] in "CM":
        return False
    drawn = _stamp(face, char)
    return drawn != _stamp(face, "\uffff") and any(drawn)


@lru_cache(maxsize=64)
def _stamp(face: str, char: str) -> bytes:
    picture = Image.new("L", (40, 40), 0)
    ImageDraw.Draw(picture).text((8, 4), char, fill=255, font=font(face, 20))
    return picture.tobytes()


@dataclass(frozen=True)
class TitleWords:
    """A title as a cover prints it: a heading, and below it a smaller line (may be empty)."""

    heading: str
    line: str


def title_words(title: str) -> TitleWords:
    """ "Amelie (Fabuleux destin, Le)" has the heading "Amelie" and the line "Le Fabuleux destin".

    Articles return to the front, "a.k.a." notes go, and what follows a colon becomes the line.
    """
    title = " ".join(title[: 4 * LONGEST_TITLE].split())
    noted = _HAS_NOTE.match(title)
    heading = _ANY_NOTE.sub("", title).strip() or title
    line = noted.group(2).strip() if noted else ""
    heading = _article_first(heading)
    before, colon, after = heading.partition(": ")
    if colon and len(before) >= 3 and len(after) >= 3:
        heading, line = before, after
    return TitleWords(heading, _article_first(line))


def _article_first(text: str) -> str:
    found = _ENDS_IN_ARTICLE.match(text)
    if not found:
        return text
    article = found.group(2)
    return f"{article}{'' if article.endswith(chr(39)) else ' '}{found.group(1)}"


@dataclass(frozen=True)
class Block:
    """Lines of one size; `line_step_px` from baseline to baseline, `ascent_px` above the first baseline."""

    lines: tuple[str, ...]
    face: str
    size: int
    line_step_px: int
    ascent_px: int
    height_px: int
    width_px: int


NOTHING = Block((), "plain", 1, 0, 0, 0, 0)


def fit(text: str, face: str, width: int, height: int, *, largest: int, smallest: int = 9) -> Block:
    """`text` at the largest size at which it fits into `width` x `height` pixels whole.

    Words are broken only at the smallest size, and what does not fit there ends in an ellipsis.
    """
    words = text.split()
    if not words:
        return NOTHING
    size = largest
    while size > smallest:
        # Estimated first: measuring is what costs, and a face grows nearly, not quite, in proportion to its size.
        lines = _wrap(words, width, partial(_estimated_width, face, size))
        if lines and round(size * 1.14) * (len(lines) - 1) < height:
            block = _block(lines, face, size)
            if block.height_px <= height and block.width_px <= width:
                return block
        size -= max(1, size // 10)
    return _cut(words, face, smallest, width, height)


def _wrap(words: Sequence[str], width: int, measure: Callable[[str], float]) -> list[str]:
    """Greedy lines, none wider than `width`; empty when one word alone is wider."""
    lines: list[str] = []
    for word in words:
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and measure(joined) <= width:
            lines[-1] = joined
        elif measure(word) <= width:
            lines.append(word)
        else:
            return []
    return lines


def _cut(words: Sequence[str], face: str, size: int, width: int, height: int) -> Block:
    pieces = [piece for word in words for piece in _pieces(word, face, size, width)]
    lines = _wrap(pieces, width, partial(_width, face, size))
    while lines and _block(lines, face, size).height_px > height:
        lines.pop()
        if lines:
            lines[-1] = _with_ellipsis(lines[-1], face, size, width)
    return _block(lines, face, size) if lines else NOTHING


def _pieces(word: str, face: str, size: int, width: int) -> list[str]:
    pieces = [""]
    for char in word:
        if pieces[-1] and _width(face, size, pieces[-1] + char) > width:
            pieces.append("")
        pieces[-1] += char
    return pieces


def _with_ellipsis(line: str, face: str, size: int, width: int) -> str:
    while line and _width(face, size, f"{line}...") > width:
        line = line[:-1]
    return f"{line.rstrip()}..."


def _estimated_width(face: str, size: int, line: str) -> float:
    return _length_at_reference(line, face) * size / _REFERENCE_SIZE


@lru_cache(maxsize=1024)
def _length_at_reference(line: str, face: str) -> float:
    return font(face, _REFERENCE_SIZE).getlength(line)


@lru_cache(maxsize=1024)
def _ink(line: str, face: str, size: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the ink, from the start of the baseline."""
    left, top, right, bottom = font(face, size).getbbox(line, anchor="ls")
    return math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)


def _width(face: str, size: int, line: str) -> int:
    left, _, right, _ = _ink(line, face, size)
    return right - min(0, left)


def _block(lines: Sequence[str], face: str, size: int) -> Block:
    step = round(size * 1.14)
    inks = [_ink(line, face, size) for line in lines]
    ascent = max(-top - row * step for row, (_, top, _, _) in enumerate(inks))
    bottom = max(below + row * step for row, (_, _, _, below) in enumerate(inks))
    return Block(
        lines=tuple(lines),
        face=face,
        size=size,
        line_step_px=step,
        ascent_px=ascent,
        height_px=ascent + bottom,
        width_px=max(_width(face, size, line) for line in lines),
    )


def print_block(
    draw: ImageDraw.ImageDraw, block: Block, left: int, top: int, width: int, colour: tuple[int, int, int], align: str
) -> None:
    """Print a block whose ink begins at `top`, aligned "left", "center" or "right" within `width` pixels."""
    for row, line in enumerate(block.lines):
        spare = width - _width(block.face, block.size, line)
        x = left + {"left": 0, "center": spare // 2, "right": spare}[align]
        x -= min(0, _ink(line, block.face, block.size)[0])
        baseline = top + block.ascent_px + row * block.line_step_px
        draw.text((x, baseline), line, fill=colour, font=font(block.face, block.size), anchor="ls")
