from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from recsys.retrieval import SOURCES, Found, RetrievalConfig, SourceName, bit_of, merge, source_of

FOUND = st.lists(st.tuples(st.sampled_from(SOURCES), st.lists(st.integers(0, 9), unique=True)), max_size=6)


@given(FOUND)
def test_each_row_comes_once_in_the_order_of_first_appearance_with_all_its_sources(
    found: list[tuple[SourceName, list[int]]],
) -> None:
    rows, sources = merge([Found(source, np.array(rows, dtype=np.int64)) for source, rows in found])
    assert rows.dtype == sources.dtype == np.dtype(np.int64)
    assert rows.tolist() == list(dict.fromkeys(row for _, brought in found for row in brought))
    for row, bits in zip(rows.tolist(), sources.tolist(), strict=True):
        brought_by = {source for source, brought in found if row in brought}
        assert {source for source in SOURCES if bits & bit_of(source)} == brought_by
        assert source_of(bits) == min(brought_by, key=SOURCES.index)


def test_two_sources_of_one_row_are_both_kept_and_the_first_is_named() -> None:
    found = [Found("popular", np.array([7, 3])), Found("ann", np.array([3]))]
    rows, sources = merge(found)
    assert rows.tolist() == [7, 3]
    assert sources.tolist() == [bit_of("popular"), bit_of("popular") | bit_of("ann")]
    assert [source_of(bits) for bits in sources.tolist()] == ["popular", "ann"]


def test_nothing_found_is_no_candidate() -> None:
    for found in ([], [Found("ann", np.empty(0, np.int64))]):
        rows, sources = merge(found)
        assert (len(rows), len(sources)) == (0, 0)


def test_a_quota_is_never_negative() -> None:
    with pytest.raises(ValidationError):
        RetrievalConfig(ann=-1)
