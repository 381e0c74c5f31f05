"""Files that a catalogue's picture links lead to on a bad day: bombs, lies, damage, other formats, and good pictures.

Names say what a file is: `<kind>-<number>`, of `KINDS`. The `valid_` ones must decode, the others may or may not.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
from PIL import Image, ImageCms

from tests.worlds.hostile_bytes import chunk, deflated_zeros, jpeg_of_many_scans, png, png_bomb, segment, webp_bomb

Make = Callable[[np.random.Generator], bytes]
Rng = np.random.Generator


def hostile_files(n: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """`n` files in random order, each kind at least once where `n` allows; the same for the same seed."""
    rng = np.random.default_rng(seed)
    names = list(KINDS)
    weights = np.array([_WEIGHTS.get(name, 1.0) for name in names])
    more = rng.choice(names, size=max(n - len(names), 0), p=weights / weights.sum()).tolist()
    for number, kind in enumerate(rng.permutation([*names, *more])[:n]):
        yield f"{kind}-{number}", KINDS[kind](rng)


def is_valid(name: str) -> bool:
    """Whether it must decode."""
    return name.startswith("valid_")


# ---- pictures


@cache
def _picture(width: int, height: int, mode: str) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(width * height).integers(0, 60, (height, width, 3))
    pixels = np.stack([200 * x / width, 200 * y / height, 100 + 0 * x], axis=-1) + noise
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).convert(mode)


def _saved(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


@cache
def _good(image_format: str, width: int, height: int, mode: str) -> bytes:
    options = {"quality": 85} if image_format == "JPEG" else {}
    return _saved(_picture(width, height, mode), image_format, **options)


_SIZES = ((160, 120), (97, 71), (61, 120), (300, 224), (1, 1), (9, 13))
_MODES = {"JPEG": ("RGB", "L", "CMYK"), "PNG": ("RGB", "RGBA", "L", "LA", "P", "1"), "WEBP": ("RGB", "RGBA")}


def _any_good(rng: Rng, *formats: str) -> bytes:
    image_format = str(rng.choice(formats or list(_MODES)))
    width, height = _SIZES[rng.integers(len(_SIZES))]
    return _good(image_format, width, height, str(rng.choice(_MODES[image_format])))


@cache
def _progressive() -> bytes:
    return _saved(_picture(300, 224, "RGB"), "JPEG", quality=85, progressive=True)


@cache
def _sixteen_bits() -> bytes:
    shades = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(">u2")
    return png(64, 48, depth=16, colour=0, rows=b"".join(b"\0" + row.tobytes() for row in shades))


def _turned(rng: Rng) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = int(rng.integers(1, 9))
    return _saved(_picture(97, 71, "RGB"), "JPEG", exif=exif)


@cache
def _animated(image_format: str, n_frames: int) -> bytes:
    frames = [Image.new("RGB", (8, 8), (number % 256, number // 256, 0)) for number in range(n_frames)]
    return _saved(frames[0], image_format, save_all=True, append_images=frames[1:])


def _with_tail(rng: Rng) -> bytes:
    tails = (b"PK\x03\x04" + b"\0" * 26, b"<script>alert(1)</script>", b"%PDF-1.7\n", b"\0" * 5000)
    return _any_good(rng, "PNG", "JPEG") + tails[rng.integers(len(tails))]


@cache
def _with_profile() -> bytes:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return _saved(_picture(97, 71, "RGB"), "JPEG", icc_profile=profile)


# ---- PNG by hand


def _text_bomb(kind: bytes, head: bytes) -> Make:
    @cache
    def make() -> bytes:
        rows = bytes(8 * 25)
        return png(8, 8, rows=rows, extra=chunk(kind, head + deflated_zeros(100 << 20)))

    return lambda rng: make()


@cache
def _many_texts() -> bytes:
    return png(8, 8, rows=bytes(8 * 25), extra=chunk(b"zTXt", b"k\0\0" + deflated_zeros(1 << 19)) * 400)


@cache
def _many_short_texts() -> bytes:
    return png(8, 8, rows=bytes(8 * 25), extra=chunk(b"tEXt", b"k\0v") * 1_500_000)


@cache
def _many_chunks() -> bytes:
    return png(8, 8, rows=bytes(8 * 25), extra=chunk(b"teSt", b"") * 50_000)


def _wrong_crc(rng: Rng) -> bytes:
    content = bytearray(_any_good(rng, "PNG"))
    at = 29 if rng.integers(2) else content.rindex(b"IEND") - 5
    content[at] ^= 0xFF
    return bytes(content)


# ---- JPEG by hand


def _after_start(content: bytes, segments: bytes) -> bytes:
    return content[:2] + segments + content[2:]


@cache
def _slow_jpeg() -> bytes:
    return jpeg_of_many_scans(4096, 4096, 2500)


@cache
def _flat(width: int, height: int, image_format: str) -> bytes:
    return _saved(Image.new("L", (width, height)), image_format)


def _claims(width: int, height: int) -> Make:
    """A picture whose header says that it is larger than it is."""

    def make(rng: Rng) -> bytes:
        content = bytearray(_good("JPEG", 160, 120, "RGB"))
        at = content.index(b"\xff\xc0") + 5
        content[at : at + 4] = struct.pack(">HH", height, width)
        return bytes(content)

    return make


def _no_adobe(rng: Rng) -> bytes:
    content = _good("JPEG", 160, 120, "CMYK")
    at = content.index(b"\xff\xee")
    return content[:at] + content[at + 2 + struct.unpack(">H", content[at + 2 : at + 4])[0] :]


def _exif(ifd: bytes) -> bytes:
    return segment(0xE1, b"Exif\0\0MM\0\x2a\0\0\0\x08" + ifd)


def _exif_bomb(rng: Rng) -> bytes:
    entry = struct.Struct(">HHII")
    ifds = (
        struct.pack(">H", 1) + entry.pack(0x0112, 3, 1, 6 << 16) + struct.pack(">I", 8),  # its own successor
        struct.pack(">H", 1) + entry.pack(0x8769, 4, 1, 8) + bytes(4),  # its own sub-directory
        struct.pack(">H", 65535) + entry.pack(0x0112, 3, 0xFFFFFFFF, 8) * 5000,
        struct.pack(">H", 1) + entry.pack(0x010E, 2, 0x7FFFFFFF, 8) + bytes(4),
        struct.pack(">H", 1) + entry.pack(0x0112, 5, 1000, 0xFFFFFFF0),
    )
    return _after_start(_good("JPEG", 97, 71, "RGB"), _exif(ifds[rng.integers(len(ifds))]))


def _profile_bomb(rng: Rng) -> bytes:
    parts = b"".join(
        segment(0xE2, b"ICC_PROFILE\0" + bytes([n, 255]) + rng.bytes(200) + bytes(60_000)) for n in range(1, 9)
    )
    return _after_start(_good("JPEG", 97, 71, "RGB"), parts)


@cache
def _many_comments() -> bytes:
    return _after_start(_good("JPEG", 97, 71, "RGB"), segment(0xFE, b"x" * 4) * 50_000)


@cache
def _padded_markers() -> bytes:
    return _after_start(_good("JPEG", 97, 71, "RGB"), b"\xff" * 500_000)


# ---- damage and other formats


def _truncated(rng: Rng) -> bytes:
    content = _any_good(rng)
    return content[: rng.integers(1, len(content))]


def _mutated(rng: Rng) -> bytes:
    content = bytearray(_any_good(rng) if rng.integers(4) else _progressive())
    for at in rng.integers(0, len(content), size=int(rng.integers(1, 30))):
        content[at] = rng.integers(256)
    return bytes(content)


def _spliced(rng: Rng) -> bytes:
    one, other = _any_good(rng), _any_good(rng)
    return one[: rng.integers(len(one))] + other[rng.integers(len(other)) :]


def _other_format(rng: Rng) -> bytes:
    zip_file = b"PK\x03\x04" + bytes(26) + b"PK\x05\x06" + bytes(18)
    texts = (
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9e9' height='9e9'/>",
        b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\n%%EOF",
        b"<!doctype html><title>404</title>",
        b'{"error": "no such image"}',
        "Bild nicht gefunden \u2603".encode(),
        zip_file,
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9999 9999\n",
        b"\0" * 1000,
        rng.bytes(int(rng.integers(1, 2000))),
        _foreign("GIF"),
        _foreign("BMP"),
        _foreign("TIFF"),
        _foreign("PPM"),
        _foreign("ICO"),
    )
    return texts[rng.integers(len(texts))]


@cache
def _foreign(image_format: str) -> bytes:
    return _saved(_picture(61, 120, "RGB"), image_format)


def _polyglot(rng: Rng) -> bytes:
    heads = (
        b"GIF89a",
        b"%PDF-1.7\n",
        b"BM",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"RIFF\xff\xff\xff\x7fWEBPVP8 ",
    )
    return heads[rng.integers(len(heads))] + _any_good(rng)


KINDS: dict[str, Make] = {
    "valid_picture": _any_good,
    "valid_progressive": lambda rng: _progressive(),
    "valid_16_bit": lambda rng: _sixteen_bits(),
    "valid_turned": _turned,
    "valid_animated_webp": lambda rng: _animated("WEBP", 50),
    "valid_animated_png": lambda rng: _animated("PNG", 2000),
    "valid_with_tail": _with_tail,
    "valid_with_profile": lambda rng: _with_profile(),
    "empty": lambda rng: b"",
    "truncated": _truncated,
    "mutated": _mutated,
    "spliced": _spliced,
    "other_format": _other_format,
    "polyglot": _polyglot,
    "wrong_crc": _wrong_crc,
    "no_adobe": _no_adobe,
    "exif_bomb": _exif_bomb,
    "profile_bomb": _profile_bomb,
    "many_comments": lambda rng: _many_comments(),
    "padded_markers": lambda rng: _padded_markers(),
    "claims_65500": _claims(65500, 65500),
    "claims_8000": _claims(8000, 8000),
    "slow_jpeg": lambda rng: _slow_jpeg(),
    "long_jpeg": lambda rng: _flat(60_000, 1, "JPEG"),
    "long_png": lambda rng: _flat(1, 60_000, "PNG"),
    "png_30000": lambda rng: png_bomb(30_000, 30_000, depth=1, colour=0),
    "png_below_cap": lambda rng: png_bomb(7900, 8000, depth=8, colour=6),
    "png_16_bit_bomb": lambda rng: png_bomb(7900, 8000, depth=16, colour=6),
    "png_interlaced_bomb": lambda rng: png_bomb(7900, 8000, depth=8, colour=2, interlace=1),
    "png_grey_bomb": lambda rng: png_bomb(7900, 8000, depth=1, colour=0),
    "png_zero_size": lambda rng: png(0, 0),
    "png_iccp_bomb": _text_bomb(b"iCCP", b"p\0\0"),
    "png_ztxt_bomb": _text_bomb(b"zTXt", b"k\0\0"),
    "png_itxt_bomb": _text_bomb(b"iTXt", b"k\0\1\0\0\0"),
    "png_many_texts": lambda rng: _many_texts(),
    "png_many_chunks": lambda rng: _many_chunks(),
    "png_many_short_texts": lambda rng: _many_short_texts(),
    "png_interlaced_16_bit": lambda rng: png_bomb(6000, 3990, depth=16, colour=6, interlace=1),
    "webp_16383": lambda rng: webp_bomb(16383, 16383),
    "webp_below_cap": lambda rng: webp_bomb(7900, 8000),
    "webp_half_cap": lambda rng: webp_bomb(5000, 5000),
}
_COSTLY = (
    "slow_jpeg",
    "claims_8000",
    "padded_markers",
    "png_many_chunks",
    "png_below_cap",
    "png_16_bit_bomb",
    "png_interlaced_bomb",
    "png_grey_bomb",
    "png_many_short_texts",
    "png_interlaced_16_bit",
    "webp_below_cap",
    "webp_half_cap",
)
_WEIGHTS: dict[str, float] = dict.fromkeys(_COSTLY, 0.1) | {
    "valid_picture": 25.0,
    "mutated": 12.0,
    "truncated": 8.0,
    "spliced": 4.0,
    "other_format": 5.0,
    "polyglot": 3.0,
    "exif_bomb": 2.0,
}
