"""Abstract pictures: what the covers of comedies, romances, thrillers, musicals and the like show."""

from __future__ import annotations

import math
import random

from jobs.covers.palettes import Palette, mix
from jobs.covers.pen import Pen, polar


def burst(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Action: rays from one point, and a star of fire."""
    w, h, u = pen.width, pen.height, pen.unit
    x, y, rays = w * rng.uniform(0.35, 0.65), h * 0.44, rng.choice((12, 16, 20))
    for ray in range(rays):
        a, b = 360 / rays * ray, 360 / rays * (ray + 0.5)
        pen.polygon([(x, y), polar(x, y, w + h, a), polar(x, y, w + h, b)], p.main, 150)
    for size, colour in ((0.42, p.accent), (0.3, p.light), (0.17, p.accent)):
        corners = []
        for i in range(24):
            radius = size * (1 if i % 2 == 0 else 0.58) * rng.uniform(0.85, 1.1)
            corners.append(polar(x, y, u * radius, 15 * i))
        pen.polygon(corners, colour)
    pen.disc(x, y, u * 0.07, p.dark)


def speed(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Action: chevrons and streaks, all in one direction."""
    w, h, u = pen.width, pen.height, pen.unit
    for _ in range(26):
        x, y, long = rng.uniform(-0.3, 1) * w, rng.uniform(0, 1) * h, u * rng.uniform(0.2, 0.7)
        pen.polygon([(x, y), (x + long, y - long * 0.4), (x + long, y - long * 0.4 + 2.5)], p.light, 130)
    for step, colour in enumerate((p.dark, p.accent, p.light)):
        x, y, size = w * (0.2 + 0.19 * step), h * (0.6 - 0.1 * step), u * 0.32
        arrow = ((0, 0), (0.45, 0), (0.9, -0.6), (0.45, -1.2), (0, -1.2), (0.45, -0.6))
        pen.polygon([(x + size * (a - 0.3), y + size * (b + 0.75)) for a, b in arrow], colour)


def blobs(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Animation: bright overlapping drops with eyes."""
    w, h, u = pen.width, pen.height, pen.unit
    colours = (p.accent, p.light, p.deep, mix(p.accent, p.main, 0.5))
    for _ in range(12):
        pen.disc(rng.uniform(0, w), rng.uniform(0, h), u * rng.uniform(0.02, 0.07), rng.choice(colours), 190)
    for index, (x, y, radius) in enumerate(((0.36, 0.55, 0.27), (0.68, 0.42, 0.22))):
        x, y, radius = w / 2 + (x - 0.5) * u, h * y + u * rng.uniform(-0.06, 0.06), u * radius
        pen.disc(x, y, radius, colours[index])
        look = rng.uniform(-0.4, 0.4)
        for side in (-0.36, 0.36):
            pen.disc(x + radius * side, y - radius * 0.2, radius * 0.26, p.light if index == 0 else p.main)
            pen.disc(x + radius * (side + 0.2 * look), y - radius * 0.2, radius * 0.13, p.dark)
        pen.arc(x, y + radius * 0.05, radius * 0.55, 25, 155, p.dark, u * 0.022)


def paper_waves(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Animation: layers of cut paper around a star."""
    w, h, u = pen.width, pen.height, pen.unit
    pen.star(w * rng.uniform(0.3, 0.7), h * 0.3, u * 0.2, u * 0.09, 5, p.accent)
    for layer, colour in enumerate((p.light, mix(p.main, p.light, 0.5), p.main, p.deep, p.dark)):
        base, swing, phase = h * (0.5 + 0.11 * layer), u * 0.06, rng.uniform(0, math.tau)
        crest = [(w * i / 24, base + swing * math.sin(phase + i / 24 * math.tau * 1.5)) for i in range(25)]
        pen.polygon([(0.0, h), *crest, (w, h)], colour)


def smile(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Comedy: dots, and a grin."""
    w, h, u = pen.width, pen.height, pen.unit
    step = u * 0.17
    for row in range(int(h / step) + 2):
        for column in range(int(w / step) + 2):
            pen.disc((column + row % 2 / 2) * step, row * step, u * 0.028, p.light, 120)
    x, y, radius = w / 2, h * 0.46, u * 0.34
    pen.disc(x, y, radius, p.accent)
    if rng.random() < 0.5:
        for side in (-0.38, 0.38):
            pen.oval(x + radius * side, y - radius * 0.28, radius * 0.1, radius * 0.17, p.dark)
    else:
        for side in (-0.4, 0.4):
            pen.ring(x + radius * side, y - radius * 0.25, radius * 0.28, p.dark, u * 0.03)
        pen.line([(x - radius * 0.14, y - radius * 0.25), (x + radius * 0.14, y - radius * 0.25)], p.dark, u * 0.03)
    pen.slice(x, y + radius * 0.1, radius * 0.62, 5, 175, p.dark)
    pen.slice(x, y + radius * 0.1, radius * 0.5, 12, 168, p.light)


def bubbles(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Comedy: two speech bubbles in talk."""
    w, h, u = pen.width, pen.height, pen.unit
    for row in range(9):
        pen.polygon(
            [(0, h * row / 4.5), (w, h * (row - 2) / 4.5), (w, h * (row - 1.5) / 4.5), (0, h * (row + 0.5) / 4.5)],
            p.main,
            110,
        )
    for side, y, colour in ((-1, 0.32, p.light), (1, 0.58, p.accent)):
        x = w / 2 + side * u * 0.12
        pen.oval(x, h * y, u * 0.33, u * 0.2, colour)
        tail = x + side * u * 0.2
        pen.polygon(
            [(tail - u * 0.08, h * y), (tail + u * 0.06, h * y), (tail + side * u * 0.1, h * y + u * 0.3)], colour
        )
        for dot in (-1, 0, 1):
            size = u * rng.uniform(0.025, 0.045)
            pen.disc(x + dot * u * 0.12, h * y, size, p.dark)


def hearts(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Romance: two circles that meet, and a heart where they do."""
    w, h, u = pen.width, pen.height, pen.unit
    x, y, radius = w / 2, h * 0.43, u * 0.27
    apart = radius * rng.uniform(0.5, 0.75)
    pen.disc(x - apart, y, radius, p.accent, 230)
    pen.disc(x + apart, y, radius, p.light, 170)
    _heart(pen, p, x, y + u * 0.02, u * 0.11, p.deep)
    for _ in range(rng.randint(4, 8)):
        _heart(pen, p, rng.uniform(0, w), rng.uniform(0, h), u * rng.uniform(0.015, 0.035), p.light)


def _heart(pen: Pen, p: Palette, x: float, y: float, size: float, colour: tuple[int, int, int]) -> None:
    curve = []
    for step in range(40):
        t = step / 40 * math.tau
        across = 16 * math.sin(t) ** 3
        down = -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t))
        curve.append((x + across * size / 16, y + down * size / 16))
    pen.polygon(curve, colour)


def petals(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Romance: a flower of leaning ovals."""
    w, h, u = pen.width, pen.height, pen.unit
    x, y, count = w / 2, h * 0.42, rng.choice((6, 8, 10))
    pen.line([(x, y), (x + u * 0.05, h * 0.75), (x - u * 0.02, h * 1.02)], p.dark, u * 0.02)
    for layer, (reach, radius, colour) in enumerate(((0.24, 0.15, p.accent), (0.15, 0.12, p.light))):
        for petal in range(count):
            at = polar(x, y, u * reach, 360 / count * (petal + layer / 2))
            pen.disc(*at, u * radius, colour, 150)
    pen.disc(x, y, u * 0.07, p.deep)


def vinyl(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Musical: a record."""
    w, h, u = pen.width, pen.height, pen.unit
    x, y, radius = w * rng.uniform(0.4, 0.6), h * 0.43, u * 0.42
    pen.disc(x, y, radius, p.dark)
    for groove in range(6):
        pen.ring(x, y, radius * (0.94 - 0.09 * groove), mix(p.dark, p.deep, 0.55), 0.8)
    for turn in (0, 180):
        start = rng.uniform(20, 50) + turn
        pen.slice(x, y, radius * 0.96, start, start + 22, p.light, 40)
    pen.disc(x, y, radius * 0.38, p.accent)
    pen.disc(x, y, radius * 0.07, p.light)


def piano(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Musical: keys, and notes above them."""
    w, h, u = pen.width, pen.height, pen.unit
    top, keys = h * 0.64, 8
    for index in range(5):
        y = h * 0.2 + index * u * 0.07
        pen.line([(0, y + u * 0.05), (w * 0.5, y - u * 0.02), (w, y + u * 0.05)], p.light, 0.8, 150)
    for index in range(rng.randint(3, 4)):
        x, y = w * (0.18 + 0.22 * index), h * 0.2 + u * rng.uniform(0.05, 0.3)
        pen.oval(x, y, u * 0.055, u * 0.042, p.accent)
        pen.line([(x + u * 0.048, y), (x + u * 0.048, y - u * 0.2), (x + u * 0.12, y - u * 0.14)], p.accent, u * 0.02)
    pen.box(0, top, w, h, p.light)
    for key in range(keys + 1):
        pen.line([(w * key / keys, top), (w * key / keys, h)], p.dark, 1)
        if key % 7 not in (2, 6):
            x = w * (key + 1) / keys
            pen.box(x - w / keys * 0.3, top, x + w / keys * 0.3, top + (h - top) * 0.58, p.dark)


def keyhole(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Mystery: light through a keyhole."""
    w, h, u = pen.width, pen.height, pen.unit
    x, y, radius = w / 2, h * 0.36, u * 0.15
    pen.polygon([(x - u * 0.06, y), (x + u * 0.06, y), (x + w * 0.7, h), (x - w * 0.7, h)], p.accent, 70)
    for ring in range(3):
        pen.ring(x, y + u * 0.06, u * (0.4 + 0.12 * ring), p.accent, 1, 150 - 40 * ring)
    pen.disc(x, y, radius, p.accent)
    pen.polygon(
        [
            (x - radius * 0.4, y),
            (x + radius * 0.4, y),
            (x + radius * 0.85, y + u * 0.4),
            (x - radius * 0.85, y + u * 0.4),
        ],
        p.accent,
    )
    eye = y + u * rng.uniform(-0.02, 0.02)
    pen.oval(x, eye, radius * 0.62, radius * 0.32, p.light)
    pen.disc(x + radius * rng.uniform(-0.2, 0.2), eye, radius * 0.22, p.dark)


def spiral(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Mystery and thriller: a turning spiral."""
    w, h, u = pen.width, pen.height, pen.unit
    x, y, turns, way = w / 2, h * 0.44, rng.uniform(3.5, 5), rng.choice((-1, 1))
    count = 110
    for arm, colour in ((0, p.accent), (180, p.light)):
        curve = [polar(x, y, u * 0.62 * i / count, way * 360 * turns / 2 * i / count + arm) for i in range(count)]
        for first in range(0, count - 1, 10):
            pen.line(curve[first : first + 12], colour, u * (0.008 + 0.035 * first / count))
    pen.disc(x, y, u * 0.045, p.accent)


def shards(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Thriller: a broken pane."""
    w, h, u = pen.width, pen.height, pen.unit
    x, y, angle = w * rng.uniform(0.35, 0.65), h * rng.uniform(0.36, 0.5), rng.uniform(0, 30)
    cracks = []
    while angle < 375:
        cracks.append(angle)
        angle += rng.uniform(18, 44)
    for first, second in zip(cracks, [*cracks[1:], cracks[0] + 360], strict=True):
        colour = rng.choice((p.main, p.deep, mix(p.main, p.deep, 0.5), mix(p.main, p.dark, 0.6)))
        pen.polygon([(x, y), polar(x, y, w + h, first), polar(x, y, w + h, second)], colour)
    for reach in (0.22, 0.44):
        web = [polar(x, y, u * reach * rng.uniform(0.8, 1.2), crack) for crack in cracks]
        pen.line([*web, web[0]], p.light, 1)
    for crack in cracks:
        pen.line([(x, y), polar(x, y, w + h, crack)], p.light, 1)
    pen.star(x, y, u * 0.12, u * 0.05, 9, p.accent)


def target(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Thriller: rings, cross hairs, and someone who runs."""
    w, h, u = pen.width, pen.height, pen.unit
    x, y = w / 2, h * 0.43
    for ring in range(4):
        pen.disc(x, y, u * (0.44 - 0.1 * ring), (p.deep, p.main)[ring % 2])
    pen.ring(x, y, u * 0.44, p.light, 1.5)
    for a, b in (((-0.5, 0), (-0.2, 0)), ((0.2, 0), (0.5, 0)), ((0, -0.5), (0, -0.2)), ((0, 0.2), (0, 0.5))):
        pen.line([(x + u * a[0], y + u * a[1]), (x + u * b[0], y + u * b[1])], p.accent, 2)
    lean, size = rng.choice((-1, 1)), u * 0.16
    joints = {
        "body": ((0.1, -0.5), (-0.1, 0.2)),
        "leg": ((-0.1, 0.2), (0.35, 0.4), (0.25, 0.9)),
        "other leg": ((-0.1, 0.2), (-0.35, 0.6), (-0.85, 0.7)),
        "arm": ((0.08, -0.4), (0.5, -0.1), (0.75, -0.35)),
        "other arm": ((0.08, -0.4), (-0.4, -0.3), (-0.5, 0.1)),
    }
    for limb in joints.values():
        pen.line([(x + lean * a * size, y + b * size) for a, b in limb], p.dark, size * 0.2)
    pen.disc(x + lean * 0.2 * size, y - 0.78 * size, size * 0.2, p.dark)


def aperture(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Documentary: the blades of a lens."""
    w, h, u = pen.width, pen.height, pen.unit
    x, y, blades, turn = w / 2, h * 0.43, rng.choice((6, 7, 8)), rng.uniform(0, 60)
    pen.disc(x, y, u * 0.45, p.dark)
    for blade in range(blades):
        start = turn + 360 / blades * blade
        colour = mix(p.main, p.deep, blade / blades)
        inner, outer = polar(x, y, u * 0.17, start), polar(x, y, u * 0.41, start + 30)
        pen.polygon(
            [
                inner,
                outer,
                polar(x, y, u * 0.41, start + 30 + 360 / blades),
                polar(x, y, u * 0.17, start + 360 / blades),
            ],
            colour,
        )
        pen.line([inner, outer], p.light, 1)
    pen.disc(x, y, u * 0.1, p.accent)
    pen.ring(x, y, u * 0.45, p.light, 1.5)


def contours(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Documentary: height lines of a map, and a pin."""
    w, h, u = pen.width, pen.height, pen.unit
    phase = rng.uniform(0, math.tau)
    x, y = w * rng.uniform(0.4, 0.6), h * 0.48
    for line in range(1, 11):
        curve = []
        for step in range(61):
            t = step / 60 * math.tau
            wobble = 1 + 0.16 * math.sin(3 * t + phase) + 0.08 * math.sin(5 * t - phase)
            curve.append((x + u * 0.085 * line * wobble * math.cos(t), y + u * 0.085 * line * wobble * math.sin(t)))
        pen.line(curve, p.light, 1.6 if line % 3 == 0 else 0.8, 200)
    pen.polygon([(x - u * 0.1, y - u * 0.2), (x + u * 0.1, y - u * 0.2), (x, y + u * 0.03)], p.accent)
    pen.disc(x, y - u * 0.22, u * 0.11, p.accent)
    pen.disc(x, y - u * 0.22, u * 0.045, p.dark)


def tunnel(pen: Pen, p: Palette, rng: random.Random) -> None:
    """IMAX: a screen within a screen within a screen."""
    w, h, u = pen.width, pen.height, pen.unit
    x, y, steps = w * rng.uniform(0.4, 0.6), h * 0.43, 8
    for step in range(steps):
        share = 1 - step / steps
        colour = mix(p.accent, p.dark, share) if step % 2 else mix(p.main, p.dark, share * 0.8)
        pen.box(x - w * 0.6 * share, y - h * 0.52 * share, x + w * 0.6 * share, y + h * 0.52 * share, colour)
    pen.disc(x, y, u * 0.05, p.light)


def tiles(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Drama, and where no genre is known: quarter circles and squares in a grid."""
    w, h = pen.width, pen.height
    columns = rng.choice((3, 4))
    size = w / columns
    colours = (p.dark, p.deep, p.main, p.accent, p.light)
    for row in range(math.ceil(h / size)):
        for column in range(columns):
            left, top = column * size, row * size
            ground, ink = rng.sample(colours, 2)
            pen.box(left, top, left + size, top + size, ground)
            kind = rng.randrange(4)
            if kind == 0:
                corner = rng.randrange(4)
                pen.slice(
                    left + size * (corner in (1, 2)),
                    top + size * (corner in (2, 3)),
                    size,
                    90 * corner,
                    90 * corner + 90,
                    ink,
                )
            elif kind == 1:
                pen.disc(left + size / 2, top + size / 2, size * 0.36, ink)
            elif kind == 2:
                pen.polygon([(left, top), (left + size, top), (left, top + size)], ink)


def facing(pen: Pen, p: Palette, rng: random.Random) -> None:
    """Drama: half circles that turn toward or away from each other."""
    w, h, u = pen.width, pen.height, pen.unit
    x, y, radius = w / 2, h * 0.43, u * 0.34
    drop, turn = u * rng.uniform(0.0, 0.16), rng.choice((0, 20, -20, 90))
    pen.disc(x, y, radius * 1.25, p.light, 40)
    pen.slice(x - u * 0.015, y - drop / 2, radius, 90 + turn, 270 + turn, p.accent)
    pen.slice(x + u * 0.015, y + drop / 2, radius, -90 + turn, 90 + turn, p.dark)
    pen.disc(*polar(x, y - drop / 2, radius * 0.45, 180 + turn), u * 0.05, p.dark)
    pen.disc(*polar(x, y + drop / 2, radius * 0.45, turn), u * 0.05, p.accent)
