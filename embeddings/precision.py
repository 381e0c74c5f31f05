"""Which arithmetic a forward pass uses."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Precision = Literal["auto", "fp32", "bf16"]

_MULTIPLIES = ("amx_bf16", "avx512_bf16")


def in_bf16(precision: Precision, device: str) -> bool:
    """Whether towers that bear it compute in bfloat16; "auto" where that is faster."""
    if precision == "auto":
        return device == "cuda" or cpu_multiplies_bf16()
    return precision == "bf16"


def cpu_multiplies_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this CPU has instructions for products of bfloat16 matrices; without them they cost more than float32."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    return any(flag in flags for flag in _MULTIPLIES)
