"""The members of a tar file: where the bytes of each lie. Nothing is unpacked.

Formats: POSIX.1-1988 (ustar), POSIX.1-2001 (pax) and GNU, long names of each and sizes beyond 8 GiB included.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

BLOCK = 512
_MAX_HEADER_BYTES = 1 << 20  # of a long name or a pax header: more is no name
_REGULAR = (b"0", b"\0", b"7")
_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, folders, pipes: whatever size they claim
_SPARSE = b"S"


class DamagedTar(Exception):
    """From here on nothing can be read. What was found before is good."""


@dataclass(frozen=True, slots=True)
class TarMember:
    """A regular file in a tar: its name without a leading `./`, and its bytes at `offset`."""

    name: str
    offset: int
    size: int


@dataclass(slots=True)
class _Overrides:
    """What extended headers say about the member that follows them."""

    name: str | None = None
    size: int | None = None
    sparse: bool = False


def tar_members(descriptor: int) -> Iterator[TarMember]:
    """The regular files in the order in which they lie there, from the headers alone.

    A last member whose bytes are cut off is given like any other, before the error.

    Raises:
        DamagedTar: a header is broken or cut off; the members before it have been given.
    """
    end = os.fstat(descriptor).st_size
    position, said = 0, _Overrides()
    while position < end:
        block = os.pread(descriptor, BLOCK, position)
        if len(block) < BLOCK:
            raise DamagedTar(f"cut off in a header at byte {position}")
        if not any(block):
            return  # the end mark
        kind, size = block[156:157], _checked_size(block, position)
        data = position + BLOCK
        if kind in (b"L", b"K", b"x", b"X", b"g"):
            _read_extension(_extension(descriptor, data, size), kind, said, position)
            position = data + _padded(size)
            continue
        if said.size is not None:
            size = said.size
        if kind == _SPARSE:
            data = _after_sparse_map(descriptor, block, data)
        name = said.name if said.name is not None else _plain_name(block)
        if kind in _REGULAR and not said.sparse and not name.endswith("/"):
            yield TarMember(name.removeprefix("./"), data, size)
        position = data + (0 if kind in _WITHOUT_DATA else _padded(size))
        said = _Overrides()
    if position > end:
        raise DamagedTar(f"cut off at byte {end}, {position - end} bytes before the end of its last member")


def pread_all(descriptor: int, size: int, offset: int) -> bytes:
    """`size` bytes from `offset` on, or as many as there are."""
    pieces = []
    while size and (piece := os.pread(descriptor, size, offset)):  # one call gives at most 2 GiB
        pieces.append(piece)
        size, offset = size - len(piece), offset + len(piece)
    return b"".join(pieces)


def _checked_size(block: bytes, position: int) -> int:
    """The size field of a header whose checksum is right."""
    try:
        said = _number(block[148:156])
        # The sum is taken with blanks in its own field; some old writers summed signed bytes.
        unsigned = sum(block) - sum(block[148:156]) + 8 * 32
        if said != unsigned and said != unsigned - 256 * sum(byte > 127 for byte in block[:148] + block[156:]):
            raise ValueError("its checksum is wrong")
        size = _number(block[124:136])
        if size < 0:
            raise ValueError("its size is negative")
    except ValueError as error:
        raise DamagedTar(f"no header at byte {position}: {error}") from None
    return size


def _number(field: bytes) -> int:
    """Octal digits, or after a byte of 0x80 or 0xff a big-endian number (GNU)."""
    if field[0] in (0x80, 0xFF):
        return int.from_bytes(field[1:], "big") - (256 ** (len(field) - 1) if field[0] == 0xFF else 0)
    text = field.split(b"\0", 1)[0].strip()
    if not text.isdigit() and text:
        raise ValueError("a number is not octal")
    return int(text or b"0", 8)


def _plain_name(block: bytes) -> str:
    name = _text(block[:100])
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else ""  # GNU keeps times there
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _extension(descriptor: int, data: int, size: int) -> bytes:
    if size > _MAX_HEADER_BYTES:
        raise DamagedTar(f"an extended header of {size} bytes at byte {data}")
    content = os.pread(descriptor, size, data)
    if len(content) < size:
        raise DamagedTar(f"cut off in an extended header at byte {data}")
    return content


def _read_extension(content: bytes, kind: bytes, said: _Overrides, position: int) -> None:
    if kind == b"L":
        said.name = _text(content)
    elif kind in (b"x", b"X"):
        try:
            for key, value in _pax_records(content):
                if key == b"path":
                    said.name = value.decode("utf-8", "surrogateescape")
                elif key == b"size":
                    said.size = _natural(value)
                elif key.startswith(b"GNU.sparse"):
                    said.sparse = True
        except ValueError:
            raise DamagedTar(f"a broken pax header at byte {position}") from None


def _natural(digits: bytes) -> int:
    if not digits.isdigit():
        raise ValueError("a size is no number")
    return int(digits)


def _pax_records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """`LENGTH KEY=VALUE\\n`, where LENGTH counts the whole record."""
    start = 0
    while start < len(content) and content[start] != 0:
        blank = content.index(b" ", start, start + 20)
        stop = start + int(content[start:blank])
        key, equals, value = content[blank + 1 : stop - 1].partition(b"=")
        if not equals or stop > len(content) or content[stop - 1 : stop] != b"\n":
            raise ValueError("a record does not end where it says")
        yield key, value
        start = stop


def _after_sparse_map(descriptor: int, block: bytes, data: int) -> int:
    more = block[482]
    while more:
        following = os.pread(descriptor, BLOCK, data)
        if len(following) < BLOCK:
            raise DamagedTar(f"cut off in a sparse map at byte {data}")
        data, more = data + BLOCK, following[504]
    return data
