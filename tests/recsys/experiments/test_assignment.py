"""Who takes part: published vectors, shares, independence, and what moves nobody."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.experiments import ExperimentConfig, VariantConfig, assign, bucket, prepared
from recsys.experiments.assignment import Experiment, ranges_of
from recsys.types import Query

NOW = datetime(2026, 5, 1, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[3]
N_UNITS = 100_000
HALVES = {"control": 0.5, "treatment": 0.5}
CHI_SQUARE_1E_6 = 23.93  # one degree of freedom, one in a million


def experiment(name: str = "newer_first", weights: dict[str, float] = HALVES, **settings: Any) -> Experiment:
    variants = {each: {"weight": weight} for each, weight in weights.items()}
    config = ExperimentConfig[VariantConfig].model_validate({"variants": variants, **settings})
    return Experiment.of(name, config)


def asked(user_id: str | None = None, session_id: str | None = None, surface: str | None = None) -> Query:
    return Query("request", NOW, user_id=user_id, session_id=session_id, surface=surface)


def variants_of(each: Experiment, n: int = N_UNITS) -> list[str | None]:
    return [each.variant_of(f"user-{number}") for number in range(n)]


@pytest.mark.parametrize(
    ("salt", "unit_id", "first_8_bytes"),
    [
        ("newer_first", "user-1", "5c12ef8dcbe718b4"),
        ("newer_first", "user-2", "3ac3565c9666daa1"),
        ("newer_first", "Zoë 🛒", "40c32fc5b7a9c4de"),
        ("layer:ranking", "user-1", "c1e1b400060bdfe1"),
    ],
)
def test_a_bucket_is_what_any_client_computes(salt: str, unit_id: str, first_8_bytes: str) -> None:
    """The vectors are of another program: `printf %s newer_first/user-1 | sha256sum | cut -c1-16`."""
    assert bucket(salt, unit_id) == int(first_8_bytes, 16) / 2**64


def test_assignment_is_the_same_in_another_process() -> None:
    code = (
        "import json\nfrom recsys.experiments import bucket\n"
        "print(json.dumps([bucket('newer_first', f'user-{n}') for n in range(100)]))"
    )
    environment = {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "17"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [bucket("newer_first", f"user-{n}") for n in range(100)]


@given(salt=st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True), unit_id=st.text(st.characters(codec="utf-8")))
def test_a_bucket_is_from_0_to_below_1(salt: str, unit_id: str) -> None:
    assert 0 <= bucket(salt, unit_id) < 1


@pytest.mark.parametrize(
    "weights",
    [HALVES, {"control": 0.05, "treatment": 0.15}, {"a": 0.1, "b": 0.55, "control": 0.3}, {"control": 0.9, "z": 0.1}],
)
def test_each_variant_has_its_share_of_the_units(weights: dict[str, float]) -> None:
    counted = Counter(variants_of(experiment(weights=weights)))
    shares = {**weights, None: 1 - sum(weights.values())}
    for variant, share in shares.items():
        assert abs(counted[variant] - N_UNITS * share) <= 4 * math.sqrt(N_UNITS * share * (1 - min(share, 1)) + 1)


def test_two_experiments_share_out_their_units_independently() -> None:
    pairs = Counter(zip(variants_of(experiment("one")), variants_of(experiment("two")), strict=True))
    of_one, of_two = Counter[Any](), Counter[Any]()
    for (one, two), n in pairs.items():
        of_one[one] += n
        of_two[two] += n
    expected = {(one, two): of_one[one] * of_two[two] / N_UNITS for one in of_one for two in of_two}
    chi_square = sum((pairs[pair] - n) ** 2 / n for pair, n in expected.items())
    assert chi_square < CHI_SQUARE_1E_6


@pytest.mark.parametrize(
    "weights",
    [
        ({"control": 0.5, "treatment": 0.1}, {"control": 0.5, "treatment": 0.5}),
        ({"control": 0.1, "treatment": 0.1}, {"control": 0.5, "treatment": 0.5}),
        ({"control": 0.9, "treatment": 0.1}, {"control": 0.5, "treatment": 0.5}),
        ({"control": 0.1, "treatment": 0.1}, {"control": 0.1, "treatment": 0.9}),
    ],
)
def test_ramping_from_a_tenth_to_a_half_moves_nobody_out_of_treatment(
    weights: tuple[dict[str, float], dict[str, float]],
) -> None:
    before, after = (variants_of(experiment(weights=each), 20_000) for each in weights)
    assert before.count("treatment") > 1800
    assert all(now == "treatment" for then, now in zip(before, after, strict=True) if then == "treatment")


@st.composite
def shares(draw: st.DrawFn, n: int, most: float) -> list[float]:
    drawn = [draw(st.floats(0.001, most)) for _ in range(n)]
    total = sum(drawn)
    return drawn if total <= 1 else [each / total for each in drawn]


@given(data=st.data(), n=st.integers(2, 6))
def test_variants_never_overlap_and_are_as_wide_as_their_weights(data: st.DataObject, n: int) -> None:
    weights = {f"v{i}": weight for i, weight in enumerate(data.draw(shares(n, 1.0)))}
    ranges = ranges_of(weights)
    assert all(before[1] <= after[0] for before, after in pairwise(ranges))
    assert ranges[0][0] >= 0
    assert ranges[-1][1] <= 1
    for name, weight in weights.items():
        assert sum(end - start for start, end, each in ranges if each == name) == pytest.approx(weight, abs=1e-9)


def place_of(weights: dict[str, float], place: float) -> str | None:
    return next((name for start, end, name in ranges_of(weights) if start <= place < end), None)


@given(data=st.data(), n=st.integers(2, 6), place=st.floats(0, 1, exclude_max=True))
def test_a_variant_that_grows_within_its_part_never_moves_a_unit(data: st.DataObject, n: int, place: float) -> None:
    before = {f"v{i}": weight for i, weight in enumerate(data.draw(shares(n, 1 / n)))}
    grown = data.draw(st.sampled_from(sorted(before)))
    after = {**before, grown: data.draw(st.floats(before[grown], 1 / n))}
    was, is_now = place_of(before, place), place_of(after, place)
    assert is_now == was or (was is None and is_now == grown)


@given(control=st.floats(0.001, 0.5), treatment=st.floats(0.001, 0.5), data=st.data(), place=st.floats(0, 0.999999))
def test_between_two_variants_nobody_leaves_one_that_does_not_shrink(
    control: float, treatment: float, data: st.DataObject, place: float
) -> None:
    more = data.draw(st.floats(treatment, 0.999))
    other = min(data.draw(st.floats(0.001, 1.0)), 1 - more)
    before, after = {"control": control, "treatment": treatment}, {"control": other, "treatment": more}
    if place_of(before, place) == "treatment":
        assert place_of(after, place) == "treatment"


def test_the_order_of_the_file_means_nothing() -> None:
    weights = {"control": 0.3, "b": 0.2, "a": 0.1}
    again = dict(reversed(weights.items()))
    assert variants_of(experiment(weights=weights), 1000) == variants_of(experiment(weights=again), 1000)


def test_another_salt_is_another_draw_and_a_kept_one_the_same() -> None:
    assert variants_of(experiment("one"), 1000) != variants_of(experiment("two"), 1000)
    assert variants_of(experiment("two", salt="one"), 1000) == variants_of(experiment("one"), 1000)


def test_a_unit_is_in_one_experiment_of_a_layer_at_most() -> None:
    one = experiment("one", layer="ranking", traffic=[0.0, 0.5])
    two = experiment("two", layer="ranking", traffic=[0.5, 1.0])
    taken = Counter(
        (first is not None, second is not None)
        for first, second in zip(variants_of(one), variants_of(two), strict=True)
    )
    assert set(taken) == {(True, False), (False, True)}
    assert abs(taken[True, False] - N_UNITS / 2) <= 4 * math.sqrt(N_UNITS / 4)


def test_widening_the_traffic_of_a_layer_moves_nobody() -> None:
    before = variants_of(experiment(layer="x", traffic=[0.2, 0.4]), 10_000)
    after = variants_of(experiment(layer="x", traffic=[0.2, 0.9]), 10_000)
    assert all(now == then for then, now in zip(before, after, strict=True) if then is not None)


def test_an_experiment_runs_from_its_start_until_before_its_end() -> None:
    starts, ends = NOW, NOW + timedelta(days=7)
    each = experiment(starts_at=starts.isoformat(), ends_at=ends.isoformat())
    tick = timedelta(milliseconds=1)
    when = [starts - tick, starts, ends - tick, ends]
    assert [bool(assign([each], asked("u"), moment)) for moment in when] == [False, True, True, False]


def test_the_unit_is_the_user_then_the_session_and_without_one_nothing_is_assigned() -> None:
    by_user, by_session = experiment("by_user"), experiment("by_session", unit="session")
    both = assign([by_user, by_session], asked("u", "s"), NOW)
    assert both == {"by_user": by_user.variant_of("u"), "by_session": by_session.variant_of("s")}
    assert assign([by_user, by_session], asked(None, "s"), NOW)["by_user"] == by_user.variant_of("s")
    assert set(assign([by_user, by_session], asked("u"), NOW)) == {"by_user"}
    assert assign([by_user, by_session], asked(), NOW) == {}


def test_an_experiment_stays_on_its_surfaces() -> None:
    each = [experiment("everywhere"), experiment("on_home", surfaces=["home"])]
    assert set(assign(each, asked("u", surface="home"), NOW)) == {"everywhere", "on_home"}
    assert set(assign(each, asked("u", surface="basket"), NOW)) == {"everywhere"}
    assert set(assign(each, asked("u"), NOW)) == {"everywhere"}


def test_experiments_are_prepared_by_name() -> None:
    config = ExperimentConfig[VariantConfig].model_validate(
        {"variants": {"control": {"weight": 0.5}, "treatment": {"weight": 0.5}}}
    )
    assert [each.name for each in prepared({"b": config, "a": config})] == ["a", "b"]
