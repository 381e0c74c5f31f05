"""`recsys plan`: which index so many items want, and what it takes: memory, disk, build time, cores, cost."""

from __future__ import annotations

import math
from typing import Any

from pydantic import ValidationError
from rich.table import Table

from jobs.progress import console
from recsys.errors import ConfigError
from recsys.index.config import IndexConfig
from recsys.index.estimates import HOURS_A_MONTH, MEASURED_UP_TO, IndexEstimate, Load, estimate, plan_and_estimate
from recsys.index.planner import IndexPlan, plan_index

GIB = 2**30


def plan_job(
    items: float,
    dim: int,
    *,
    qps: float = 100.0,
    selectivity: float = 1.0,
    memory_gib: float = 0.0,
    gpu: bool = False,
    price_core_hour: float | None = None,
    price_gib_hour: float | None = None,
    price_gpu_hour: float | None = None,
) -> tuple[dict[str, Any], int]:
    """Print the plan and give it as JSON values.

    Args:
        items: number of items; a float, so that 50e6 may be said.
        dim: width of their vectors.
        qps: searches a second at peak.
        selectivity: share of the items that the usual filter lets pass, in ]0, 1].
        memory_gib: of one process for the index; 0 = no limit.
        gpu: a GPU trains the cells.
        price_core_hour, price_gib_hour, price_gpu_hour: in your currency; None = the assumption of `Load`.

    Raises:
        ConfigError: a number makes no sense, or the memory is too little.
    """
    if not (math.isfinite(items) and items >= 1 and items == int(items)):
        raise ConfigError(f"--items must be a whole number of at least 1, as 50e6, not {items:g}")
    if dim < 1:
        raise ConfigError(f"--dim must be at least 1, not {dim}")
    prices = {"price_core_hour": price_core_hour, "price_gib_hour": price_gib_hour, "price_gpu_hour": price_gpu_hour}
    given = {name: price for name, price in prices.items() if price is not None}
    try:
        load = Load(qps=qps, selectivity=selectivity, gpu=gpu, **given)
        config = IndexConfig(memory_gib=memory_gib)
    except ValidationError as error:
        raise ConfigError("; ".join(f"{each['loc'][0]}: {each['msg']}" for each in error.errors())) from None
    plan, takes = plan_and_estimate(int(items), dim, config, load)
    instead = _alternatives(int(items), dim, plan, load, memory_gib)
    _show(int(items), dim, plan, takes, load, memory_gib)
    _show_alternatives(instead)
    result = {
        "items": int(items),
        "dim": dim,
        "plan": plan.model_dump(mode="json"),
        "estimate": takes.model_dump(mode="json"),
        "assumptions": load.model_dump(mode="json") | {"memory_gib": memory_gib},
        "alternatives": {name: each.model_dump(mode="json") for name, each in instead.items()},
    }
    return result, 0


def _alternatives(n_items: int, dim: int, plan: IndexPlan, load: Load, memory_gib: float) -> dict[str, IndexEstimate]:
    exact = plan_index(n_items, dim, IndexConfig(kind="exact"))
    instead = {"every item compared (exact)": estimate(exact, n_items, dim, load)} if plan.kind != "exact" else {}
    if plan.kind == "exact":
        coded = plan_index(n_items, dim, IndexConfig(kind="approximate"))
        if coded.kind == "approximate":
            instead[f"by codes ({coded.factory})"] = estimate(coded, n_items, dim, load, memory_gib=memory_gib)
    elif plan.n_codes >= dim / 2 and dim >= 4:
        codes_gib = estimate(plan, n_items, dim, load).codes_bytes / GIB
        small = plan_index(n_items, dim, IndexConfig(kind="approximate", memory_gib=0.75 * codes_gib))
        instead[f"half the codes ({small.factory})"] = estimate(small, n_items, dim, load, memory_gib=memory_gib)
    return instead


def _show(n_items: int, dim: int, plan: IndexPlan, takes: IndexEstimate, load: Load, memory_gib: float) -> None:
    table = Table("", "", box=None, show_header=False, pad_edge=False, title=None)
    exact = plan.kind == "exact"
    where = "read from disk as needed" if memory_gib and not exact else "mapped, shared by processes"
    rows = [
        ("index", "exact: every item is compared" if exact else f"{plan.factory} (FAISS), then the true vectors"),
        ("RAM a process", f"{_size(takes.codes_bytes)} codes; vectors {_size(takes.vectors_bytes)}, {where}"),
        ("RAM a machine", f"{_size(takes.ram_machine_bytes)} with {min(takes.cores, load.cores_a_machine)} processes"),
        ("disk", _size(takes.disk_bytes)),
        ("VRAM", _vram(takes, load)),
        ("build", f"{_time(takes.build_s)} on {load.build_cores} cores, of it {_time(takes.train_s)} training"),
        ("a search", _search(takes, load)),
        (
            "cores",
            f"{takes.cores} for {load.qps:g} a second ({takes.qps_a_core:,.0f} a core, {load.busy_share:.0%} busy)",
        ),
        ("machines", f"{takes.machines} of {load.cores_a_machine} cores"),
        ("cost", f"{takes.cost_a_month:,.0f} a month to serve, {takes.cost_of_build:,.2f} a build"),
    ]
    for name, value in rows:
        table.add_row(f"  [bold]{name}[/]", value)
    console.print(f"{n_items:,} items x {dim}", highlight=False)
    console.print(table)
    console.print(
        f"  [dim]assumed: {load.price_core_hour:g} a core-hour, {load.price_gib_hour:g} a GiB-hour, "
        f"{load.price_gpu_hour:g} a GPU-hour, {HOURS_A_MONTH} hours a month, k = {load.k}, one process a core; "
        "every one is an option or a setting of recsys.index.estimates.Load[/]"
    )
    if takes.is_extrapolated:
        console.print(f"  [yellow]estimate[/]: measured up to {MEASURED_UP_TO:,} items, extrapolated by formula beyond")
    if memory_gib and not exact:
        console.print(f"  a search reads up to {takes.page_reads:,} pages of 4 KiB where they are not in memory")


def _show_alternatives(instead: dict[str, IndexEstimate]) -> None:
    for name, takes in instead.items():
        console.print(
            f"  instead: {name}: {_size(takes.ram_machine_bytes)} a machine, "
            f"{takes.filtered_query_ms:,.2f} ms a search, {takes.cores} cores, {takes.cost_a_month:,.0f} a month",
            highlight=False,
        )


def _vram(takes: IndexEstimate, load: Load) -> str:
    graph = f"a CAGRA graph would take {_size(takes.graph_vram_bytes)} to build, not measured"
    if not load.gpu:
        return f"none ({graph})"
    return f"{_size(takes.vram_bytes)} to train cells; not measured ({graph})" if takes.vram_bytes else "none: no cells"


def _search(takes: IndexEstimate, load: Load) -> str:
    plain = f"{takes.query_ms:,.2f} ms of one core"
    if load.selectivity == 1:
        return plain
    return f"{plain}; {takes.filtered_query_ms:,.2f} ms where {100 * load.selectivity:g} % of the items pass"


def _size(n_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:,.1f} GiB"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
