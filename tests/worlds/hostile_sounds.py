"""Sound files that a catalogue's links lead to on a bad day: broken off, lying headers, other formats, no sound at all.

Each with the reasons that are right for it. `good_sounds` are their neighbours.
"""

from __future__ import annotations

import struct

import numpy as np

from tests.embeddings.sounds import saved, sweep

RATE = 16_000
TEN_HOURS = 10 * 3600 * RATE
FORMATS = (("wav", "WAV", "PCM_16"), ("flac", "FLAC", "PCM_16"), ("mp3", "MP3", None), ("ogg", "OGG", "VORBIS"),
           ("opus", "OGG", "OPUS"))  # fmt: skip


def good_sounds() -> dict[str, bytes]:
    """One of each format, and a very short one."""
    sounds = {f"good.{name}": saved(sweep(3.0, RATE, seed=7), RATE, kind, coding) for name, kind, coding in FORMATS}
    return {**sounds, "short.wav": saved(sweep(0.01, RATE), RATE, "WAV", "PCM_16")}


def hostile_sounds() -> dict[str, tuple[bytes, set[str]]]:
    """name → (file, the reasons for which it may be refused)."""
    files = {f"good.{name}": saved(sweep(3.0, RATE), RATE, kind, coding) for name, kind, coding in FORMATS}
    wav, flac, mp3, ogg = (files[f"good.{name}"] for name in ("wav", "flac", "mp3", "ogg"))
    damaged, unknown, empty = {"damaged"}, {"unknown_format"}, {"empty"}
    found: dict[str, tuple[bytes, set[str]]] = {}
    for name, content in files.items():
        for share in (0.01, 0.5, 0.9):
            found[f"broken off at {share} {name}"] = content[: int(share * len(content))], damaged
        found[f"a hundred bytes short {name}"] = content[:-100], damaged
    return found | {
        "no bytes.wav": (b"", empty),
        "0 s.wav": (saved(np.empty(0), RATE), empty),
        "0 s.flac": (saved(np.empty(0), RATE, "FLAC", "PCM_16"), {"empty", "damaged"}),
        "digital silence.wav": (saved(np.zeros(RATE), RATE), empty),
        "10 h of data.wav": (_patched(wav, _data_at(wav), struct.pack("<I", 2 * TEN_HOURS)), damaged),
        "10 h in both headers.wav": (_wav_of_ten_hours(wav), damaged),
        "10 h that nobody knew before.wav": (_patched(_wav_of_ten_hours(wav), 4, b"\xff" * 4), damaged),
        "10 h.flac": (_flac_of_ten_hours(flac), {"too_long"}),
        "10 h.mp3": (_mp3_of_ten_hours(mp3), {"too_long"}),
        "a picture.wav": (b"\x89PNG\r\n\x1a\n" + bytes(500), unknown),
        "words.mp3": (b"The song is over. " * 40, unknown),
        "a page.ogg": (b"<!doctype html><title>404</title>", unknown),
        "an mp4.wav": (b"\x00\x00\x00\x20ftypM4A " + bytes(500), unknown),
        "wave in name only.wav": (b"RIFF\x00\x00\x00\x00WAVE", damaged),
        "a picture inside.wav": (b"RIFF\x04\x00\x00\x00WEBP", unknown),
        "not a number.wav": (saved(np.array([0.1, np.nan] * 9_000), RATE), {"not_finite"}),
        "infinite.wav": (saved(np.array([0.1, np.inf] * 9_000), RATE), {"not_finite"}),
        "60,000 channels.wav": (_patched(wav, 22, struct.pack("<H", 60_000)), damaged | unknown),
        "no channels.wav": (_patched(wav, 22, bytes(2)), damaged | unknown),
        "24 channels.wav": (saved(sweep(0.2, RATE), RATE, "WAV", "PCM_16", 24), unknown),
        "1 Hz.wav": (_patched(wav, 24, struct.pack("<I", 1)), damaged | unknown),
        "4 GHz.wav": (_patched(wav, 24, b"\xff" * 4), damaged | unknown),
        "another coding.wav": (saved(sweep(0.5, RATE), RATE, "WAV", "IMA_ADPCM"), unknown),
        "a tag of 256 MiB.mp3": (b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + mp3, damaged),
        "a tag and no more.mp3": (b"ID3" + bytes(200), damaged),
        "noise behind a head.ogg": (ogg[:60] + np.random.default_rng(0).bytes(4_000), damaged),
    }


def _patched(content: bytes, at: int, by: bytes) -> bytes:
    return content[:at] + by + content[at + len(by) :]


def _data_at(wav: bytes) -> int:
    return wav.index(b"data") + 4


def _wav_of_ten_hours(wav: bytes) -> bytes:
    size = 2 * TEN_HOURS
    return _patched(_patched(wav, _data_at(wav), struct.pack("<I", size)), 4, struct.pack("<I", size + 36))


def _flac_of_ten_hours(flac: bytes) -> bytes:
    """STREAMINFO begins at byte 8; the number of samples is the last 36 bits of its bytes 10 to 17."""
    high, low = divmod(TEN_HOURS, 1 << 32)
    return _patched(flac, 21, bytes([(flac[21] & 0xF0) | high]) + struct.pack(">I", low))


def _mp3_of_ten_hours(mp3: bytes) -> bytes:
    """Xing's header: the name, flags, the number of frames, of 576 samples each at this rate."""
    return _patched(mp3, mp3.index(b"Xing") + 8, struct.pack(">I", TEN_HOURS // 576))
