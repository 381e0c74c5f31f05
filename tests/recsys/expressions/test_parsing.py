"""What is read, what is refused and where the caret stands, and that the canonical text is read again."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recsys.errors import InvalidRequest
from recsys.expressions.parsing import parse
from recsys.expressions.syntax import (
    And,
    Column,
    Compare,
    Contains,
    Expression,
    Flag,
    Has,
    In,
    IsNull,
    Moment,
    Node,
    Not,
    Number,
    Or,
    Text,
)
from recsys.expressions.tokens import ExpressionLimits
from tests.worlds.random_expressions import nodes

PRICE, TITLE, HIDDEN, TAGS = (Column((name,)) for name in ("price", "title", "hidden", "tags"))
FROM = Column(("available_from",))
CHEAP, SHOWN = Compare(PRICE, "<", Number(20.0)), Compare(HIDDEN, "=", Flag(False))
ROOMY = ExpressionLimits(
    max_characters=1_000_000, max_tokens=100_000, max_depth=64, max_path_parts=64, max_text_searches=1_000
)


def attribute(*path: str) -> Column:
    return Column(("attributes", *path))


@pytest.mark.parametrize(
    ("text", "root"),
    [
        ("price < 20", CHEAP),
        ("price<20.0", CHEAP),
        (" price \t<\n2e1 ", CHEAP),
        ("(((price < 20)))", CHEAP),
        ("price >= -0", Compare(PRICE, ">=", Number(0.0))),
        ('title != "a\\"b\\u00e9"', Compare(TITLE, "!=", Text('a"bé'))),
        ("hidden = false", SHOWN),
        ("HIDDEN = false".lower(), SHOWN),
        ("hidden = FALSE", SHOWN),
        ("price is null", IsNull(PRICE)),
        ("price IS NOT NULL", Not(IsNull(PRICE))),
        ('title in ("b", "a", "b")', In(TITLE, (Text("a"), Text("b")))),
        ('title not in ("a")', Not(In(TITLE, (Text("a"),)))),
        ('not title in ("a")', Not(In(TITLE, (Text("a"),)))),
        ('tags has "x"', Has(TAGS, "any", (Text("x"),))),
        ('tags has all ("x")', Has(TAGS, "any", (Text("x"),))),
        ('tags has any ("x", "y")', Has(TAGS, "any", (Text("x"), Text("y")))),
        ('tags has all ("y", "x")', Has(TAGS, "all", (Text("x"), Text("y")))),
        ('title contains "wars"', Contains(TITLE, Text("wars"))),
        ('available_from <= "2026-01-01T01:00:00+01:00"', Compare(FROM, "<=", Moment(1_767_225_600_000))),
        ("attributes.year >= 1995", Compare(attribute("year"), ">=", Number(1995.0))),
        ("attributes.size.width = true", Compare(attribute("size", "width"), "=", Flag(True))),
        ('attributes."screen size"."a.b".in > 3', Compare(attribute("screen size", "a.b", "in"), ">", Number(3.0))),
        ("attributes.größe-2 > 3", Compare(attribute("größe-2"), ">", Number(3.0))),
        ("attributes.3d = 1", Compare(attribute("3d"), "=", Number(1.0))),
        ('attributes.colour in ("red", 3, true)', In(attribute("colour"), (Text("red"), Number(3.0), Flag(True)))),
        ("attributes.colour has 3", Has(attribute("colour"), "any", (Number(3.0),))),
        ("price < 20 or hidden = false and price is null", Or((CHEAP, And((SHOWN, IsNull(PRICE)))))),
        ("(price < 20 or hidden = false) and price is null", And((Or((CHEAP, SHOWN)), IsNull(PRICE)))),
        ("not price < 20 and hidden = false", And((Not(CHEAP), SHOWN))),
        ("not (price < 20 and hidden = false)", Not(And((CHEAP, SHOWN)))),
        ("not not price < 20", Not(Not(CHEAP))),
        ("price < 20 and (hidden = false and price is null)", And((CHEAP, SHOWN, IsNull(PRICE)))),
    ],
)  # fmt: skip
def test_what_is_read(text: str, root: Node) -> None:
    assert parse(text) == Expression(root)
    assert parse(parse(text).canonical) == Expression(root)


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        ("", 1, "expected a test such as price < 20, not, or (, found the end"),
        ("price", 6, "expected =, !=, <, <=, >, >=, in, not in, has, contains or is null, found the end"),
        ("price <", 8, "expected a number, found the end"),
        ("price < and hidden = true", 9, "expected a number, found and"),
        ('price < "a"', 9, 'price is compared with a number, found "a"'),
        ("title = 3", 9, 'title is compared with a text in double quotes, like "red", found 3'),
        ("title = red", 9, 'a text stands in double quotes: "red"'),
        ("title = 'red'", 9, 'text stands in double quotes, like "red"'),
        ('title = "red', 9, "a text that does not end"),
        ("hidden", 7, "expected ="),
        ("hidden = 1", 10, "hidden is compared with true or false, found 1"),
        ("hidden < true", 8, "true and false have no order"),
        ("attributes.a > false", 14, "true and false have no order"),
        ("prise < 3", 1, "no column prise; did you mean price, or attributes.prise for what items have besides"),
        ("year > 3", 1, "there is no column year; they are item_id, title"),
        ("price < 3 and cateogries has 3", 15, "did you mean categories"),
        ("title.en = 3", 1, "title has no parts; attributes has"),
        ("attributes = 3", 1, "name a part of it, as attributes.colour"),
        ("attributes. = 3", 11, "a name must follow the dot"),
        ('categories = "a"', 12, "categories is a list: write has, has any (...) or has all (...)"),
        ('tags in ("a")', 6, "tags is a list"),
        ('tags not in ("a")', 6, "tags is a list"),
        ('tags contains "a"', 6, "tags is no text: write has instead of contains"),
        ('title has "a"', 7, "title is no list: write =, or in (...), instead of has"),
        ('price contains "a"', 7, "price is no text"),
        ('title contains ""', 16, "every text contains the empty one"),
        ("title contains 3", 16, "expected a text in double quotes"),
        ('available_from < "2026-01-01"', 18, "available_from is compared with a time in RFC 3339 with a zone"),
        ('available_from < "tomorrow"', 18, "RFC 3339"),
        ('available_from < "1767225600"', 18, "RFC 3339"),
        ('available_from < "9999-12-31T23:59:59-05:00"', 18, "RFC 3339"),
        ('available_from < ""', 18, "RFC 3339"),
        ("available_from < 5", 18, "RFC 3339"),
        ("price = null", 9, "nothing equals null: write price is null, or is not null"),
        ("price is 3", 10, "expected null, found 3"),
        ("price not 3", 11, "expected in, found 3"),
        ("price in 3", 10, "expected (, found 3"),
        ("price in ()", 11, "expected a number, found )"),
        ("price in (3", 12, "expected , or ), found the end"),
        ("price in (3,)", 13, "expected a number, found )"),
        ("(price < 3", 11, "expected ), found the end"),
        ("price < 3)", 10, "expected and, or, or the end, found )"),
        ("price < 3 hidden = true", 11, "expected and, or, or the end, found hidden"),
        ("price == 3", 7, "write = once"),
        ("price <> 3", 7, "write !="),
        ("price < 3 && hidden = true", 11, "write and"),
        ("price < 3 || hidden = true", 11, "write or"),
        ("!hidden = true", 1, "write not, or !="),
        ("price < .5", 9, "a number has a digit before it, like 0.5"),
        ("price < 007", 9, "numbers are written like 20, -1.5 or 1e3"),
        ("price < +5", 9, "numbers are written like"),
        ("price < 1e999", 9, "the number is too large; at most 1.7e308 is allowed"),
        ("price < 9007199254740993", 9, "whole numbers beyond 9007199254740991 are not told apart"),
        ("price < 3; drop table", 10, "; means nothing here"),
        ('title = "\\ud800"', 9, "half of a surrogate pair"),
        ('title = "\ud800"', 10, "half of a surrogate pair"),
        ('title = "\\x41"', 9, "it is written as in JSON"),
        ('title = "a\x00"', 9, "a control character"),
        ("price < 3\x00", 10, "� means nothing here"),
    ],
)  # fmt: skip
def test_what_is_refused_and_where(text: str, at: int, says: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        parse(text)
    message, excerpt, caret = str(error.value).split("\n")
    assert message.startswith(f"column {at}: ")
    assert says in message
    assert caret == " " * (at - 1) + "^"
    assert len(excerpt) == len(text)
    assert error.value.field == "/filter"
    assert json.loads(json.dumps(str(error.value)).encode("utf-8")) == str(error.value)


def test_a_long_filter_is_shown_around_the_caret_alone() -> None:
    text = " or ".join(["price < 20"] * 20) + " or price < x" + " or price < 20" * 20
    with pytest.raises(InvalidRequest, match="column 289") as error:
        parse(text, field="/boosts/0/filter")
    _, excerpt, caret = str(error.value).split("\n")
    assert excerpt.startswith("…")
    assert excerpt.endswith("…")
    assert len(excerpt) < 80
    assert excerpt[len(caret) - 1] == "x"
    assert error.value.field == "/boosts/0/filter"


@pytest.mark.parametrize(
    ("limits", "fits", "says"),
    [
        ({"max_characters": 10}, "price < 20", "the filter has 11 characters; at most 10 are allowed"),
        ({"max_tokens": 3}, "price < 20", "more than the 3 words and signs allowed"),
        ({"max_depth": 2}, "not (price < 20)", "more than the 2 deep that are allowed"),
        ({"max_values": 2}, "price in (1, 2)", "more than the 2 values allowed"),
        ({"max_path_parts": 3}, "attributes.a.b = 1", "has 4 parts; at most 3 are allowed"),
        ({"max_text_searches": 1}, 'title contains "a"', "more often than the 1 times allowed"),
    ],
)
def test_each_limit_is_kept_and_said(limits: dict[str, int], fits: str, says: str) -> None:
    beyond = {
        "max_characters": f"{fits} ",
        "max_tokens": f"{fits} or hidden = true",
        "max_depth": f"not {fits}",
        "max_values": "price in (1, 2, 3)",
        "max_path_parts": "attributes.a.b.c = 1",
        "max_text_searches": f'{fits} or title contains "b"',
    }
    parse(fits, ExpressionLimits(**limits))
    with pytest.raises(InvalidRequest, match=says.replace("(", r"\(")):
        parse(beyond[next(iter(limits))], ExpressionLimits(**limits))


@settings(max_examples=500, deadline=None)
@given(nodes(anything=True))
@example(Compare(attribute(""), "=", Number(-0.0)))
@example(Compare(attribute("and", '"', "\x00\n"), "=", Text("\x7f\u2028\\")))
@example(Compare(attribute("a"), "=", Number(float(2**53))))
@example(Compare(attribute("a"), "<", Number(5e-324)))
@example(Compare(Column(("available_from",)), "=", Moment(-62_135_596_800_000)))
def test_the_canonical_text_of_any_expression_is_read_as_that_expression(root: Node) -> None:
    expression = Expression(root)
    again = parse(expression.canonical, ROOMY)
    assert again == expression
    assert again.canonical == expression.canonical == str(expression)


def test_true_and_one_are_not_the_same_filter() -> None:
    texts = ("attributes.a = true", "attributes.a = 1", 'attributes.a = "1"')
    assert len({parse(text).canonical for text in texts}) == 3
    assert parse(texts[0]) != parse(texts[1])


def test_an_expression_names_its_columns_each_once_in_the_order_written() -> None:
    columns = parse("price < 3 and not (hidden = true or price > 1) and attributes.a.b = 1").columns
    assert [str(column) for column in columns] == ["price", "hidden", "attributes.a.b"]
    assert [column.at for column in columns] == [0, 19, 51]


HOSTILE = [
    "(" * 10_000,
    "(" * 10_000 + "price < 1" + ")" * 10_000,
    "not " * 10_000 + "price < 1",
    "price < 1 and " * 10_000,
    "price < 1 or\x00",
    "\ud800",
    'title = "' + "\\" * 9_999,
    'title = "' + "a" * 100_000,
    '"' * 8_000,
    "price < " + "9" * 8_000,
    "price < 1e" + "9" * 8_000,
    "price < 0." + "0" * 8_000 + "1",
    "price < -" + "9" * 5_000 + ".5",
    "attributes" + ".a" * 4_000 + " = 1",
    'attributes' + '."' * 4_000,
    "price in (" + "1," * 4_000 + "1)",
    "price in (" + "(" * 4_000,
    "a" * 8_000,
    "attributes." + "a" * 8_000,
    "\u202e\u0000\uffff" * 100,
    'available_from < "0000-01-01T00:00:00Z"',
    'available_from < "2026-13-45T99:99:99+99:99"',
    'available_from < "' + "9" * 400 + '"',
    "ﬀ" * 1_000 + " = 1",
    "٣ < 1",
    "price < ٣",
]  # fmt: skip


def refused_or_read(text: str, limits: ExpressionLimits) -> None:
    refusal = ""
    try:
        expression = parse(text, limits)
    except InvalidRequest as error:
        refusal = str(error)
    else:
        assert parse(expression.canonical, ROOMY) == expression
    assert len(refusal.encode("utf-8")) < 900


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
@pytest.mark.parametrize("limits", [ExpressionLimits(), ROOMY], ids=["default", "roomy"])
def test_hostile_texts_raise_nothing_but_a_refusal(text: str, limits: ExpressionLimits) -> None:
    refused_or_read(text, limits)


WORDS = """price title tags attributes.a hidden available_from and or not in has any all contains is null true
( ) , = != < 3 -1.5e3 "a" "2026-01-01T00:00:00Z" """


@settings(max_examples=500, deadline=None)
@given(
    st.one_of(
        st.lists(st.sampled_from(WORDS.split()), max_size=12).map(" ".join), st.text(st.characters(), max_size=60)
    )
)
def test_any_text_is_read_or_refused(text: str) -> None:
    refused_or_read(text, ExpressionLimits())
