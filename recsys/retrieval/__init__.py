"""Catalogue → some hundreds of candidates, from several sources, each with a quota and its name kept."""

from recsys.retrieval.merging import SOURCES, Found, SourceName, bit_of, merge, source_of
from recsys.retrieval.sources import (
    Asked,
    Nearest,
    RetrievalConfig,
    compared,
    found_before,
    found_by_all,
    keep_found,
    nearest_to,
    searched,
)

__all__ = [
    "SOURCES",
    "Asked",
    "Found",
    "Nearest",
    "RetrievalConfig",
    "SourceName",
    "bit_of",
    "compared",
    "found_before",
    "found_by_all",
    "keep_found",
    "merge",
    "nearest_to",
    "searched",
    "source_of",
]
