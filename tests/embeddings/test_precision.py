"""bfloat16 is for CPUs that can multiply it."""

from __future__ import annotations

from pathlib import Path

import pytest

from embeddings.precision import cpu_multiplies_bf16, in_bf16


@pytest.mark.parametrize(
    ("flags", "multiplies"),
    [("fpu avx2 avx512_bf16", True), ("fpu amx_bf16 amx_tile", True), ("fpu avx2 avx512f", False), ("", False)],
)
def test_the_cpus_flags_say_whether_it_multiplies_bf16(flags: str, multiplies: bool, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: amx_bf16_is_no_flag_here\n")
    assert cpu_multiplies_bf16(tmp_path / "cpuinfo") is multiplies


def test_where_flags_cannot_be_read_float32_is_the_safe_answer(tmp_path: Path) -> None:
    assert not cpu_multiplies_bf16(tmp_path / "nowhere")


def test_a_choice_overrides_what_is_faster() -> None:
    assert in_bf16("auto", "cuda")
    assert in_bf16("bf16", "cpu")
    assert not in_bf16("fp32", "cuda")
