"""Pictures of places: what the covers of adventures, westerns, horror and the like show.

Each fills any panel; `u` is its shorter side. The ground is there already.
"""

from __future__ import annotations

import math
import random

from jobs.covers.palettes import Palette, mix
from jobs.covers.pen import Pen, Point, polar


def mesas(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Western: a sun behind table mountains, and cacti."""
    w, h, u = pen.width, pen.height, pen.unit
    x, y, radius = w * rng.uniform(0.3, 0.7), h * 0.42, u * rng.uniform(0.2, 0.3)
    for grow, alpha in ((1.5, 40), (1.25, 60), (1.0, 255)):
        pen.disc(x, y, radius * grow, p.accent, alpha)
    for layer, colour in ((0, mix(p.main, p.deep, 0.5)), (1, p.deep)):
        for _ in range(2):
            left, wide, top = rng.uniform(-0.2, 0.8) * w, rng.uniform(0.25, 0.5) * w, h * rng.uniform(0.38, 0.52)
            steps = ((0, h), (0.12, top + u * 0.12), (0.2, top), (0.8, top), (0.88, top + u * 0.1), (1, h))
            pen.polygon([(left + wide * at, y + layer * u * 0.06) for at, y in steps], colour)
    pen.box(0, h * 0.7, w, h, p.dark)
    for _ in range(rng.randint(1, 2)):
        _cactus(pen, p, w * rng.choice((0.18, 0.8, 0.66)), h * 0.72, u * rng.uniform(0.2, 0.3))


def _cactus(pen: Pen, p: Palette, x: float, foot: float, tall: float) -> None:
    thick = tall * 0.2
    pen.line([(x, foot), (x, foot - tall)], p.dark, thick)
    pen.disc(x, foot - tall, thick / 2, p.dark)
    for side, start, end in ((-1, 0.45, 0.78), (1, 0.6, 0.92)):
        arm = x + side * tall * 0.32
        pen.line([(x, foot - tall * start), (arm, foot - tall * start), (arm, foot - tall * end)], p.dark, thick * 0.75)
        pen.disc(arm, foot - tall * end, thick * 0.37, p.dark)


def ranges(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Adventure: mountain ranges, paler with distance, a sun, and a way between them."""
    w, h, u = pen.width, pen.height, pen.unit
    pen.disc(w * rng.uniform(0.25, 0.75), h * 0.3, u * 0.17, p.accent)
    for layer in range(4):
        base, colour = h * (0.42 + 0.14 * layer), mix(p.main, p.dark, 0.25 + 0.25 * layer)
        ridge: list[Point] = [(-5.0, h), (-5.0, base)]
        peaks = rng.randint(2, 4)
        for peak in range(peaks):
            at = w * (peak + rng.uniform(0.3, 0.7)) / peaks
            ridge += [(at, base - u * rng.uniform(0.1, 0.3)), (w * (peak + 1) / peaks, base + u * 0.02)]
        pen.polygon([*ridge, (w + 5, h)], colour)
    bends = [(0.5, 0.86), (0.62, 0.9), (0.42, 0.95), (0.6, 1.02)]
    pen.line([(w * x, h * y) for x, y in bends], p.accent, u * 0.02)


def haunted_wood(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Horror: a moon behind bare, forked trees."""
    w, h, u = pen.width, pen.height, pen.unit
    x, y, radius = w * rng.uniform(0.35, 0.65), h * 0.35, u * rng.uniform(0.24, 0.32)
    pen.disc(x, y, radius * 1.15, p.accent, 60)
    pen.disc(x, y, radius, rng.choice((p.accent, p.light)))
    for side in (-0.02, 0.16, 0.84, 1.02):
        _branch(pen, p, rng, w * side, h * 1.02, -90 + rng.uniform(-8, 8), h * rng.uniform(0.26, 0.34), u * 0.05)
    teeth: list[Point] = [(0.0, h)]
    for i in range(15):
        teeth.append((w * i / 14, h * (0.94 - rng.uniform(0.0, 0.12) * (i % 2))))
    pen.polygon([*teeth, (w, h)], p.dark)


def _branch(
    pen: Pen, p: Palette, rng: random.Random, x: float, y: float, angle: float, long: float, thick: float
) -> None:
    end = polar(x, y, long, angle)
    pen.line([(x, y), end], p.dark, thick)
    if long > pen.unit * 0.06:
        for turn in (rng.uniform(-42, -18), rng.uniform(18, 42)):
            _branch(pen, p, rng, *end, angle + turn, long * rng.uniform(0.55, 0.75), thick * 0.62)


def fangs(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Horror: an eye between two rows of teeth."""
    w, h, u = pen.width, pen.height, pen.unit
    pen.oval(w / 2, h * 0.46, u * 0.36, u * 0.2, p.light)
    pen.disc(w / 2, h * 0.46, u * 0.17, p.accent)
    pen.oval(w / 2, h * 0.46, u * rng.uniform(0.03, 0.08), u * 0.15, p.dark)
    count = rng.randint(5, 8)
    for row, reach in ((0.0, 0.24), (h, -0.24)):
        for tooth in range(count):
            left, right = w * tooth / count, w * (tooth + 1) / count
            tip = row + h * reach * rng.uniform(0.6, 1)
            pen.polygon([(left, row), (right, row), ((left + right) / 2, tip)], p.dark)


def castle(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Fantasy: towers before a great moon, and stars."""
    w, h, u = pen.width, pen.height, pen.unit
    _stars(pen, p, rng, 30)
    pen.disc(w * 0.5, h * 0.42, u * 0.34, p.accent)
    pen.disc(w * 0.5, h * 0.42, u * 0.34, p.light, 70)
    foot = h * 0.86
    for at, tall in ((0.3, 0.34), (0.7, 0.3), (0.42, 0.48), (0.58, rng.uniform(0.5, 0.62))):
        x, half = w / 2 + (at - 0.5) * u, u * rng.uniform(0.045, 0.07)
        top = foot - tall * u
        pen.box(x - half, top, x + half, foot, p.dark)
        pen.polygon([(x - half * 1.5, top), (x + half * 1.5, top), (x, top - u * rng.uniform(0.12, 0.2))], p.dark)
        pen.box(x - half * 0.25, top + u * 0.05, x + half * 0.25, top + u * 0.1, p.accent)
    pen.box(w / 2 - u * 0.26, foot - u * 0.16, w / 2 + u * 0.26, foot, p.dark)
    pen.oval(w / 2, h * 1.02, w * 0.75, h * 0.24, p.dark)


def crystals(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Fantasy: crystals that rise under an aurora."""
    w, h, u = pen.width, pen.height, pen.unit
    for band in range(3):
        y, phase, swing = h * (0.16 + 0.11 * band), rng.uniform(0, math.tau), u * rng.uniform(0.04, 0.08)
        crest = [(w * i / 20, y + swing * math.sin(phase + i / 20 * math.tau)) for i in range(21)]
        for thick, alpha in ((0.14, 60), (0.07, 80)):
            lower = [(a, b + u * thick) for a, b in reversed(crest)]
            pen.polygon([*crest, *lower], p.accent if band % 2 else p.light, alpha)
    for _ in range(9):
        x, tall, half = w * rng.uniform(0, 1), u * rng.uniform(0.3, 0.75), u * rng.uniform(0.06, 0.12)
        top = h - tall
        pen.polygon([(x - half, h), (x - half * 0.6, top + half), (x, top), (x, h)], mix(p.main, p.light, 0.35))
        pen.polygon([(x + half, h), (x + half * 0.6, top + half), (x, top), (x, h)], p.dark)


def planets(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Sci-Fi: a ringed planet, its moon, and stars."""
    w, h, u = pen.width, pen.height, pen.unit
    _stars(pen, p, rng, 45)
    x, y, radius = w * rng.uniform(0.35, 0.65), h * 0.42, u * rng.uniform(0.22, 0.3)
    tilt = rng.choice((-1, 1)) * rng.uniform(0.12, 0.4)
    ring = [polar(0, 0, radius * 1.75, 6 * step) for step in range(61)]
    tilted = [(x + a, y + b * 0.24 + a * tilt) for a, b in ring]
    pen.line(tilted[30:], p.accent, u * 0.022)
    pen.disc(x, y, radius, p.main)
    pen.slice(x, y, radius, -60, 120, mix(p.main, p.dark, 0.45))
    pen.oval(x - radius * 0.15, y, radius * 0.8, radius, p.main)
    pen.line(tilted[:31], p.accent, u * 0.03)
    pen.disc(w * rng.choice((0.15, 0.85)), h * rng.uniform(0.12, 0.24), u * 0.06, p.light)


def grid_horizon(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Sci-Fi: a sun cut in stripes above an endless grid."""
    w, h, u = pen.width, pen.height, pen.unit
    horizon, radius = h * 0.58, u * 0.34
    _stars(pen, p, rng, 25)
    pen.disc(w / 2, horizon - radius * 0.35, radius, p.accent)
    for stripe in range(5):
        y = horizon - radius * (0.05 + 0.22 * stripe)
        pen.box(0, y - u * 0.016 * (1 - stripe / 6), w, y, p.deep)
    pen.box(0, horizon, w, h, p.dark)
    for column in range(-12, 13):
        pen.line([(w / 2 + column * u * 0.05, horizon), (w / 2 + column * u * 0.3, h)], p.main, 0.8)
    for row in range(1, 8):
        y = horizon + (h - horizon) * (row / 7) ** 2
        pen.line([(0, y), (w, y)], p.main, 0.8)


def skyline(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Crime: a city at night, lit windows, one search light."""
    w, h, u = pen.width, pen.height, pen.unit
    x = w * rng.uniform(0.2, 0.8)
    pen.polygon([(x, h), (x - u * 0.55, 0), (x - u * 0.05, 0)], p.accent, 110)
    pen.disc(w * 0.78, h * 0.18, u * 0.08, p.light)
    for layer, colour in ((0, mix(p.deep, p.dark, 0.5)), (1, p.dark)):
        left = -u * 0.05
        while left < w:
            wide, tall = u * rng.uniform(0.11, 0.2), h * rng.uniform(0.3, 0.56) * (1 - 0.3 * layer)
            pen.box(left, h - tall, left + wide, h, colour)
            for row in range(int(tall / (u * 0.07))):
                for column in range(3):
                    if rng.random() < 0.22 + 0.2 * layer:
                        a, b = left + wide * (0.2 + 0.24 * column), h - tall + u * (0.03 + 0.07 * row)
                        pen.box(a, b, a + u * 0.022, b + u * 0.03, p.accent)
            left += wide + u * 0.01


def street_lamp(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Film noir: a lamp's cone of light, and a man in a hat at its edge."""
    w, h, u = pen.width, pen.height, pen.unit
    lamp = w * rng.uniform(0.3, 0.45)
    for reach, alpha in ((0.5, 60), (0.36, 80)):
        cone = [(lamp, h * 0.2), (lamp - u * reach, h * 0.9), (lamp + u * reach, h * 0.9)]
        pen.polygon(cone, p.accent, alpha)
    pen.oval(lamp, h * 0.9, u * 0.5, u * 0.08, p.accent, 120)
    pen.line([(lamp - u * 0.2, h), (lamp - u * 0.2, h * 0.16), (lamp, h * 0.16)], p.dark, u * 0.02)
    pen.polygon([(lamp - u * 0.07, h * 0.2), (lamp + u * 0.07, h * 0.2), (lamp, h * 0.14)], p.dark)
    _man_in_hat(pen, p, lamp + u * 0.3, h * 0.93, u * 0.46)


def _man_in_hat(pen: Pen, p: Palette, x: float, foot: float, tall: float) -> None:
    coat = (
        (-0.17, 0),
        (-0.12, 0.45),
        (-0.18, 0.68),
        (-0.06, 0.76),
        (0.06, 0.76),
        (0.18, 0.68),
        (0.12, 0.45),
        (0.17, 0),
    )
    pen.polygon([(x + tall * a, foot - tall * b) for a, b in coat], p.dark)
    pen.disc(x, foot - tall * 0.83, tall * 0.08, p.dark)
    pen.oval(x, foot - tall * 0.88, tall * 0.17, tall * 0.025, p.dark)
    pen.box(x - tall * 0.085, foot - tall, x + tall * 0.085, foot - tall * 0.88, p.dark)


def blinds(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Film noir: light through blinds, thrown aslant."""
    w, h, u = pen.width, pen.height, pen.unit
    slope, step = rng.choice((-1, 1)) * 0.22, u * 0.1
    for slat in range(-3, int(h / step) + 3):
        y = slat * step
        stripe = [(0, y), (w, y + slope * w), (w, y + slope * w + step * 0.45), (0, y + step * 0.45)]
        pen.polygon(stripe, p.accent, 150 if slat % 5 else 220)
    _man_in_hat(pen, p, w * rng.uniform(0.4, 0.6), h * 1.05, u * 1.05)


def searchlights(pen: Pen, p: Palette, rng: random.Random) -> None:
    """War: search lights that cross, aeroplanes in them, wire below."""
    w, h, u = pen.width, pen.height, pen.unit
    for foot, top in ((0.15, 0.75), (0.85, 0.3), (0.5, rng.uniform(0.1, 0.9))):
        pen.polygon([(w * foot, h), (w * top - u * 0.16, 0), (w * top + u * 0.16, 0)], p.light, 60)
    for _ in range(rng.randint(3, 5)):
        _plane(pen, p, w * rng.uniform(0.15, 0.85), h * rng.uniform(0.12, 0.5), u * rng.uniform(0.09, 0.15))
    hills = [(0.0, h), (0.0, h * 0.8), (w * 0.3, h * 0.74), (w * 0.65, h * 0.83), (w, h * 0.76), (w, h)]
    pen.polygon(hills, p.dark)
    for row in (0.86, 0.93):
        pen.line([(0, h * row), (w, h * (row - 0.02))], p.accent, 1)
        for knot in range(1, 9):
            x = w * knot / 9
            pen.line([(x - 3, h * row - 4), (x + 3, h * row + 3)], p.accent, 1)
            pen.line([(x + 3, h * row - 4), (x - 3, h * row + 3)], p.accent, 1)


def _plane(pen: Pen, p: Palette, x: float, y: float, half: float) -> None:
    pen.polygon([(x - half, y + half * 0.1), (x, y - half * 0.22), (x + half, y + half * 0.1), (x, y)], p.dark)
    pen.polygon([(x - half * 0.1, y - half * 0.6), (x + half * 0.1, y - half * 0.6), (x, y + half * 0.7)], p.dark)
    pen.box(x - half * 0.3, y + half * 0.45, x + half * 0.3, y + half * 0.55, p.dark)


def lone_tree(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Drama: one tree on a hill before a low sun."""
    w, h, u = pen.width, pen.height, pen.unit
    x = w * rng.uniform(0.3, 0.7)
    pen.disc(x + u * rng.uniform(-0.2, 0.2), h * 0.46, u * 0.3, p.accent)
    pen.oval(w * 0.4, h * 1.02, w * 0.9, h * 0.34, mix(p.deep, p.dark, 0.4))
    pen.oval(w * 0.8, h * 1.1, w * 0.9, h * 0.36, p.dark)
    pen.line([(x, h * 0.8), (x, h * 0.55)], p.dark, u * 0.03)
    for _ in range(9):
        a, b = rng.uniform(-0.16, 0.16) * u, rng.uniform(-0.14, 0.08) * u
        pen.disc(x + a, h * 0.5 + b, u * rng.uniform(0.06, 0.1), p.dark)


def sea(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Drama: a small boat, and the sun's way over the water."""
    w, h, u = pen.width, pen.height, pen.unit
    x, horizon = w * rng.uniform(0.35, 0.65), h * 0.56
    pen.disc(x, horizon, u * 0.26, p.accent)
    pen.box(0, horizon, w, h, p.deep)
    for row in range(8):
        y, half = horizon + u * (0.04 + 0.06 * row), u * rng.uniform(0.06, 0.24)
        pen.box(x - half, y, x + half, y + u * 0.02, p.accent, 190)
    boat = x + u * rng.choice((-0.24, 0.24))
    y = horizon + u * 0.1
    pen.polygon(
        [(boat - u * 0.11, y), (boat + u * 0.11, y), (boat + u * 0.07, y + u * 0.05), (boat - u * 0.07, y + u * 0.05)],
        p.dark,
    )
    pen.polygon([(boat, y - u * 0.26), (boat, y - u * 0.02), (boat + u * 0.11, y - u * 0.02)], p.light)


def lit_window(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Drama: a window, and its light on the floor where someone stands."""
    w, h, u = pen.width, pen.height, pen.unit
    x, top, wide, tall = w * rng.uniform(0.32, 0.5), h * 0.16, u * 0.32, u * 0.44
    pen.box(0, h * 0.72, w, h, p.dark)
    pen.box(x, top, x + wide, top + tall, p.accent)
    pen.line([(x + wide / 2, top), (x + wide / 2, top + tall)], p.deep, u * 0.02)
    pen.line([(x, top + tall / 2), (x + wide, top + tall / 2)], p.deep, u * 0.02)
    skew = u * rng.choice((-0.3, 0.25))
    floor = [
        (x + skew * 0.4, h * 0.74),
        (x + wide + skew * 0.4, h * 0.74),
        (x + wide + skew * 1.4, h),
        (x + skew * 1.4, h),
    ]
    pen.polygon(floor, p.accent, 150)
    man = x + wide / 2 + skew * 0.9
    pen.polygon([(man - u * 0.05, h * 0.88), (man + u * 0.05, h * 0.88), (man, h * 0.58)], p.dark)
    pen.disc(man, h * 0.58, u * 0.04, p.dark)


def balloons(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Children: balloons above green hills."""
    w, h, u = pen.width, pen.height, pen.unit
    colours = (p.accent, p.light, mix(p.accent, p.deep, 0.5), p.deep)
    for index in range(rng.randint(4, 6)):
        x, y, radius = w * rng.uniform(0.15, 0.85), h * rng.uniform(0.14, 0.5), u * rng.uniform(0.09, 0.14)
        pen.line([(x, y + radius), (x + u * 0.03, y + radius * 2), (w / 2, h * 0.86)], p.dark, 0.8)
        pen.oval(x, y, radius, radius * 1.2, colours[index % 4])
        pen.oval(x - radius * 0.35, y - radius * 0.45, radius * 0.18, radius * 0.28, p.light, 200)
    pen.oval(w * 0.25, h * 1.05, w * 0.6, h * 0.26, p.deep)
    pen.oval(w * 0.85, h * 1.08, w * 0.6, h * 0.28, p.dark)


def rainbow(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Children: a rainbow, clouds, and a house."""
    w, h, u = pen.width, pen.height, pen.unit
    for band, colour in enumerate((p.accent, p.light, p.deep, mix(p.accent, p.light, 0.5), p.main)):
        pen.disc(w / 2, h * 0.72, u * (0.46 - 0.065 * band), colour)
    for x, y in ((0.2, 0.2), (0.78, 0.14), (0.6, 0.34)):
        for part in (-1, 0, 1):
            size = u * (0.07 if part else 0.1)
            pen.disc(w * x + part * u * 0.09, h * y - (0 if part else u * 0.03), size, p.light)
    pen.box(0, h * 0.72, w, h, p.dark)
    x = w * rng.uniform(0.4, 0.6)
    pen.box(x - u * 0.1, h * 0.64, x + u * 0.1, h * 0.78, p.light)
    pen.polygon([(x - u * 0.14, h * 0.64), (x + u * 0.14, h * 0.64), (x, h * 0.64 - u * 0.14)], p.accent)
    pen.box(x - u * 0.025, h * 0.7, x + u * 0.025, h * 0.78, p.dark)


def _stars(pen: Pen, p: Palette, rng: random.Random, count: int) -> None:
    for _ in range(count):
        x, y = rng.uniform(0, pen.width), rng.uniform(0, pen.height * 0.8)
        pen.disc(x, y, rng.choice((0.5, 0.8, 1.2)), p.light, 220)
