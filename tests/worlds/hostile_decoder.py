"""A decoder that does what the content says: crash, spin, leak. For what no picture at hand brings a real one to."""

from __future__ import annotations

import ctypes
import itertools
import os
import time
from pathlib import Path

import numpy as np
import pytest

from embeddings.isolation import process
from embeddings.preprocess.features import Content, Features
from recsys.errors import EnvironmentProblem, InputError

PREPROCESSING = '{"kind": "fake", "modality": "image", "n_meaning": 12}'
"""For the pool; its workers then run `HostileDecoder` instead."""


class HostileDecoder:
    """`<what> <argument>` → uint8 [length of the content], or worse."""

    def __init__(self) -> None:
        self._kept: list[bytearray] = []

    def __call__(self, content: Content) -> Features:
        assert isinstance(content, bytes)
        what, _, argument = content.decode("latin-1").partition(" ")
        if what == "segfault":
            ctypes.string_at(0)
        elif what == "abort":
            os.abort()
        elif what == "exit":
            os._exit(3)
        elif what == "spin":
            all(itertools.repeat(1))  # in C, where no Python signal handler ever runs
        elif what == "sleep":
            time.sleep(60.0)
        elif what == "allocate":
            bytearray(int(argument))
        elif what == "keep":
            self._kept.append(bytearray(int(argument)))
        elif what == "pin":
            self._pin(int(argument))
        elif what == "wrap":
            self._wrap()
        elif what == "bug":
            raise RuntimeError(argument)
        elif what == "environment":
            raise EnvironmentProblem(argument)
        elif what == "crash_once":
            self._crash_once(Path(argument))
        elif what == "huge_features":
            return np.zeros(int(argument), dtype=np.uint8)
        return np.frombuffer(content, dtype=np.uint8)

    def _pin(self, n_bytes: int) -> None:
        """Keep a small block that was taken while a large one was there, as libraries do that set themselves up late.

        The first large block is freed at once, which teaches glibc to take the next from the heap.
        """
        bytearray(n_bytes)
        large = bytearray(n_bytes)
        self._kept.append(bytearray(200_000))
        del large

    @staticmethod
    def _wrap() -> None:
        try:
            bytearray(1 << 40)
        except MemoryError as error:
            raise InputError("the picture is damaged") from error

    @staticmethod
    def _crash_once(marker: Path) -> None:
        if not marker.exists():
            marker.touch()
            ctypes.string_at(0)


def use_hostile_decoder(monkeypatch: pytest.MonkeyPatch, before: str = "") -> None:
    """Pools made from now on run it; `before` is code that their workers run first."""
    head, import_line, main_line = process._BOOT.rstrip().rsplit("\n", 2)
    swap = (
        "import embeddings.isolation.worker as worker\n"
        "from tests.worlds.hostile_decoder import HostileDecoder\n"
        "worker.build_preprocessor = lambda *_: HostileDecoder()"
    )
    monkeypatch.setattr(process, "_BOOT", "\n".join([head, before, swap, import_line, main_line]))
