"""What Pillow does not look at in a PNG: rows that never come, which it leaves black, and chunks without number."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from itertools import islice

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_PIECE = 2**20
_MAX_CHUNKS = 20_000  # 24 MB in the usual 8 kB are 3,000; Pillow takes seconds over millions of empty ones


def has_too_many_chunks(content: bytes) -> bool:
    return sum(1 for _ in islice(_chunks(content), _MAX_CHUNKS + 1)) > _MAX_CHUNKS


def has_all_rows(content: bytes) -> bool:
    """Inflate a PNG that Pillow has read, and count its bytes (sections 7 to 9 of the PNG specification)."""
    width, height, bits, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", content, 16)
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    n_promised = 0
    for left, top, across, down in passes:
        n_columns, n_rows = -((left - width) // across), -((top - height) // down)
        if n_columns > 0 and n_rows > 0:
            n_promised += n_rows * (1 + -(-n_columns * bits * _SAMPLES[colour] // 8))  # 1: the row's filter
    inflate, n_found = zlib.decompressobj(), 0
    for kind, start, end in _chunks(content):
        data = content[start:end] if kind == b"IDAT" else b""
        while data and n_found < n_promised:
            n_found += len(inflate.decompress(data, _PIECE))
            data = inflate.unconsumed_tail
    return n_found + len(inflate.flush()) >= n_promised


def _chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, and where its data begin and end."""
    at = 8
    while at + 8 <= len(content):
        n_bytes, kind = struct.unpack_from(">I4s", content, at)
        yield kind, at + 8, at + 8 + n_bytes
        at += 12 + n_bytes
