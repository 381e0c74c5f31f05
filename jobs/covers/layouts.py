"""One cover: a picture for the leading genre, and the words, in one of eight arrangements.

A layout paints on the pen (twice the size, averaged down afterwards) and returns where words go; they are printed
last, at the final size, so that FreeType's own smoothing keeps them sharp.
"""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from jobs.covers import emblems, scenes
from jobs.covers.palettes import Palette, choose_palette, contrast, ink_on, leading_genre, mix
from jobs.covers.pen import SCALE, Colour, Pen, disc_mask
from jobs.covers.typography import Block, face_for, fit, print_block, printable, title_words

COVER_SIZE = (192, 288)
_WIDTH, _HEIGHT = COVER_SIZE
_MARGIN = 12
_GAP = 8
_CAPTION_GAP = 11
_JPEG_QUALITY = 84

Scene = Callable[[Pen, Palette, random.Random], None]

_SCENES: dict[str, tuple[Scene, ...]] = {
    "Western": (scenes.mesas,),
    "Film-Noir": (scenes.street_lamp, scenes.blinds),
    "Musical": (emblems.vinyl, emblems.piano),
    "War": (scenes.searchlights,),
    "Horror": (scenes.haunted_wood, scenes.fangs),
    "Animation": (emblems.blobs, emblems.paper_waves),
    "Documentary": (emblems.aperture, emblems.contours),
    "Sci-Fi": (scenes.planets, scenes.grid_horizon),
    "Mystery": (emblems.keyhole, emblems.spiral),
    "Fantasy": (scenes.castle, scenes.crystals),
    "Children": (scenes.balloons, scenes.rainbow),
    "Crime": (scenes.skyline,),
    "Romance": (emblems.hearts, emblems.petals),
    "Adventure": (scenes.ranges,),
    "Action": (emblems.burst, emblems.speed),
    "IMAX": (emblems.tunnel,),
    "Thriller": (emblems.shards, emblems.target, emblems.spiral),
    "Comedy": (emblems.smile, emblems.bubbles),
    "Drama": (scenes.lone_tree, scenes.sea, scenes.lit_window, emblems.tiles, emblems.facing),
    "": (emblems.tiles, emblems.facing),
}


@dataclass(frozen=True)
class Look:
    """What is decided about a cover before a layout draws it."""

    heading: str
    line: str
    caption: str
    palette: Palette
    scene: Scene
    heading_face: str
    line_face: str
    rng: random.Random


@dataclass(frozen=True)
class Words:
    """Fitted words whose ink begins at `top`, aligned within `width` pixels from `left` (of the finished picture)."""

    block: Block
    left: int
    top: int
    width: int
    colour: Colour
    align: str


def draw_cover(item_id: str, title: str, year: int | None, genres: Sequence[str]) -> bytes:
    """A JPEG of `COVER_SIZE` pixels; the same arguments give the same bytes.

    Any text is taken: what no face can print is left out, what is too long is cut, and a cover without a
    printable title shows its picture alone.
    """
    digest = hashlib.sha256(item_id.encode("utf-8", "surrogatepass")).digest()
    rng = random.Random(int.from_bytes(digest[:8], "big"))
    look = decide_look(title, year, genres, rng)
    pen = Pen(_WIDTH, _HEIGHT, look.palette.deep)
    words = LAYOUTS[rng.randrange(len(LAYOUTS))](pen, look)
    picture = pen.image.reduce(SCALE)
    draw = ImageDraw.Draw(picture)
    for part in words:
        print_block(draw, part.block, part.left, part.top, part.width, part.colour, part.align)
    return _encoded(picture)


def decide_look(title: str, year: int | None, genres: Sequence[str], rng: random.Random) -> Look:
    """Faces, colours, scene and printable words; the same `rng` state and arguments give the same look."""
    heading_face, line_face = rng.choice(_faces(year))
    words = title_words(title)
    heading_face, line_face = (
        face_for(words.heading, heading_face, "sans-bold"),
        face_for(words.line, line_face, "sans"),
    )
    heading, line = printable(words.heading, heading_face), printable(words.line, line_face)
    caption = " · ".join([str(year)[:12] if year is not None else "", *genres[:2]]).strip(" ·")
    return Look(
        heading=heading or line,
        line=line if heading else "",
        caption=printable(caption.upper(), "sans"),
        palette=choose_palette(genres, year, rng),
        scene=rng.choice(_SCENES[leading_genre(genres)]),
        heading_face=heading_face,
        line_face=line_face,
        rng=rng,
    )


def _faces(year: int | None) -> tuple[tuple[str, str], ...]:
    """Pairs of faces for heading and line: bookish for old movies, plain for new ones."""
    if year is not None and year < 1965:
        return ("book-bold", "book"), ("serif-bold", "serif-italic"), ("book-italic", "book")
    if year is not None and year < 1985:
        return ("serif-bold", "serif-italic"), ("sans-bold", "sans"), ("book-bold", "book"), ("mono-bold", "sans")
    return ("sans-bold", "sans"), ("plain", "plain"), ("sans-bold", "serif-italic"), ("book-bold", "book")


def _poster(pen: Pen, look: Look) -> list[Words]:
    """The scene everywhere; words at the foot on a darkened ground."""
    p = look.palette
    _scene(pen, look)
    words = _stack(look, 110, 274, p.light, _readable(p.accent, p.dark, p), stands="bottom")
    first_ink = min((part.top for part in words if part.block.lines), default=_HEIGHT)
    pen.scrim(p.dark, first_ink - 66, first_ink - 6, 205)
    pen.box(0, first_ink - 6, _WIDTH, _HEIGHT, p.dark, 205)
    return words


def _framed(pen: Pen, look: Look) -> list[Words]:
    """A panel on paper, words beneath in ink."""
    p = look.palette
    pen.box(0, 0, _WIDTH, _HEIGHT, p.light)
    panel = Pen(_WIDTH - 2 * _MARGIN, 168, p.deep)
    _scene(panel, look)
    pen.paste(panel, _MARGIN, _MARGIN)
    pen.box(_MARGIN, 188, _MARGIN + 34, 191, _readable(p.accent, p.light, p))
    return _stack(look, 198, 276, p.dark, _readable(p.deep, p.light, p))


def _swiss(pen: Pen, look: Look) -> list[Words]:
    """A flat ground, a large title at the top, the scene cut off by the lower edge."""
    p = look.palette
    ground = look.rng.choice((p.main, p.accent, p.light, p.deep))
    ink = ink_on(ground, p)
    pen.box(0, 0, _WIDTH, _HEIGHT, ground)
    panel = Pen(_WIDTH, 166, p.deep)
    _scene(panel, look)
    pen.paste(panel, 0, 122)
    pen.box(_MARGIN, 10, _WIDTH - _MARGIN, 12, ink)
    return _stack(look, 18, 118, ink, ink, caption_first=True)


def _band(pen: Pen, look: Look) -> list[Words]:
    """The scene above and below a band that holds the words."""
    p = look.palette
    ground = look.rng.choice((p.accent, p.light, p.dark))
    ink = ink_on(ground, p)
    _scene(pen, look)
    top = look.rng.choice((176, 192))
    pen.box(0, top, _WIDTH, top + 80, ground)
    pen.box(0, top + 3, _WIDTH, top + 4, ink)
    pen.box(0, top + 76, _WIDTH, top + 77, ink)
    return _stack(look, top + 8, top + 73, ink, ink, align="center", stands="middle")


def _diagonal(pen: Pen, look: Look) -> list[Words]:
    """The scene above a slope, words on the slope's ground."""
    p = look.palette
    ground = look.rng.choice((p.dark, p.light, p.accent))
    ink = ink_on(ground, p)
    _scene(pen, look)
    left, right = look.rng.choice(((152, 186), (186, 152)))
    edge = mix(ground, ink, 0.75)
    pen.polygon([(0, left - 5), (_WIDTH, right - 5), (_WIDTH, _HEIGHT), (0, _HEIGHT)], edge)
    pen.polygon([(0, left), (_WIDTH, right), (_WIDTH, _HEIGHT), (0, _HEIGHT)], ground)
    return _stack(look, 194, 277, ink, ink, align="left" if left < right else "right", stands="bottom")


def _medallion(pen: Pen, look: Look) -> list[Words]:
    """The scene in a disc, words centred below."""
    p = look.palette
    ground = look.rng.choice((p.light, p.dark, p.main))
    ink = ink_on(ground, p)
    pen.box(0, 0, _WIDTH, _HEIGHT, ground)
    disc = Pen(152, 152, p.deep)
    _scene(disc, look)
    pen.disc(_WIDTH / 2, 98, 82, ink)
    pen.disc(_WIDTH / 2, 98, 80.5, ground)
    pen.paste(disc, (_WIDTH - 152) / 2, 22, disc_mask(152))
    pen.frame(5, 5, _WIDTH - 5, _HEIGHT - 5, ink)
    return _stack(look, 192, 274, ink, ink, align="center", stands="middle")


def _spine(pen: Pen, look: Look) -> list[Words]:
    """A stripe of colour at the left, the scene beside it, words on a block at the foot."""
    p = look.palette
    _scene(pen, look)
    block = p.dark if look.rng.random() < 0.6 else p.light
    pen.box(0, 196, _WIDTH, _HEIGHT, block)
    pen.box(0, 0, 16, _HEIGHT, p.accent)
    pen.box(16, 196, _WIDTH, 198, p.accent)
    return _stack(look, 206, 278, ink_on(block, p), _readable(p.accent, block, p), left=26)


def _headline(pen: Pen, look: Look) -> list[Words]:
    """The title as the picture, the scene in a strip below it."""
    p = look.palette
    ground = look.rng.choice((p.dark, p.light, p.deep))
    pen.box(0, 0, _WIDTH, _HEIGHT, ground)
    strip = Pen(_WIDTH, 118, p.deep)
    _scene(strip, look)
    pen.paste(strip, 0, 170)
    pen.box(0, 167, _WIDTH, 170, p.accent)
    colour = p.accent if contrast(p.accent, ground) >= 4.5 else ink_on(ground, p)
    return _stack(look, 16, 158, colour, ink_on(ground, p), caption_first=True, stands="middle", largest=58)


Layout = Callable[[Pen, Look], list[Words]]

LAYOUTS: tuple[Layout, ...] = (
    _poster,
    _framed,
    _swiss,
    _band,
    _diagonal,
    _medallion,
    _spine,
    _headline,
)


def _scene(pen: Pen, look: Look) -> None:
    pen.gradient(look.palette.deep, look.palette.main)
    look.scene(pen, look.palette, look.rng)


def _readable(wish: Colour, ground: Colour, palette: Palette) -> Colour:
    return wish if contrast(wish, ground) >= 4.5 else ink_on(ground, palette)


def _stack(
    look: Look,
    top: int,
    bottom: int,
    heading_colour: Colour,
    caption_colour: Colour,
    *,
    left: int = _MARGIN,
    align: str = "left",
    stands: str = "top",
    caption_first: bool = False,
    largest: int = 40,
) -> list[Words]:
    """One column between `top` and `bottom`: the heading with its line, and the caption at one end."""
    width = _WIDTH - _MARGIN - left
    caption = fit(look.caption, "sans", width, 10, largest=8, smallest=8)
    line = fit(look.line, look.line_face, width, 30, largest=12)
    caption_room = caption.height_px + _CAPTION_GAP if caption.lines else 0
    line_room = line.height_px + _GAP if line.lines else 0
    free = bottom - top - caption_room
    heading = fit(look.heading, look.heading_face, width, free - line_room, largest=largest)
    spare = free - line_room - heading.height_px
    head_top = top + (caption_room if caption_first else 0) + {"top": 0, "middle": spare // 2, "bottom": spare}[stands]
    caption_top = top if caption_first else bottom - caption.height_px
    return [
        Words(caption, left, caption_top, width, caption_colour, align),
        Words(heading, left, head_top, width, heading_colour, align),
        Words(line, left, head_top + heading.height_px + _GAP, width, heading_colour, align),
    ]


def _encoded(picture: Image.Image) -> bytes:
    """JPEG: ten times as fast to write as WebP at this size, and faster for an encoder to read."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()
