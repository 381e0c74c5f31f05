"""Columns, overlays and masks against the meaning told row by row."""

from __future__ import annotations

from dataclasses import replace
from threading import Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.catalog import CatalogItem
from recsys.errors import InvalidRequest
from recsys.expressions.attributes import known_paths, read_values
from recsys.expressions.columns import ItemColumns
from recsys.expressions.evaluation import allowed_by, mask_of, matches, require_known
from recsys.expressions.parsing import parse
from recsys.expressions.syntax import Expression, Node
from recsys.live import CatalogView, updated, view_of
from recsys.ports import LiveItem
from tests.worlds.in_memory import in_memory_release
from tests.worlds.random_expressions import catalogues, is_true, nodes


def view_with(*items: CatalogItem, live: tuple[LiveItem, ...] = ()) -> CatalogView:
    return view_of(in_memory_release(items, np.zeros((len(items), 2), np.float32)), live)


def ids(view: CatalogView, text: str) -> list[str]:
    return [view.item_id(int(row)) for row in np.flatnonzero(mask_of(parse(text), view))]


@settings(max_examples=400, deadline=None)
@given(catalogues(), nodes())
def test_a_mask_says_what_the_expression_means_row_by_row(view: CatalogView, node: Node) -> None:
    expected = [is_true(node, view, row) for row in range(len(view))]
    assert mask_of(Expression(node), view).tolist() == expected


@settings(max_examples=300, deadline=None)
@given(catalogues(), nodes(), st.integers(0, 2**32 - 1), st.booleans())
def test_some_rows_are_judged_as_in_the_whole_mask_in_any_order(
    view: CatalogView, node: Node, seed: int, is_kept: bool
) -> None:
    rows = np.random.default_rng(seed).integers(0, max(len(view), 1), 9 if len(view) else 0)
    if is_kept:
        mask_of(Expression(node), view)
    assert matches(Expression(node), view, rows).tolist() == [is_true(node, view, int(row)) for row in rows]


@settings(max_examples=100, deadline=None)
@given(catalogues(), nodes())
def test_the_canonical_text_means_the_same(view: CatalogView, node: Node) -> None:
    again = parse(Expression(node).canonical)
    assert mask_of(again, view).tolist() == [is_true(node, view, row) for row in range(len(view))]


BEACH = CatalogItem("beach", title="Day at the beach", price=10.0, attributes={"year": 1999, "tags": ["sea", "sun"]})
WARS = CatalogItem("wars", title="Star WARS", categories=("Sci-Fi", "Comedy"), attributes={"year": "1999"})
PLAIN = CatalogItem("plain", hidden=True, attributes={"size": {"width": 3, "unit": "cm"}, "colour": ["red", 5, True]})
WORLD = (BEACH, WARS, PLAIN)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('categories has "Comedy"', "wars"),
        ('categories has all ("Comedy", "Sci-Fi")', "wars"),
        ('categories has any ("Comedy", "Drama")', "wars"),
        ('categories has all ("Comedy", "Drama")', ""),
        ("categories is null", "beach plain"),
        ('tags has "sea" and not tags has "nsfw"', "beach"),
        ("price < 20 or price is null", "beach wars plain"),
        ("price != 5", "beach"),
        ("not price = 5", "beach wars plain"),
        ("price not in (10)", "wars plain"),
        ("attributes.year = 1999", "beach"),
        ('attributes.year = "1999"', "wars"),
        ("attributes.year != 5", "beach"),
        ("attributes.year is not null", "beach wars"),
        ("attributes.size.width >= 3", "plain"),
        ("attributes.size is null", "beach wars"),
        ("attributes.size = 3", ""),
        ("attributes.colour has 5", "plain"),
        ("attributes.colour has true", "plain"),
        ("attributes.colour has 1", ""),
        ('attributes.colour = "red"', ""),
        ('title contains "wars"', "wars"),
        ('title = "star wars"', ""),
        ("hidden = false", "beach wars"),
        ('item_id in ("wars", "beach", "gone")', "beach wars"),
        ('attributes.nothing = 1 or attributes.nothing.at.all has "x"', ""),
    ],
)
def test_what_an_expression_finds(text: str, expected: str) -> None:
    assert ids(view_with(*WORLD), text) == expected.split()


def test_times_are_compared_as_instants() -> None:
    item = CatalogItem("new", available_from=None)
    view = view_with(item, live=(LiveItem("new", {"available_from": "2026-01-01T01:00:00+01:00"}, {}, {}),))
    assert ids(view, 'available_from = "2026-01-01T00:00:00Z"') == ["new"]
    assert ids(view, 'available_from < "2026-01-01T00:00:00Z"') == []
    assert ids(view, "available_until is null") == ["new"]


def test_an_upsert_is_seen_at_once_and_an_older_snapshot_stays_as_it_was() -> None:
    before = view_with(*WORLD)
    assert ids(before, "price < 20") == ["beach"]
    after = updated(before, 1, [LiveItem("beach", {"price": 30}, {}, {}), LiveItem("new", {"price": 1}, {}, {})])
    assert ids(after, "price < 20") == ["new"]
    assert ids(after, 'title contains "beach"') == ["beach"], "a field that was not upserted is the release's"
    assert ids(before, "price < 20") == ["beach"]


def test_two_snapshots_of_one_version_do_not_share_masks() -> None:
    release = view_with(*WORLD).release
    cheap, dear = (view_of(release, [LiveItem("wars", {"price": price}, {}, {})], version=1) for price in (1, 99))
    assert ids(cheap, "price < 20") == ["beach", "wars"]
    assert ids(dear, "price < 20") == ["beach"]


def test_an_equal_filter_is_evaluated_once() -> None:
    view = view_with(*WORLD)
    first = allowed_by(parse("price < 20  or price IS null"), view)
    assert allowed_by(parse("(price < 20) or price is null"), view) is first
    assert view.release.columns.masks.n_hits == 1


def test_a_kept_mask_cannot_be_changed() -> None:
    mask = mask_of(parse("price < 20"), view_with(*WORLD))
    with pytest.raises(ValueError, match="read-only"):
        mask[0] = False


def test_masks_are_kept_up_to_a_bound() -> None:
    view = view_with(*WORLD)
    masks = view.release.columns.masks
    for number in range(2 * masks.capacity):
        mask_of(parse(f"price < {number}"), view)
    assert len(masks) == masks.capacity
    mask_of(parse(f"price < {2 * masks.capacity - 1}"), view)
    assert masks.n_hits == 1


def test_a_column_is_made_once_whatever_the_number_of_threads() -> None:
    columns = view_with(*WORLD).release.columns
    made: list[Any] = []
    threads = [Thread(target=lambda: made.append(columns.column(("attributes", "year")))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(map(id, made))) == 1


def test_names_that_a_client_makes_up_are_not_kept() -> None:
    view = view_with(*WORLD, live=(LiveItem("new", {"attributes": {"a": 1}}, {}, {}),))
    for number in range(100):
        mask_of(parse(f"attributes.n{number} = 1"), view)
    assert len(view.release.columns._made) == 0
    assert len(view.overlay._made) == 0


def test_an_attribute_that_no_item_has_is_refused_where_that_is_asked_for() -> None:
    view = view_with(*WORLD, live=(LiveItem("new", {"attributes": {"weight": {"kg": 1}}}, {}, {}),))
    require_known(parse("attributes.year = 1 and attributes.size.width = 2 and attributes.weight.kg > 1"), view)
    with pytest.raises(
        InvalidRequest, match=r"column 15: no item has attributes\.yaer; did you mean attributes\.year"
    ) as e:
        require_known(parse("price < 3 and attributes.yaer = 1"), view, field="/boosts/0/filter")
    assert e.value.field == "/boosts/0/filter"
    assert str(e.value).splitlines()[1:] == ["price < 3 and attributes.yaer = 1", " " * 14 + "^"]


def test_tags_are_a_field_where_there_is_one_and_else_an_attribute() -> None:
    release = view_with(*WORLD).release
    tags = pa.array([["sand"], None, []], pa.list_(pa.string()))
    view = view_of(replace(release, items=release.items.append_column("tags", tags)))
    assert ids(view, 'tags has any ("sea", "sand")') == ["beach"]
    assert ids(view, 'tags has "sea"') == []
    view = updated(view, 1, [LiveItem("wars", {"attributes": {"tags": ["sea"]}}, {}, {})])
    assert ids(view, 'tags has "sea"') == ["wars"]
    view = updated(view, 2, [LiveItem("wars", {"tags": ["space"]}, {}, {}), LiveItem("beach", {"tags": None}, {}, {})])
    assert ids(view, 'tags has any ("sea", "space")') == ["beach", "wars"]


def test_a_row_whose_attributes_cannot_be_read_has_none_and_stops_no_other() -> None:
    texts = ['{"a":1}', "not json", None, "[1]", '{"a":{"b":"x"},"c":2}', "7", "[" * 100_000]
    objects = pa.chunked_array([texts])
    assert read_values(objects, ("a",)) == [1, None, None, None, {"b": "x"}, None, None]
    assert read_values(objects, ("a", "b")) == [None] * 4 + ["x", None, None]
    paths, are_all = known_paths(objects)
    assert are_all
    assert paths == {("attributes", "a"), ("attributes", "a", "b"), ("attributes", "c")}


def test_more_names_than_are_kept_are_all_taken_as_known() -> None:
    many = CatalogItem("many", attributes={f"name {number}": number for number in range(30_000)})
    columns: ItemColumns = view_with(many).release.columns
    assert not columns.attribute_paths[1]
    assert ids(view_with(many), 'attributes."name 29999" = 29999') == ["many"]
    require_known(parse("attributes.anything = 1"), view_with(many))


def test_a_dense_column_and_a_sparse_one_say_the_same() -> None:
    rare = [CatalogItem(f"i{n}", attributes={"rare": n, "word": f"w{n}"} if n % 50 == 0 else {}) for n in range(200)]
    dense = [CatalogItem(f"i{n}", attributes={"rare": n, "word": f"w{n}"}) for n in range(200)]
    assert ids(view_with(*rare), "attributes.rare >= 100") == ["i100", "i150"]
    assert len(ids(view_with(*dense), "attributes.rare >= 100")) == 100
    for view in (view_with(*rare), view_with(*dense)):
        assert ids(view, 'attributes.word in ("w0", "w150")') == ["i0", "i150"]
        some = np.array([150, 3, 0, 150])
        expected = [True, False, False, True]
        assert matches(parse("attributes.rare > 120 and attributes.rare < 160"), view, some).tolist() == expected


@pytest.mark.parametrize("name", ["attributes.word", "attributes.number"])
@pytest.mark.parametrize(
    ("sign", "expected"),
    [("=", "b"), ("!=", "a c"), ("<", "a"), ("<=", "a b"), (">", "c"), (">=", "b c"), ("in", "b"),
     ("not in", "a c none")],
)  # fmt: skip
def test_each_sign_on_texts_and_numbers_whether_the_value_is_there_or_lies_between(
    name: str, sign: str, expected: str
) -> None:
    items = [CatalogItem(each, attributes={"word": each, "number": ord(each)}) for each in "abc"]
    view = view_with(*items, CatalogItem("none"))
    there, between = ('"b"', '"aa"') if name.endswith("word") else (ord("b"), ord("a") + 0.5)
    assert ids(view, f"{name} {sign} {f'({there})' if 'in' in sign else there}") == expected.split()
    of_between = {
        "=": "",
        "!=": "a b c",
        "<": "a",
        "<=": "a",
        ">": "b c",
        ">=": "b c",
        "in": "",
        "not in": "a b c none",
    }
    assert ids(view, f"{name} {sign} {f'({between})' if 'in' in sign else between}") == of_between[sign].split()


def test_hidden_is_read_as_the_catalogue_reads_it_and_never_missing() -> None:
    live = (
        LiveItem("beach", {"hidden": None}, {}, {}),
        LiveItem("wars", {"hidden": 1}, {}, {}),
        LiveItem("new", {}, {}, {}),
    )
    view = view_with(*WORLD, live=live)
    assert ids(view, "hidden = true") == ["wars", "plain"]
    assert ids(view, "hidden is null") == []
    assert np.array_equal(mask_of(parse("hidden = true"), view), view.hidden)


def test_changes_lie_in_few_layers_and_the_last_word_on_an_item_counts() -> None:
    items = [CatalogItem(f"i{number}", price=0.0, attributes={"at": 0}) for number in range(300)]
    view = view_of(in_memory_release(items, np.zeros((300, 2), np.float32)))
    rng, prices = np.random.default_rng(0), np.zeros(300)
    for step in range(1, 400):
        row = int(rng.integers(300))
        prices[row] = step
        fields = {"price": float(step), "attributes": {"at": step}}
        view = updated(view, step, [LiveItem(f"i{row}", fields, {}, {})])
        if step % 57 == 0:
            for name in ("price", "attributes.at"):
                assert np.array_equal(mask_of(parse(f"{name} > {step // 2}"), view), prices > step // 2)
    layers = list(view.overlay.layers())
    assert len(layers) <= 6
    assert sum(len(layer.rows) for layer in layers) <= 400
    some = rng.integers(0, 300, 50)
    assert np.array_equal(matches(parse("price <= 200"), view, some), prices[some] <= 200)
