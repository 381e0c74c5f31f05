from __future__ import annotations

import numpy as np
import pytest

from recsys.catalog import CatalogItem, items_table
from recsys.features.kinds import MAX_VALUES, Kinds

ITEMS = [
    CatalogItem("a", categories=("Fire", "Water"), price=3.0, attributes={"brand": "x", "tags": ["1", 2]}),
    CatalogItem("b", categories=("Water",), price=3.0, attributes={"brand": "y"}),
    CatalogItem("c", attributes={"brand": "x", "size": {"w": 1}}),
]
EVERY_ROW = np.arange(3)


@pytest.fixture
def kinds() -> Kinds:
    return Kinds(items_table(ITEMS, [0, 1, 2]))


def values_in_common(kinds: Kinds, column: str) -> list[list[int]]:
    codes = [{code for code in row if code >= 0} for row in kinds.of_rows(column, EVERY_ROW).tolist()]
    return [[len(mine & theirs) for theirs in codes] for mine in codes]


def test_equal_values_have_equal_codes(kinds: Kinds) -> None:
    assert values_in_common(kinds, "categories") == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert values_in_common(kinds, "price") == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert values_in_common(kinds, "attributes.brand") == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    assert values_in_common(kinds, "attributes.tags") == [[2, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert values_in_common(kinds, "attributes.size")[2][2] == 1


def test_a_column_that_nobody_has_is_empty(kinds: Kinds) -> None:
    for column in ("attributes.none", "colour"):
        assert kinds.of_rows(column, EVERY_ROW).tolist() == [[-1]] * 3


def test_rows_may_be_asked_for_in_any_order_and_answers_are_copies(kinds: Kinds) -> None:
    both = kinds.of_rows("categories", np.array([2, 0]))
    assert np.array_equal(both, kinds.of_rows("categories", EVERY_ROW)[[2, 0]])
    both[:] = 7
    assert kinds.of_rows("categories", np.array([0])).tolist() != [[7, 7]]


def test_an_upserted_item_has_the_codes_it_would_have_in_a_release(kinds: Kinds) -> None:
    for column in ("categories", "price", "attributes.brand", "attributes.tags", "attributes.size"):
        for row, item in enumerate(ITEMS):
            mine = kinds.of_fields(column, item.to_json())
            assert mine.tolist() == kinds.of_rows(column, np.array([row]))[0].tolist()
    assert kinds.of_fields("attributes.brand", {"attributes": '{"brand":"x"}'})[0] == kinds.of_rows(
        "attributes.brand", np.array([0])
    )


def test_what_an_item_has_beyond_the_width_is_not_counted(kinds: Kinds) -> None:
    assert len(kinds.of_fields("categories", {"categories": list("abcdef")})) == 2
    many = Kinds(items_table([CatalogItem("a", categories=tuple(map(str, range(50))))], [0]))
    assert many.of_rows("categories", np.zeros(1, np.int64)).shape == (1, MAX_VALUES)


def test_an_empty_catalogue_has_no_kinds() -> None:
    empty = Kinds(items_table([], []))
    assert empty.of_rows("categories", np.array([-1, 4])).tolist() == [[-1], [-1]]
    assert empty.of_fields("categories", {"categories": ["Fire"]}).tolist() != [-1]
