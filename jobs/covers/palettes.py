"""Five colours for each genre, and which genre of several gives a cover its picture."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from jobs.covers.pen import Colour


@dataclass(frozen=True)
class Palette:
    """`dark` for silhouettes and ink, `deep` and `main` for grounds, `accent` for highlights, `light` paper."""

    dark: Colour
    deep: Colour
    main: Colour
    accent: Colour
    light: Colour


def _palette(colours: str) -> Palette:
    dark, deep, main, accent, light = (_rgb(colour) for colour in colours.split())
    return Palette(dark, deep, main, accent, light)


def _rgb(code: str) -> Colour:
    return int(code[0:2], 16), int(code[2:4], 16), int(code[4:6], 16)


# The rarer a genre, the more it says; so the first of these that a movie has gives the picture.
GENRES_BY_WEIGHT = (
    "Western",
    "Film-Noir",
    "Musical",
    "War",
    "Horror",
    "Animation",
    "Documentary",
    "Sci-Fi",
    "Mystery",
    "Fantasy",
    "Children",
    "Crime",
    "Romance",
    "Adventure",
    "Action",
    "IMAX",
    "Thriller",
    "Comedy",
    "Drama",
)

_PALETTES: dict[str, tuple[Palette, ...]] = {
    genre: tuple(_palette(line) for line in lines)
    for genre, lines in {
        "Western": (
            "3b1d14 8c3b1f d9772f f4c04e f9ead0",
            "2e2018 7a4a2b c98a4b e4572e f5e6c8",
            "2b2530 7d4e57 d98e73 f2c14e fbeedb",
        ),
        "Film-Noir": (
            "0d0d0f 26272b 5b5e66 d8d2c4 f4f0e6",
            "101418 1f2a33 4d5b66 c9a227 ece7da",
            "0f0e0c 2d2924 6b6154 b5372c efe9dd",
        ),
        "Musical": (
            "2a0f3a 6d1b7b c8439b ffc145 fff1e0",
            "1b1033 3f2b96 8e54e9 ff6f91 fdf0ff",
            "31081f 8f1d46 e0457b ffd166 fff3e6",
        ),
        "War": (
            "1c1f14 3f4a2b 7b8556 d8a13a ece8d5",
            "20211c 4a4a3c 8c8468 b53a2b efe9d9",
            "161b1e 35454a 6f858a d9a441 e8ece8",
        ),
        "Horror": (
            "0b0709 2a0a12 7a1020 e0252f f1e4dc",
            "070b0c 10272a 2f5d58 b8e04a e9f2e4",
            "0c0812 24143b 58307a ff6b2c f3e8ff",
        ),
        "Animation": (
            "16213e 1f5aa6 2fa8e0 ffcf33 fffaf0",
            "2b1a4a 6a3fb0 ff7ab6 ffd447 fff6ff",
            "0f3b3a 16827a 3dccb4 ff7f50 fdfff5",
        ),
        "Documentary": (
            "1d2528 2f4b52 6d8f92 e2a33c f3f1ea",
            "22211f 4b4741 8f877a d1495b f5f2ec",
            "14232e 1f4e6b 5c93b0 f2b134 f1f5f7",
        ),
        "Sci-Fi": (
            "060b1a 0d1f4d 2b59c3 3ee6e0 eaf6ff",
            "0a0618 2b1055 7597de ff5da2 f3efff",
            "04130f 08362f 1d7a6c c6ff4f ecfff6",
        ),
        "Mystery": (
            "0f1420 233050 4f648c e6b655 eef0f4",
            "14101c 35284a 6f5a91 d4e157 f2eff7",
            "0d1a1c 1b3f44 3f7d80 e88d3c eef5f2",
        ),
        "Fantasy": (
            "1a1238 3d2c8d 916bbf f6c453 fbf3ff",
            "0d2233 1b5272 4fa3a5 f7d488 f3fbf7",
            "2a1330 6b2d5c c06c84 f8b195 fff4ee",
        ),
        "Children": (
            "1d3557 2a7fba 7cc6e8 ffb703 fffdf2",
            "3a1f5d d6457a ff9aa2 ffe066 fffaf3",
            "17402a 2f9e62 8fd694 ff6b35 fbfff3",
        ),
        "Crime": (
            "101216 2b303a 596273 e63946 f1f1ee",
            "14110f 3b2f2a 7d5a4a f2a541 f4eee6",
            "0b1620 18384f 3c6e8f f4d35e eef4f6",
        ),
        "Romance": (
            "3d0e25 9d2449 e8728f ffc2b4 fff2ee",
            "33132f 7d2e68 d972a6 ffd9a0 fff1f6",
            "40191b b3443f f08a71 ffe0b5 fff6ee",
        ),
        "Adventure": (
            "10262b 1d5c63 43a08c f4a340 f7f3e3",
            "1a2238 2f5d8a 72b1c9 f25f3a f5f4ea",
            "22301a 4a7030 9cbf5b f2c230 f8f6e4",
        ),
        "Action": (
            "17090a 6b0f12 d62a1e ffb01f fff0dc",
            "0d1117 1b3a57 2f7fb3 ff7a1a eef6fb",
            "120f0a 4a3508 c98a0a ff3d1f fff6df",
        ),
        "IMAX": (
            "050d1c 0c2f66 1b74d1 35d0ff edf7ff",
            "120a1f 371a66 7d3cd6 ffb84d f6f0ff",
        ),
        "Thriller": (
            "0c1013 1e2f38 44636f ff4f33 eef1f0",
            "130d12 3a1c31 7c3c61 ffd23f f6edf2",
            "0a1212 123b3a 2a7a70 ff8552 ecf5f2",
        ),
        "Comedy": (
            "2b1b12 e07a1f ffb52e e23e57 fff7e3",
            "15293b 1f8a9c 5fd0c5 ff6b6b fffbea",
            "2c1438 d63d7e ff8fab ffe14d fff6f8",
            "1e2a12 6fa01f b5d94c ff5f3d fcffe9",
        ),
        "Drama": (
            "17212b 34536b 7b9aa8 e3a857 f3efe6",
            "241a20 5e3a48 a9707a ecc48a f7efe8",
            "1b1f1a 465445 8b9b7e d97f4a f2efe2",
            "1a1a28 3d4069 8488b5 f0a58f f3f1f5",
            "221c15 6b5236 b8935f 2f6f73 f6efdf",
        ),
        "": (
            "1e1f24 4a4e5c 8b90a0 f0a202 f3f3f1",
            "1c2321 3f5a54 7fa199 e4572e f2f4ee",
        ),
    }.items()
}


def leading_genre(genres: Sequence[str]) -> str:
    """The genre that gives the picture; "" where none is known."""
    return next((genre for genre in GENRES_BY_WEIGHT if genre in genres), "")


def choose_palette(genres: Sequence[str], year: int | None, rng: random.Random) -> Palette:
    """Colours of the leading genre, an accent from the next one, and paler the older the movie."""
    lead = leading_genre(genres)
    palette = rng.choice(_PALETTES[lead])
    second = leading_genre([genre for genre in genres if genre != lead])
    if second and rng.random() < 0.35:
        accent = rng.choice(_PALETTES[second]).accent
        if contrast(accent, palette.deep) >= 3:
            palette = replace(palette, accent=accent)
    if year is not None and year < 1965:
        return _faded(palette, share=min(0.55, 0.25 + (1965 - year) / 150))
    return palette


def _faded(palette: Palette, share: float) -> Palette:
    """Toward the brown-grey of an old print."""

    def fade(colour: Colour) -> Colour:
        grey = luma(colour)
        print_tone = (min(255, grey * 1.06), grey * 0.98, grey * 0.84)
        red, green, blue = (
            round(own * (1 - share) + tone * share) for own, tone in zip(colour, print_tone, strict=True)
        )
        return red, green, blue

    return Palette(*(fade(c) for c in (palette.dark, palette.deep, palette.main, palette.accent, palette.light)))


def luma(colour: Colour) -> float:
    """Perceived brightness, 0..255 (ITU-R BT.601)."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def contrast(one: Colour, other: Colour) -> float:
    """Contrast ratio, 1..21 (WCAG 2.2, relative luminance)."""
    first, second = sorted((_luminance(one), _luminance(other)))
    return (second + 0.05) / (first + 0.05)


def ink_on(ground: Colour, palette: Palette) -> Colour:
    """The palette's dark or light, whichever reads better on `ground`."""
    return max(palette.dark, palette.light, key=lambda ink: contrast(ink, ground))


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """`share` of `other` in `one`."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _luminance(colour: Colour) -> float:
    red, green, blue = (c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
