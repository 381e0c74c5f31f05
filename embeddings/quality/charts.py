"""Histograms as inline SVG, without scripts; their colours are the page's, so that they follow its theme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_WIDTH, _HEIGHT, _MARGIN, _FOOT = 640, 150, 8, 22
_TICKS = 6


def histogram_svg(
    label: str, bars: Mapping[str, Any], *, outline: Mapping[str, Any] | None = None, mark: float | None = None
) -> str:
    """Bars of one histogram and, over them, the outline of another with the same bins.

    Each is drawn as shares of its own total, on a square-root scale: a handful among thousands can be seen.

    Args:
        label: what it shows, for those who do not see it.
        bars, outline: `{"low", "high", "counts"}` as `report.histogram` gives them.
        mark: a value to draw a line at.
    """
    low, high = float(bars["low"]), float(bars["high"])
    heights = _heights(bars["counts"])
    lines = _heights(outline["counts"]) if outline is not None else []
    top = max([*heights, *lines, 1e-9])
    step = (_WIDTH - 2 * _MARGIN) / len(heights)
    parts = [
        f'<rect class="bar" x="{_MARGIN + at * step + 0.5:.1f}" y="{_y(height / top):.1f}" '
        f'width="{step - 1:.1f}" height="{_HEIGHT - _FOOT - _y(height / top):.1f}"/>'
        for at, height in enumerate(heights)
        if height
    ]
    if lines:
        points = [
            f"{_MARGIN + (at + side) * step:.1f},{_y(line / top):.1f}"
            for at, line in enumerate(lines)
            for side in (0, 1)
        ]
        parts.append(f'<polyline class="outline" points="{" ".join(points)}"/>')
    if mark is not None and low <= mark <= high:
        x = _MARGIN + (mark - low) / (high - low) * (_WIDTH - 2 * _MARGIN)
        anchor, beside = ("end", -4) if x > _WIDTH / 2 else ("start", 4)
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{_HEIGHT - _FOOT}"/>')
        parts.append(f'<text class="mark-text" x="{x + beside:.1f}" y="14" text-anchor="{anchor}">{mark:.3f}</text>')
    parts.append(_axis(low, high))
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'


def _heights(counts: Sequence[int]) -> list[float]:
    total = max(sum(counts), 1)
    return [float((count / total) ** 0.5) for count in counts]


def _y(share: float) -> float:
    return 4 + (1 - share) * (_HEIGHT - _FOOT - 4)


def _axis(low: float, high: float) -> str:
    base = _HEIGHT - _FOOT
    parts = [f'<line class="axis" x1="{_MARGIN}" x2="{_WIDTH - _MARGIN}" y1="{base}" y2="{base}"/>']
    for at in range(_TICKS):
        share = at / (_TICKS - 1)
        anchor = "start" if at == 0 else "end" if at == _TICKS - 1 else "middle"
        x = _MARGIN + share * (_WIDTH - 2 * _MARGIN)
        value = low + share * (high - low)
        parts.append(f'<text class="tick" x="{x:.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{value:.2f}</text>')
    return "".join(parts)
