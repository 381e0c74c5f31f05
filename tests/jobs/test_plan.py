from __future__ import annotations

import json

import pytest

from jobs.plan import plan_job
from recsys.errors import ConfigError


def test_it_prints_index_memory_build_time_and_cost(capsys: pytest.CaptureFixture[str]) -> None:
    result, exit_code = plan_job(50e6, 512, qps=2000, selectivity=0.001)
    said = capsys.readouterr().out
    assert exit_code == 0
    for word in ("RR512,IVF32768,PQ256x4fs", "RAM a process", "VRAM", "build", "cores", "cost", "estimate", "0.1 %"):
        assert word in said
    assert result["plan"]["factory"] == "RR512,IVF32768,PQ256x4fs"
    assert result["items"] == 50_000_000
    assert result["assumptions"]["price_core_hour"] > 0
    assert json.loads(json.dumps(result)) == result


def test_what_was_measured_is_not_called_an_estimate(capsys: pytest.CaptureFixture[str]) -> None:
    plan_job(1e5, 128)
    assert "extrapolated" not in capsys.readouterr().out


def test_prices_are_the_callers() -> None:
    free, _ = plan_job(1e6, 128, price_core_hour=0, price_gib_hour=0)
    assert free["estimate"]["cost_a_month"] == 0
    dear, _ = plan_job(1e6, 128, price_core_hour=1, price_gib_hour=0)
    assert dear["estimate"]["cost_a_month"] == 730 * 16


def test_less_memory_takes_smaller_codes_and_leaves_the_vectors_on_disk(capsys: pytest.CaptureFixture[str]) -> None:
    result, _ = plan_job(50e6, 512, memory_gib=4)
    assert result["plan"]["factory"] == "RR512,IVF32768,PQ128x4fs"
    assert result["estimate"]["ram_process_bytes"] < 4 * 2**30
    assert "read from disk as needed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"items": 0}, "--items"),
        ({"items": 1.5}, "--items"),
        ({"items": float("nan")}, "--items"),
        ({"items": float("inf")}, "--items"),
        ({"dim": 0}, "--dim"),
        ({"selectivity": 2}, "selectivity"),
        ({"qps": -1}, "qps"),
        ({"memory_gib": -1}, "memory_gib"),
        ({"items": 50e6, "memory_gib": 0.1}, "too little"),
    ],
)
def test_numbers_that_make_no_sense_are_refused_in_words(wrong: dict[str, float], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        plan_job(**{"items": 1e6, "dim": 128, **wrong})  # type: ignore[arg-type]
