"""Charts of a head's report as inline SVG, without scripts; their colours are the page's."""

from __future__ import annotations

from collections.abc import Sequence

from embeddings.quality.page_parts import count, safe, short
from embeddings.tagging.report_figures import Interval, Reliability, TagCount, TagFigures

_SIDE, _LEFT, _FOOT, _TOP = 300, 40, 40, 12
_STRIP = 46
_ROW = 24
_NAME = 150


def reliability_svg(label: str, found: Reliability, *, small: bool = False) -> str:
    """Share of yes over mean confidence of each bin, the diagonal, and below how many pairs lie in each bin.

    A dot's area grows with its pairs; a line joins it to the diagonal: that is its share of the calibration error.
    """
    height = _TOP + _SIDE + (_TOP if small else _STRIP + _FOOT)
    most = max((each.n for each in found.bins), default=1)
    parts = [_frame(), f'<line class="ideal" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>']
    for each in found.bins:
        x, y, ideal = _x(each.confidence), _y(each.share_yes), _y(each.confidence)
        radius = (5 if small else 2.5) + (10 if small else 7.5) * (each.n / most) ** 0.5
        parts.append(f'<line class="gap" x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{ideal:.1f}"/>')
        told = f"confidence {each.confidence:.2f}, right {each.share_yes:.2f}, {count(each.n)} pairs"
        parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"><title>{told}</title></circle>')
    if not small:
        parts += [*_masses(found, most), *_ticks(height)]
    described = f"{label}: expected calibration error {found.ece:.3f} over {count(found.n)} pairs"
    return _svg(_LEFT + _SIDE + 12, height, described, parts)


def forest_svg(label: str, figures: Sequence[TagFigures], names: Sequence[str], target: float | None) -> str:
    """A row for each tag: precision above, recall below, with their intervals; dashed: the target precision."""
    width, height = 640, _ROW * len(figures) + 30
    span = width - _NAME - 16
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = _NAME + share * span
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{height - 24}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{height - 8}" text-anchor="middle">{share:.0%}</text>')
    if target is not None:
        x = _NAME + target * span
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{height - 24}"/>')
    for at, (each, name) in enumerate(zip(figures, names, strict=True)):
        y = 6 + at * _ROW
        parts.append(
            f'<text class="name" x="{_NAME - 10}" y="{y + 12}" text-anchor="end">{safe(short(name, 22))}</text>'
        )
        parts += _whisker("precision", each.precision, y + 5, span)
        parts += _whisker("recall", each.recall, y + 13, span)
    return _svg(width, height, label, parts)


def counts_svg(label: str, counts: Sequence[TagCount]) -> str:
    """A bar for each tag: items that have it, and behind it those that are unsure."""
    width, height = 640, _ROW * len(counts) + 4
    most = max((each.yes + each.unsure for each in counts), default=1) or 1
    span = width - _NAME - 150
    parts = []
    for at, each in enumerate(counts):
        y = 2 + at * _ROW
        yes, unsure = each.yes / most * span, each.unsure / most * span
        told = " + ".join(
            [*([count(each.yes)] if each.yes else []), *([f"{count(each.unsure)} unsure"] if each.unsure else [])]
        )
        parts.append(
            f'<text class="name" x="{_NAME - 10}" y="{y + 14}" text-anchor="end">{safe(short(each.name, 22))}</text>'
        )
        parts.append(f'<rect class="bar" x="{_NAME}" y="{y + 2}" width="{yes:.1f}" height="{_ROW - 8}"/>')
        if each.unsure:
            parts.append(
                f'<rect class="open" x="{_NAME + yes:.1f}" y="{y + 2.5}" width="{unsure:.1f}" height="{_ROW - 9}"/>'
            )
        parts.append(f'<text class="tick" x="{_NAME + yes + unsure + 6:.1f}" y="{y + 14}">{told}</text>')
    return _svg(width, height, label, parts)


def _svg(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{safe(label)}">{"".join(parts)}</svg>'


def _x(share: float) -> float:
    return _LEFT + share * _SIDE


def _y(share: float) -> float:
    return _TOP + (1 - share) * _SIDE


def _frame() -> str:
    return f'<rect class="frame" x="{_LEFT}" y="{_TOP}" width="{_SIDE}" height="{_SIDE}"/>'


def _masses(found: Reliability, most: int) -> list[str]:
    top = _TOP + _SIDE + 6
    parts = []
    for each in found.bins:
        tall = max((_STRIP - 8) * (each.n / most) ** 0.5, 1.0)
        x, wide = _x(each.low), (each.high - each.low) * _SIDE
        parts.append(
            f'<rect class="bar" x="{x + 0.5:.1f}" y="{top + _STRIP - 8 - tall:.1f}" width="{max(wide - 1, 1):.1f}" '
            f'height="{tall:.1f}"/>'
        )
    return parts


def _ticks(height: float) -> list[str]:
    base = height - _FOOT + 14
    parts = []
    for share in (0.0, 0.5, 1.0):
        parts.append(f'<text class="tick" x="{_x(share):.1f}" y="{base}" text-anchor="middle">{share:g}</text>')
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{_y(share) + 4:.1f}" text-anchor="end">{share:g}</text>')
    parts.append(f'<text class="tick" x="{_x(0.5):.1f}" y="{base + 17}" text-anchor="middle">confidence</text>')
    middle = _y(0.5)
    turned = f'transform="rotate(-90 11 {middle:.1f})"'
    parts.append(f'<text class="tick" x="11" y="{middle:.1f}" text-anchor="middle" {turned}>share that is right</text>')
    return parts


def _whisker(kind: str, found: Interval, y: float, span: float) -> list[str]:
    if found.value is None:
        return []
    low, high = (found.value if edge is None else edge for edge in (found.low, found.high))
    ends = [f"{_NAME + share * span:.1f}" for share in (low, high)]
    told = f"{kind} {found.value:.2f} ({low:.2f} to {high:.2f})"
    return [
        f'<line class="whisker {kind}" x1="{ends[0]}" x2="{ends[1]}" y1="{y}" y2="{y}"/>',
        f'<circle class="point {kind}" cx="{_NAME + found.value * span:.1f}" cy="{y}" r="3.5">'
        f"<title>{told}</title></circle>",
    ]
