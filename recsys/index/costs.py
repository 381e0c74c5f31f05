"""What searching and building cost: the measured constants, each once, and the formulas over them.

Both the choice made at a search (an exact comparison, or codes) and the estimates of `recsys plan` use them.
Measured on one thread of a Xeon with AVX-512 at 2.6 GHz, faiss-cpu 1.15, k = 100, over 1e5 x 128 vectors of real texts
(`make bench-ann-costs` measures them again); another machine differs by a factor, less in the ratios.
"""

from __future__ import annotations

PASSED_NS_A_FLOAT = 0.16
"""A matrix product over all vectors, out of memory."""

GATHERED_NS_A_FLOAT = 0.3
"""Vectors gathered by row and compared."""

SWEPT_NS_A_CODE = 0.02
"""One 4-bit code of a fast-scan sweep: a table lookup in a register."""

FETCHED_NS = 75.0
"""One more candidate to keep, sort and put in order, without comparing its vector."""

CALL_NS = 10_000.0
"""A query in numpy, before it looks at anything."""

CODED_CALL_NS = 70_000.0
"""A query through FAISS: the call, and caches that a sweep has left cold."""

MULTIPLIED_NS = 0.016
"""One multiplication in finding the nearest centre of a cell, on one thread."""

ENCODED_NS_A_FLOAT = 25.0
"""Rotating a vector and finding its codes, for each dimension."""

CODES_TRAINED_NS_A_FLOAT = 55.0
"""Training the codes, for each dimension of `FEWEST_TRAINING_VECTORS` vectors."""


def exact_ns(n_items: int, dim: int) -> float:
    """One query against all items."""
    return CALL_NS + PASSED_NS_A_FLOAT * n_items * dim


def subset_ns(n_allowed: int, dim: int) -> float:
    """One query against some items, gathered by row."""
    return CALL_NS + GATHERED_NS_A_FLOAT * n_allowed * dim


def coded_ns(n_swept: float, n_codes: float, n_fetched: float, dim: int) -> float:
    """One query by codes: `n_swept` items of `n_codes` 4-bit codes each, then the best `n_fetched` exactly."""
    return CODED_CALL_NS + SWEPT_NS_A_CODE * n_swept * n_codes + (FETCHED_NS + GATHERED_NS_A_FLOAT * dim) * n_fetched
