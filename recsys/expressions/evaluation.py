"""Which items an expression is true of: of a whole catalogue, kept for the next request, or of some rows at once.

Letters: N rows of the release, M that came after it, R changed ones, C rows asked for.
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
    overlay = view.overlay
    if not len(overlay.rows):
        return _of_release(expression, overlay)
    return overlay.masks.get_or_make(expression.canonical, lambda: _of_snapshot(expression, overlay))


def matches(expression: Expression, view: Filterable, rows: Rows) -> Mask:
    """bool [C], of which rows int64 [C] (any order, any number of times) an expression is true. Looks at these alone,
    unless the whole mask is there already."""
    overlay = view.overlay
    masks = overlay.masks if len(overlay.rows) else overlay.columns.masks
    kept = masks.get(expression.canonical)
    if kept is not None:
        return kept.mask[rows]
    return _of_rows(expression.root, overlay, rows)


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


def _of_snapshot(expression: Expression, overlay: Overlay) -> AllowedRows:
    mask = np.zeros(overlay.n_rows, dtype=np.bool_)
    mask[: overlay.columns.n_rows] = _of_release(expression, overlay).mask
    mask[overlay.rows] = _of_rows(expression.root, overlay, overlay.rows)
    return plan_search(mask)


def _of_rows(node: Node, overlay: Overlay, rows: Rows) -> Mask:
    """bool [C]: each test on what the release says of the rows, and where a field was upserted, on that."""
    if not len(rows):
        return np.zeros(0, dtype=np.bool_)
    at, is_changed = _changed(overlay, rows)

    def some(test: Test) -> Mask:
        path = test.column.path
        if not is_changed.any():
            return _tested(test, overlay.columns.column(path).take(rows))
        replaced = overlay.replaced(path)
        is_replaced = is_changed & replaced.is_replaced[at]
        hits = np.empty(len(rows), dtype=np.bool_)
        hits[is_replaced] = _tested(test, replaced.column.take(at[is_replaced]))
        hits[~is_replaced] = _tested(test, overlay.columns.column(path).take(rows[~is_replaced]))
        return hits

    return _evaluated(node, some)


def _changed(overlay: Overlay, rows: Rows) -> tuple[Rows, Mask]:
    """The places of rows among the changed ones int64 [C], and whether they are there."""
    if not len(overlay.rows):
        return np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=np.bool_)
    at = np.minimum(np.searchsorted(overlay.rows, rows), len(overlay.rows) - 1)
    return at, overlay.rows[at] == rows


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
