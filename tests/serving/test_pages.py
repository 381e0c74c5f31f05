"""Page tokens on their own: what is written is read back, and nothing else is."""

from __future__ import annotations

import base64
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys.errors import InvalidRequest
from recsys.events import hash64
from serving.pages import MAX_AGE_S, MAX_ITEMS, MAX_ITEMS_IN_URL, MAX_PAGES, Page, PageTokens, asked_digest

KEY = b"0123456789abcdef0123456789abcdef"
NOW_S = 1_800_000_000
FIRST = Page("0123456789abcdef" * 2, 0, np.empty(0, np.uint32))
ASKED = asked_digest("recommendations", None, "u")
TOKENS = PageTokens(KEY)


def hashes(*names: str) -> NDArray[np.uint64]:
    return np.array([hash64(name) for name in names], dtype=np.uint64)


def written(page: Page = FIRST, *names: str) -> str:
    token = TOKENS.write(page, ASKED, hashes(*names), NOW_S)
    assert token is not None
    return token


def refusal(token: str, asked: bytes = ASKED, now_s: int = NOW_S, tokens: PageTokens = TOKENS) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as error:
        tokens.read(token, asked, now_s)
    assert error.value.field == "/page_token"
    return error.value


def test_a_token_says_which_page_comes_next_and_what_was_shown() -> None:
    page = TOKENS.read(written(FIRST, "a", "b"), ASKED, NOW_S + 60)
    assert (page.recommendation_id, page.number) == (FIRST.recommendation_id, 1)
    assert page.shown.tolist() == sorted(hashes("a", "b").astype(np.uint32).tolist())


def test_twenty_pages_of_five_hundred_are_all_remembered() -> None:
    page, names = FIRST, [f"item {number}" for number in range(10_000)]
    for start in range(0, len(names), 500):
        page = TOKENS.read(written(page, *names[start : start + 500]), ASKED, NOW_S)
    assert page.number == 20
    shown = np.unique(hashes(*names).astype(np.uint32))
    assert np.array_equal(page.shown, shown)
    assert np.all(page.shown[1:] > page.shown[:-1])


def test_a_token_that_comes_back_in_an_address_is_no_longer_than_an_address_may_be() -> None:
    shown = np.arange(MAX_ITEMS_IN_URL, dtype=np.uint64)
    token = TOKENS.write(FIRST, ASKED, shown, NOW_S, MAX_ITEMS_IN_URL)
    assert token is not None
    assert len(token) < 57_000
    assert TOKENS.write(FIRST, ASKED, np.arange(MAX_ITEMS_IN_URL + 1, dtype=np.uint64), NOW_S, MAX_ITEMS_IN_URL) is None


def test_a_token_is_of_one_key_and_all_workers_with_that_key_read_it() -> None:
    token = written(FIRST, "a")
    assert PageTokens(KEY).read(token, ASKED, NOW_S).number == 1
    assert "no page token of this service" in str(refusal(token, tokens=PageTokens(KEY[::-1])))


def test_a_token_ends_after_a_day() -> None:
    token = written(FIRST, "a")
    assert TOKENS.read(token, ASKED, NOW_S + MAX_AGE_S).number == 1
    assert "expired" in str(refusal(token, now_s=NOW_S + MAX_AGE_S + 1))


@pytest.mark.parametrize(
    "other",
    [
        asked_digest("search", None, "u"),
        asked_digest("recommendations", None, "v"),
        asked_digest("recommendations", None, None),
        asked_digest("recommendations", "u", None),
        asked_digest("recommendations", None, "u", ""),
    ],
)
def test_a_token_is_of_one_request(other: bytes) -> None:
    assert "another request" in str(refusal(written(FIRST, "a"), asked=other))


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_token_with_any_bit_changed_is_none(at: int, bit: int) -> None:
    token = written(FIRST, "a", "b", "c")
    raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    raw[at % len(raw)] ^= 1 << bit
    refusal(base64.urlsafe_b64encode(bytes(raw)).rstrip(b"=").decode())


@given(length=st.integers(0, 10_000))
def test_a_token_that_was_cut_is_none(length: int) -> None:
    token = written(FIRST, *map(str, range(20)))
    refusal(token[: length % len(token)])


@given(text=st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_no_text_that_was_not_written_here_is_a_token(text: str) -> None:
    refusal(text)


def test_the_last_page_that_a_token_can_tell_of_is_the_last() -> None:
    last = replace(FIRST, number=MAX_PAGES)
    assert TOKENS.write(last, ASKED, hashes("a"), NOW_S) is None
    full = replace(FIRST, shown=np.arange(MAX_ITEMS, dtype=np.uint32))
    assert TOKENS.write(full, ASKED, np.array([MAX_ITEMS], np.uint64), NOW_S) is None
    token = TOKENS.write(full, ASKED, np.array([0], np.uint64), NOW_S)
    assert token is not None
    assert len(TOKENS.read(token, ASKED, NOW_S).shown) == MAX_ITEMS
