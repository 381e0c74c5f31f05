"""Many texts at once become the same tokens as one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embeddings.bundled_encoder import bundled_text_preprocessor
from embeddings.preprocess.features import Content, Features
from embeddings.preprocess.text import TextPreprocessor
from embeddings.refused import Refused


@pytest.fixture(scope="module")
def preprocessor() -> TextPreprocessor:
    return bundled_text_preprocessor()


@given(contents=st.lists(st.one_of(st.text(), st.sampled_from(["", " \n", "word " * 400, "\ud800", b"bytes"]))))
def test_many_are_what_each_is(preprocessor: TextPreprocessor, contents: list[Content]) -> None:
    many = preprocessor.many(contents)
    assert len(many) == len(contents)
    assert [seen(result) for result in many] == [seen(one(preprocessor, content)) for content in contents]


def one(preprocessor: TextPreprocessor, content: Content) -> Features | Refused:
    try:
        return preprocessor(content)
    except Refused as refused:
        return refused


def seen(result: Features | Refused) -> object:
    return (result.reason, str(result)) if isinstance(result, Refused) else (result.dtype, result.tolist())


def test_what_is_no_text_is_refused_in_its_place(preprocessor: TextPreprocessor) -> None:
    results = preprocessor.many(["a dog", "", b"bytes", "a dog"])
    assert [result.reason if isinstance(result, Refused) else len(result) for result in results] == [
        4,
        "empty",
        "wrong_type",
        4,
    ]
