"""Whether a sound file is all there, as far as its container tells: libsndfile hears what is left of half a file."""

from __future__ import annotations

from embeddings.refused import Refused

_OGG_HEAD = 27
_UNKNOWN = 0x7FFFF000
"""Writers that cannot go back leave 0, or a number from here on."""
_MAX_CHUNKS = 1000


def require_whole(content: bytes) -> None:
    """Raises Refused (damaged): the file ends before a length inside it says. Formats that tell none pass."""
    if content[:4] == b"RIFF":
        _require(len(content), _riff_end(content), spare=1)  # the last byte may be one that evens out
        _require(len(content), _data_end(content))
    elif content[:4] == b"OggS":
        _require(len(content), _last_page_end(content))


def _require(n_bytes: int, promised: int, *, spare: int = 0) -> None:
    if promised > n_bytes + spare:
        raise Refused("damaged", f"the sound file has {n_bytes} bytes and says {promised}: it broke off")


def _riff_end(content: bytes) -> int:
    size = int.from_bytes(content[4:8], "little")
    return 0 if _is_unknown(size) else size + 8


def _data_end(content: bytes) -> int:
    """Where the samples of a WAV file end."""
    at = 12
    for _ in range(_MAX_CHUNKS):
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        if content[at : at + 4] == b"data":
            return 0 if _is_unknown(size) else at + 8 + size
        at += 8 + size + size % 2
        if at >= len(content):
            break
    return 0


def _last_page_end(content: bytes) -> int:
    """Where the last page of an Ogg stream ends (RFC 3533, section 6); the stream itself does not say."""
    at = content.rfind(b"OggS\x00")
    head = content[at : at + _OGG_HEAD]
    n_segments = head[-1] if len(head) == _OGG_HEAD else 255
    lengths = content[at + _OGG_HEAD : at + _OGG_HEAD + n_segments]
    return at + _OGG_HEAD + n_segments + sum(lengths)


def _is_unknown(size: int) -> bool:
    return size == 0 or size >= _UNKNOWN
