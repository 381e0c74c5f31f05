from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import SpaceMismatch
from recsys.manifest import (
    EmbeddingSpace,
    FileEntry,
    canonical_json,
    fingerprint,
    release_id_of,
    sha256_bytes,
    sha256_file,
)

SPACE = EmbeddingSpace(encoder="fake", modality="image", weights_sha256="0" * 64, preprocessing="{}", dim=8)
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def entry(content: bytes) -> FileEntry:
    return FileEntry(sha256=sha256_bytes(content), size_bytes=len(content))


def test_canonical_json_does_not_depend_on_the_order_of_keys() -> None:
    assert canonical_json({"b": [1, 2.5], "a": "é"}) == canonical_json({"a": "é", "b": [1, 2.5]})
    assert canonical_json({"b": [1, 2.5], "a": "é"}) == '{"a":"é","b":[1,2.5]}'


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError):
        canonical_json({"ndcg": float("nan")})


def test_a_fingerprint_tells_values_apart() -> None:
    assert fingerprint({"a": 1}) == fingerprint({"a": 1})
    assert len({fingerprint(value) for value in ({"a": 1}, {"a": "1"}, {"a": [1]}, {"a": 1.5}, {}, None)}) == 6
    assert len(fingerprint({})) == 16


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("encoder", "other"),
        ("modality", "text"),
        ("weights_sha256", "1" * 64),
        ("preprocessing", '{"size":224}'),
        ("dim", 9),
        ("normalised", False),
        ("similarity", "inner_product"),
    ],
)
def test_whatever_differs_makes_another_space_and_is_named(field: str, value: Any) -> None:
    other = SPACE.model_copy(update={field: value})
    assert other.space_id != SPACE.space_id
    with pytest.raises(SpaceMismatch, match=f"{field}: "):
        SPACE.require(other)


def test_a_space_is_the_same_as_its_like() -> None:
    again = EmbeddingSpace.model_validate_json(SPACE.model_dump_json())
    assert again.space_id == SPACE.space_id
    SPACE.require(again)


def test_the_checksum_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    assert sha256_file(path) == EMPTY_SHA256
    path.write_bytes(b"x" * 1_000_003)
    assert FileEntry.of(path) == entry(b"x" * 1_000_003)


def test_a_release_id_is_the_sha256_of_its_sorted_lines() -> None:
    files = {"b": entry(b"two"), "a": entry(b"one")}
    lines = f"a {sha256_bytes(b'one')}\nb {sha256_bytes(b'two')}\n"
    assert release_id_of(files) == sha256_bytes(lines.encode())
    assert release_id_of({}) == EMPTY_SHA256


@given(st.dictionaries(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1), st.binary()))
def test_a_release_id_depends_on_names_and_bytes_and_nothing_else(contents: dict[str, bytes]) -> None:
    files = {name: entry(content) for name, content in contents.items()}
    assert release_id_of(dict(reversed(files.items()))) == release_id_of(files)
    for name in contents:
        renamed = {(f"{key}-" if key == name else key): value for key, value in files.items()}
        changed = {**files, name: entry(contents[name] + b"!")}
        without = {key: value for key, value in files.items() if key != name}
        assert len({release_id_of(each) for each in (files, renamed, changed, without)}) == 4
