"""accepted + quarantined = rows in the file, whatever its bytes are."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.ingest.validate import Validated
from tests.recsys.ingest.folder import Folder, of_kind

GOOD = b'{"user_id":"u","item_id":"a"}'
BITS = [b'"', b",", b"{", b"}", b"\\", b"\\ud800", b"\r", b"\x00", b" ", b"\xc3", b"\xa9", b"\xef\xbb\xbf", b"'"]
VALUES = [b"u", b"a", b"u,a", b'"u","a"', b"NaN", b"1e999", b"-1", b"[" * 3000, b'{"user_id":"', GOOD]
PIECES = st.sampled_from(BITS + VALUES)
LINE = st.one_of(st.binary(max_size=30), st.lists(PIECES, max_size=6).map(b"".join)).map(
    lambda line: line.replace(b"\n", b"")
)
LINES = st.lists(LINE, max_size=12)


def validated(name: str, content: bytes) -> Validated:
    with tempfile.TemporaryDirectory() as where:
        return Folder(Path(where)).write(name, content).validate()


def check(result: Validated, n_rows: int) -> None:
    counts = of_kind(result, "interactions")
    assert counts.n_rows == n_rows
    assert counts.n_accepted == len(result.interactions)
    assert counts.n_quarantined == len(result.quarantine) == sum(counts.reasons.values())
    assert counts.n_accepted + counts.n_quarantined == n_rows
    lines = result.interactions["line"].to_pylist() + result.quarantine["line"].to_pylist()
    assert len(set(lines)) == n_rows


@settings(max_examples=100, deadline=None)
@given(LINES)
def test_every_line_of_json_is_accepted_or_quarantined(lines: list[bytes]) -> None:
    content = [GOOD, *lines]
    check(validated("interactions.jsonl", b"\n".join(content)), sum(1 for line in content if line.strip()))


@settings(max_examples=100, deadline=None)
@given(LINES)
def test_every_line_of_csv_without_quotes_is_accepted_or_quarantined(lines: list[bytes]) -> None:
    content = [b"u,a", *(line.replace(b'"', b"") for line in lines)]
    rows = sum(1 for line in content if line.decode("utf-8", "surrogateescape").strip())
    check(validated("interactions.csv", b"user_id,item_id\n" + b"\n".join(content)), rows)


@settings(max_examples=100, deadline=None)
@given(LINES)
def test_with_quotes_no_line_of_csv_is_lost_and_no_good_one_before_them(lines: list[bytes]) -> None:
    result = validated("interactions.csv", b"user_id,item_id\nu,a\n" + b"\n".join(lines))
    counts = of_kind(result, "interactions")
    assert counts.n_rows == len(result.interactions) + len(result.quarantine)
    assert result.interactions["line"][0].as_py() == 2
    # A record may span lines, so there are at most as many rows as lines.
    assert counts.n_rows <= 1 + len(lines)
