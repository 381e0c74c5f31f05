"""Which items an expression is true of: of a whole catalogue, kept for the next request, or of some rows at once.

Letters: N rows of the release, M that came after it, C rows asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.expressions.overlay import Overlay
from recsys.expressions.parsing import nearest
from recsys.expressions.planning import plan_search
from recsys.expressions.syntax import (
    And,
    Compare,
    Contains,
    Expression,
    Has,
    In,
    IsNull,
    Node,
    Not,
    Or,
    Test,
    path_text,
)
from recsys.expressions.tokens import Source
from recsys.expressions.values import TypedColumn
from recsys.ports import AllowedRows

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]


class Filterable(Protocol):
    """A snapshot of the catalogue, as `recsys.live.CatalogView` is."""

    @property
    def overlay(self) -> Overlay: ...


def mask_of(expression: Expression, view: Filterable) -> Mask:
    """bool [N + M], the rows that an expression is true of; read-only, and kept for the next time."""
    return allowed_by(expression, view).mask


def allowed_by(expression: Expression, view: Filterable) -> AllowedRows:
    """The same, prepared for `ItemIndex.search`: once for all requests with an equal filter on an equal snapshot.

    What the release's rows say is kept with the release; a new snapshot costs the changed rows alone, and a copy.
    """
    return _kept(expression, view.overlay)


def matches(expression: Expression, view: Filterable, rows: Rows) -> Mask:
    """bool [C], of which rows int64 [C] (any order, any number of times) an expression is true. Looks at these alone,
    unless the whole mask is there already."""
    overlay = view.overlay
    masks = overlay.masks if len(overlay.rows) else overlay.columns.masks
    kept = masks.get(expression.canonical)
    if kept is not None:
        return kept.mask[rows]
    return _of_rows(expression.root, overlay, rows)


def lately_asked(view: Filterable, n: int) -> list[str]:
    """The canonical texts of the `n` expressions whose whole masks were asked for last."""
    overlay = view.overlay
    return (overlay.masks if len(overlay.rows) else overlay.columns.masks).latest(n)


def require_known(expression: Expression, view: Filterable, *, field: str = "/filter") -> None:
    """Raises InvalidRequest when an attribute is named that no item of the release and no upserted one has.

    Evaluation alone takes such an attribute as missing everywhere: whether that is a slip of the pen is to be said
    where somebody reads the answer, and not to those whose release has just changed.
    """
    overlay = view.overlay
    for column in expression.columns:
        if not overlay.knows(column.path):
            known = sorted(path_text(path) for path in overlay.columns.attribute_paths[0] | overlay.attribute_paths)
            near = nearest(path_text(column.path), known)
            message = f"no item has {path_text(column.path)[:100]}{near or '; see which attributes your items have'}"
            raise Source(expression.text, field).refused(column.at, message)


def _of_release(expression: Expression, overlay: Overlay) -> AllowedRows:
    columns = overlay.columns

    def whole(test: Test) -> Mask:
        return _tested(test, columns.column(test.column.path))

    return columns.masks.get_or_make(expression.canonical, lambda: plan_search(_evaluated(expression.root, whole)))


def _kept(expression: Expression, overlay: Overlay) -> AllowedRows:
    if not len(overlay.rows):
        return _of_release(expression, overlay)
    return overlay.masks.get_or_make(expression.canonical, lambda: _of_snapshot(expression, overlay))


def _of_snapshot(expression: Expression, overlay: Overlay) -> AllowedRows:
    """What was kept of the snapshot before, else what is below, with the rows that changed over it; the same object
    where these pass, or not, as they did."""
    masks, changed = overlay.before or (None, overlay.rows)
    known = None if masks is None else masks.get(expression.canonical)
    if known is None:
        changed = overlay.rows
        known = _of_release(expression, overlay) if overlay.below is None else _kept(expression, overlay.below)
    of_changed = _of_rows(expression.root, overlay, changed)
    if known.n_items == overlay.n_rows and np.array_equal(known.mask[changed], of_changed):
        return known
    mask = np.zeros(overlay.n_rows, dtype=np.bool_)
    mask[: known.n_items] = known.mask
    mask[changed] = of_changed
    return plan_search(mask)


def _of_rows(node: Node, overlay: Overlay, rows: Rows) -> Mask:
    """bool [C]: each test on what the release says of the rows, and where a field was upserted, on that."""
    if not len(rows):
        return np.zeros(0, dtype=np.bool_)
    found = overlay.found(rows)

    def some(test: Test) -> Mask:
        path = test.column.path
        if not found:
            return _tested(test, overlay.columns.column(path).take(rows))
        hits = np.empty(len(rows), dtype=np.bool_)
        is_released = np.ones(len(rows), dtype=np.bool_)
        for part in found:
            replaced = part.layer.replaced(path)
            is_replaced = part.is_there & replaced.is_replaced[part.at]
            hits[is_replaced] = _tested(test, replaced.column.take(part.at[is_replaced]))
            is_released &= ~is_replaced
        hits[is_released] = _tested(test, overlay.columns.column(path).take(rows[is_released]))
        return hits

    return _evaluated(node, some)


def _evaluated(node: Node, test: Callable[[Test], Mask]) -> Mask:
    """A mask of its own for each call. Where all rows are decided, the operands that are left are not looked at."""
    match node:
        case Not(operand):
            return ~_evaluated(operand, test)
        case And(operands):
            mask = _evaluated(operands[0], test)
            for each in operands[1:]:
                if not mask.any():
                    break
                mask &= _evaluated(each, test)
            return mask
        case Or(operands):
            mask = _evaluated(operands[0], test)
            for each in operands[1:]:
                if mask.all():
                    break
                mask |= _evaluated(each, test)
            return mask
        case _:
            return test(node)


def _tested(test: Test, column: TypedColumn) -> Mask:
    """bool [N], a new array."""
    match test:
        case Compare(_, operator, value):
            return column.compare(operator, value)
        case In(_, values):
            return column.is_in(values)
        case Has(_, mode, values):
            return column.has_any(values) if mode == "any" else column.has_all(values)
        case Contains(_, text):
            return column.contains(text.value)
        case IsNull():
            return ~column.there()
