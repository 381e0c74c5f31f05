"""The process that decodes: one content after the other, under limits that the kernel enforces.

It is started by `process.py`, imports what preprocessing needs and nothing else, and ends when its parent does.

The parent writes a content into a slot of a shared memory file and sends a `REQUEST`; the worker reads the slot,
writes the features over it and answers with a JSON object. Contents are answered in the order they were sent.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import signal
import socket
import struct
import sys
import time
from typing import Any, TypedDict

import numpy as np

from embeddings.preprocess.build import build_preprocessor
from embeddings.preprocess.features import Features, Preprocessor
from embeddings.refused import Refused
from recsys.errors import EnvironmentProblem, InputError

REQUEST = struct.Struct("<IQd")
"""Slot, bytes of the content in it, CPU seconds that it may cost."""

COUNTER = struct.Struct("<Q")
"""Behind the slots: how many contents the worker has begun, so that its parent knows whom to blame for its end."""

MAX_ANSWER_BYTES = 16_384
_MAX_MESSAGE = 500
_PARENT_CHECK_S = 2.0
_MAX_OPEN_FILES = 16
_SLACK = 16
"""A worker that keeps more than 1/16 of its memory limit after a content, even when trimmed, asks to be replaced."""

_MALLOPT = {-8: 1, -3: 4 << 20, -1: 8 << 20}
"""M_ARENA_MAX, M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of glibc.

One arena, because each reserves 64 MiB of address space for a decoder's thread. Blocks from 4 MiB on are mapped one by
one and gone when they are freed: left to itself glibc takes them from the heap, where any small block above them keeps
tens of MiB after a large picture, and the worker would have to be replaced.
"""
_RATE_HZ = 44_100
_SAMPLES = bytes(range(256)) * 345  # two seconds
_A_SOUND = (
    struct.pack("<4sI4s", b"RIFF", 36 + len(_SAMPLES), b"WAVE")
    + struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, _RATE_HZ, _RATE_HZ, 1, 8)
    + struct.pack("<4sI", b"data", len(_SAMPLES))
    + _SAMPLES
)
_FIRST_CONTENTS = (
    *(b"\x00", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x04\x00\x00\x00WEBP", b"fLaC", b"ID3"),
    # Whole, of a rate that must be changed, and no shorter: only then numpy's BLAS takes the 32 MiB that it keeps.
    _A_SOUND,
)


class Order(TypedDict):
    """What a worker is told on its command line."""

    path: list[str]
    preprocessing: str
    parent_pid: int
    channel_fd: int
    memory_fd: int
    slot_bytes: int
    counter_at: int
    memory_bytes: int


def main(order: Order) -> None:
    """Serve until the parent closes the channel or dies."""
    channel = socket.socket(fileno=order["channel_fd"])
    channel.settimeout(_PARENT_CHECK_S)
    try:
        worker = _Worker(order)
        _send(channel, {"ready": True, "cpu_total_s": time.process_time()})
        while (request := _receive(channel, order["parent_pid"])) is not None:
            _send(channel, worker.answer(*REQUEST.unpack(request)))
    except Exception as error:  # no content is to blame: the parent is told, and gives up
        _send(channel, {"failed": f"{type(error).__name__}: {error}"[:_MAX_MESSAGE]})
        sys.exit(1)


class _Worker:
    """The preprocessor behind its limits."""

    def __init__(self, order: Order) -> None:
        self._slot_bytes = order["slot_bytes"]
        self._memory_fd = order["memory_fd"]
        self._counter_at = order["counter_at"]
        self._n_begun = 0
        self._statm_fd = os.open("/proc/self/statm", os.O_RDONLY)
        self._libc = ctypes.CDLL(None)
        self._default_signals()
        self._tune_malloc()
        self._preprocessor = _warm(build_preprocessor(order["preprocessing"], None))
        gc.collect()
        gc.freeze()
        self._trim()
        self._base_bytes = self._size_bytes()
        self._memory_bytes = order["memory_bytes"]
        self._slack_bytes = self._memory_bytes // _SLACK
        self._limit()

    def answer(self, slot: int, n_bytes: int, cpu_s: float) -> dict[str, Any]:
        """Features are in the slot, or there is a `reason`; `retire` asks the parent for another worker.

        Raises:
            EnvironmentProblem: a library is missing, which holds for every content.
        """
        # The thread's clock: that of the process goes by ticks while the timer runs.
        started_s = time.thread_time()
        answer = self._decode(slot, n_bytes, cpu_s)
        answer["retire"] = not self._is_tidy()
        return answer | {"cpu_s": time.thread_time() - started_s, "cpu_total_s": time.process_time()}

    def _decode(self, slot: int, n_bytes: int, cpu_s: float) -> dict[str, Any]:
        self._n_begun += 1
        os.pwrite(self._memory_fd, COUNTER.pack(self._n_begun), self._counter_at)
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        try:
            content = os.pread(self._memory_fd, n_bytes, slot * self._slot_bytes)
            return self._put(self._preprocessor(content), slot)
        except EnvironmentProblem:
            raise
        # A hostile file can raise anything inside a decoder, and must only cost itself.
        except Exception as error:
            return self._refusal(error)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0.0)

    def _put(self, features: Features, slot: int) -> dict[str, Any]:
        """Write the features over the content, which nobody needs any more."""
        if features.nbytes > self._slot_bytes:
            raise MemoryError(f"features of {features.nbytes} bytes are more than {self._slot_bytes}")
        flat = np.ascontiguousarray(features).reshape(-1).view(np.uint8)
        n_written = 0
        while n_written < flat.nbytes:
            n_written += os.pwrite(self._memory_fd, flat[n_written:].data, slot * self._slot_bytes + n_written)
        return {"dtype": features.dtype.str, "shape": features.shape}

    def _refusal(self, error: Exception) -> dict[str, Any]:
        """MemoryError first: decoders wrap it into errors of their own."""
        if _comes_of(error, MemoryError):
            message = f"decoding it takes more than {self._memory_bytes >> 20} MiB of memory: make the file smaller"
            return {"reason": "decode_memory", "message": message}
        if isinstance(error, Refused):
            return {"reason": error.reason, "message": str(error)[:_MAX_MESSAGE]}
        failed = f"the decoder fails with {type(error).__name__}: {error}"
        return {
            "reason": "damaged",
            "message": (str(error) if isinstance(error, InputError) else failed)[:_MAX_MESSAGE],
        }

    def _is_tidy(self) -> bool:
        """Whether the next content finds the memory that this one found; what lies about is swept up first."""
        if self._size_bytes() - self._base_bytes <= self._slack_bytes:
            return True
        gc.collect()
        self._trim()
        return self._size_bytes() - self._base_bytes <= self._slack_bytes

    def _size_bytes(self) -> int:
        return int(os.pread(self._statm_fd, 64, 0).split()[0]) * resource.getpagesize()

    def _default_signals(self) -> None:
        """A mask and ignored signals are inherited, and SIGPROF has to kill; Ctrl-C is the parent's business."""
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def _tune_malloc(self) -> None:
        if hasattr(self._libc, "mallopt"):  # glibc alone
            for option, value in _MALLOPT.items():
                self._libc.mallopt(option, value)

    def _trim(self) -> None:
        if hasattr(self._libc, "malloc_trim"):
            self._libc.malloc_trim(0)

    def _limit(self) -> None:
        # 1, not 0: the kernel then leaves out cores that are piped to a program, too.
        _lower(resource.RLIMIT_CORE, 1)
        _lower(resource.RLIMIT_NOFILE, _MAX_OPEN_FILES)
        _lower(resource.RLIMIT_AS, self._base_bytes + self._memory_bytes)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)  # until here the parent keeps what is said; decoders say much about hostile files
        os.close(nowhere)


def _warm(preprocessor: Preprocessor) -> Preprocessor:
    """Have it load the libraries that it loads late, so that they are not counted to the first content."""
    for content in _FIRST_CONTENTS:
        try:
            preprocessor(content)
        except InputError:
            continue
    return preprocessor


def _lower(what: int, to: int) -> None:
    _, hard = resource.getrlimit(what)
    value = to if hard == resource.RLIM_INFINITY else min(to, hard)
    resource.setrlimit(what, (value, value))


def _comes_of(error: BaseException, kind: type[BaseException]) -> bool:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        if isinstance(link, kind):
            return True
        seen.add(id(link))
        link = link.__cause__ or link.__context__
    return False


def _receive(channel: socket.socket, parent_pid: int) -> bytes | None:
    """The next request; None when the parent is gone.

    A process that the parent forked may hold its end of the channel open, so its closing is not the only sign.
    """
    while os.getppid() == parent_pid:
        try:
            return channel.recv(REQUEST.size) or None
        except TimeoutError:
            continue
        except OSError:
            return None
    return None


def _send(channel: socket.socket, answer: dict[str, Any]) -> None:
    """The parent reads when it gets to it; a full channel is waited for, a dead parent is the end."""
    message = json.dumps(answer).encode()
    parent_pid = os.getppid()
    while os.getppid() == parent_pid:
        try:
            channel.send(message)
            return
        except TimeoutError:
            continue
        except OSError:
            break
    sys.exit(0)
