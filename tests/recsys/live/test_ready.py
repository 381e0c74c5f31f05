"""What requests ask of one snapshot is ready in the next, before anybody asks it."""

from __future__ import annotations

from recsys.expressions.evaluation import allowed_by, lately_asked
from recsys.expressions.parsing import parse
from recsys.live import make_ready, updated, view_of
from recsys.ports import LiveItem
from tests.worlds.families import release


def priced(item_id: str) -> LiveItem:
    return LiveItem(item_id, {"price": 1.0}, {}, {}, deleted=False)


def test_what_was_asked_of_one_snapshot_is_ready_in_the_next() -> None:
    before = view_of(release())
    allowed_by(parse("price < 3"), before)
    after = updated(before, 2, [priced("c1")])
    make_ready(after, before)
    assert lately_asked(after, 9) == ["price < 3"]
    again = updated(after, 3, [priced("c2")])
    make_ready(again, after)
    assert lately_asked(again, 9) == ["price < 3"]
    another = view_of(release("r2"), [priced("c1")])
    make_ready(another, again)
    assert lately_asked(another, 9) == ["price < 3"]
