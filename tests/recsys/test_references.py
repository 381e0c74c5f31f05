"""References below a root, judged by their text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from recsys.references import is_web, url_below, url_scheme

ROOT = "s3://bucket/shop"


def test_schemes_are_told_from_paths() -> None:
    assert [url_scheme(text) for text in ("S3://b/a", "a/b", "C:\\a", "http:a", "memory://")] == [
        "s3", None, None, None, "memory"
    ]  # fmt: skip
    assert is_web("HTTPS://x")
    assert not is_web("s3://x")


def test_a_path_and_its_url_name_the_same() -> None:
    assert url_below("a/../b.png", ROOT) == url_below("s3://bucket/shop/b.png", ROOT) == "s3://bucket/shop/b.png"


PARTS = st.lists(st.sampled_from(["..", ".", "", "a", "shop", "bucket", "s3:", "..."]), max_size=8)


@given(PARTS, st.sampled_from(["", "s3://", "s3://bucket/", "s3://bucket/shop/", "S3://bucket/shop", "/"]))
def test_nothing_ever_leaves_the_root(parts: list[str], start: str) -> None:
    url = url_below(start + "/".join(parts), ROOT)
    if url is not None:
        assert url.startswith(ROOT + "/")
        assert ".." not in url.removeprefix(ROOT).split("/")
