"""Tables of a head's report, with headers that a screen reader reads out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from embeddings.quality.page_parts import count, safe, short
from embeddings.tagging.report_figures import Confusion

MAX_TAGS, MAX_PAIRS = 20, 30
_SHADES = (0.02, 0.08, 0.25, 0.5)
"""Shares of a row from which a cell is coloured more."""


Cell = str | tuple[str, str]
"""A text, or a figure and what stands small below it."""


def data_table(caption: str, head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """The first cell of each row names it."""
    top = "".join(f'<th scope="col">{safe(cell)}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{_inside(row[0])}</th>'
        + "".join(f"<td>{_inside(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table aria-label="{safe(caption)}"><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>\n"
    )


def _inside(cell: Cell) -> str:
    return safe(cell) if isinstance(cell, str) else f"{safe(cell[0])}<small>{safe(cell[1])}</small>"


def confusion_html(found: Confusion, names: Mapping[str, str], *, exclusive: bool) -> str:
    """The matrix of the tags that are confused most, and the pairs behind it."""
    counts = np.array(found.counts, np.int64)
    if not counts.size or not counts.sum():
        return ""
    called = [names.get(tag, tag) for tag in found.tags]
    chosen = _most_confused(counts)
    about = (
        "Rows: the tag that items have; columns: the surest one given."
        if exclusive
        else "On the diagonal: rightly given. Beside it: items that have the row's tag, and were given the column's "
        "without having that."
    )
    left = f" The {len(chosen)} of {len(called)} tags with the most to tell." if len(chosen) < len(called) else ""
    head = "".join(f'<th scope="col">{safe(short(called[at], 18))}</th>' for at in chosen)
    totals = counts.sum(axis=1)
    rows = "".join(_row(row, chosen, counts, totals[row], called[row]) for row in chosen)
    matrix = (
        '<div class="scroll"><table class="confusion" aria-label="Confusion matrix">'
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table></div>\n"
    )
    return f"<p>{about}{left}</p>{matrix}{_pairs(counts, called)}"


def _row(row: int, chosen: Sequence[int], counts: np.ndarray, total: int, name: str) -> str:
    cells = []
    for column in chosen:
        n = int(counts[row, column])
        shade = sum(n / max(total, 1) >= share for share in _SHADES)
        kinds = ["zero" if not n else f"h{shade}", *(["wrong"] if row != column else [])]
        cells.append(f'<td class="{" ".join(kinds)}">{count(n)}</td>')
    return f'<tr><th scope="row">{safe(short(name, 24))}</th>{"".join(cells)}</tr>'


def _most_confused(counts: np.ndarray) -> list[int]:
    """Places of the tags with the most confusions, in their own order."""
    wrong = counts - np.diag(np.diag(counts))
    told = wrong.sum(axis=0) + wrong.sum(axis=1) + 1e-6 * np.diag(counts)
    return sorted(np.argsort(-told, kind="stable")[:MAX_TAGS].tolist())


def _pairs(counts: np.ndarray, called: Sequence[str]) -> str:
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MAX_PAIRS]
    rows = [
        (called[row], called[column], count(int(wrong[row, column])))
        for row, column in zip(*np.unravel_index(order, wrong.shape), strict=True)
        if wrong[row, column]
    ]
    if not rows:
        return ""
    table = data_table("What is confused most", ("Has", "Was given", "Items"), rows)
    return f"<details><summary>What is confused most</summary>{table}</details>"
