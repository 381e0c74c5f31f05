"""The `[index]` section of recsys.toml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from recsys.config import Config

EXACT_BELOW = 50_000


class IndexConfig(Config):
    """The `[index]` section: what may be said of the search over item vectors; the planner decides what is left open.

    Attributes:
        kind: "auto" lets the number of items decide.
        exact_below: items from which "auto" approximates.
        factory: a FAISS factory string for approximate search, "auto" = by N, D and memory.
        refine_factor: candidates fetched for each one asked for, before tuning; more recall, more time.
        n_probes: cells searched, before tuning; 0 = by N.
        recall_target: share of the exact 100 nearest that tuning wants found; 0 = no tuning.
        memory_gib: memory a process may hold for the index; smaller codes are chosen to fit, and the vectors are read
            from disk as they are needed; 0 = no limit.
        threads: CPU threads that fill the index; 0 = all cores. Their number changes no byte of it.
        seed: of the training of cells and codes.
    """

    kind: Literal["auto", "exact", "approximate"] = "auto"
    exact_below: Annotated[int, Field(ge=0)] = EXACT_BELOW
    factory: str = "auto"
    refine_factor: Annotated[int, Field(ge=1)] = 4
    n_probes: Annotated[int, Field(ge=0)] = 0
    recall_target: Annotated[float, Field(ge=0, le=1)] = 0.99
    memory_gib: Annotated[float, Field(ge=0)] = 0.0
    threads: Annotated[int, Field(ge=0)] = 0
    seed: int = 1234
