"""Mappings in layers: what is written over them leaves their earlier forms alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from recsys.live.layered import Layered


@given(st.lists(st.dictionaries(st.integers(0, 3000), st.integers(), max_size=700), max_size=6))
def test_a_layered_mapping_is_a_mapping_whose_earlier_forms_stay(steps: list[dict[int, int]]) -> None:
    plain: dict[int, int] = {}
    forms: list[tuple[Layered[int, int], dict[int, int]]] = []
    mapping = Layered[int, int]()
    for entries in steps:
        mapping, plain = mapping.with_entries(entries), {**plain, **entries}
        forms.append((mapping, plain))
    for now, then in forms:
        assert dict(now) == then
        assert list(now) == list(then)
        assert len(now) == len(then)
        assert all((key in now) == (key in then) and now.get(key) == then.get(key) for key in range(0, 3000, 97))
