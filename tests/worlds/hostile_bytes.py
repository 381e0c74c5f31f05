"""PNG, JPEG and WebP written bit by bit: bombs that take no longer to make than a picture does."""

from __future__ import annotations

import struct
import zlib
from functools import cache


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *, depth: int = 8, colour: int = 2, rows: bytes = b"", extra: bytes = b"") -> bytes:
    """A PNG with this header; `extra` chunks stand between header and pixels."""
    return _png_of(width, height, depth, colour, 0, zlib.compress(rows), extra)


def _png_of(width: int, height: int, depth: int, colour: int, interlace: int, deflated: bytes, extra: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", deflated) + chunk(b"IEND", b"")


@cache
def deflated_zeros(n_bytes: int) -> bytes:
    """A zlib stream of `n_bytes` zeros, about 1/1000 of their length, without compressing them one by one."""
    step = 1 << 20
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(step)) + packer.flush(zlib.Z_FULL_FLUSH)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    rest = packer.compress(bytes(n_bytes % step)) + packer.flush()
    checksum = ((n_bytes % 65521) << 16) | 1  # Adler-32 of zeros
    return b"\x78\xda" + block * (n_bytes // step) + rest + struct.pack(">I", checksum)


@cache
def png_bomb(width: int, height: int, *, depth: int, colour: int, interlace: int = 0) -> bytes:
    """All black, and truly there: `height` rows of `width` pixels (colour 0 grey, 2 RGB, 6 RGBA)."""
    n_bits = width * depth * {0: 1, 2: 3, 6: 4}[colour]
    n_bytes = height * (1 + (n_bits + 7) // 8) * (2 if interlace else 1)  # interlaced rows: surely enough
    return _png_of(width, height, depth, colour, interlace, deflated_zeros(n_bytes), b"")


def segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def jpeg_of_many_scans(width: int, height: int, n_scans: int) -> bytes:
    """Progressive greyscale whose every scan goes over all blocks in some hundred bytes, and changes nothing.

    One code of each Huffman table is used: DC difference 0 (one bit a block), then end-of-band runs of 2^14 blocks.
    """
    n_blocks = ((width + 7) // 8) * ((height + 7) // 8)
    frame = segment(0xC2, struct.pack(">BHHB3B", 8, height, width, 1, 1, 0x11, 0))
    dc_table = segment(0xC4, bytes([0x00, 1, *[0] * 15, 0x00]))
    ac_table = segment(0xC4, bytes([0x10, 1, 1, *[0] * 14, 0xE0, 0x00]))  # "0": run of 2^14 + 14 bits; "10": run of 1
    quantisation = segment(0xDB, bytes([0, *[1] * 64]))
    dc_scan = segment(0xDA, bytes([1, 1, 0x00, 0, 0, 0])) + bytes(n_blocks // 8) + b"\x00"
    runs, single = divmod(n_blocks, 1 << 14)
    bits = ("0" + "0" * 14) * runs + "10" * single
    bits += "1" * (-len(bits) % 8)
    coded = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)).replace(b"\xff", b"\xff\x00")
    ac_scan = segment(0xDA, bytes([1, 1, 0x00, 1, 63, 0])) + coded
    return b"\xff\xd8" + quantisation + frame + dc_table + ac_table + dc_scan + ac_scan * n_scans + b"\xff\xd9"


def webp_bomb(width: int, height: int) -> bytes:
    """Lossless WebP of one colour: five Huffman codes of one symbol each, so that pixels take no bits at all."""
    bits = f"{width - 1:014b}"[::-1] + f"{height - 1:014b}"[::-1] + "0" + "000"  # no alpha, version 0
    bits += "0" + "0" + "0"  # no transforms, no colour cache, no groups of codes
    bits += "1000" * 5  # simple code, one symbol, of one bit, 0
    bits += "0" * (-len(bits) % 8 + 64)
    data = b"\x2f" + bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))
    data += b"\0" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(data) + 12) + b"WEBPVP8L" + struct.pack("<I", len(data)) + data
