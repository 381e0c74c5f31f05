"""Rerank: the slate as a set. Diversity, a shop's rules, exploration with its propensities."""

from recsys.reranking.choose import Chosen, Matcher, SlateInput, choose_slate, pinned_rows
from recsys.reranking.config import Boost, Cap, ExplorationConfig, RerankConfig, Slot, SurfaceRules
from recsys.reranking.groups import GroupsOf
from recsys.reranking.mmr import diversify, mmr
from recsys.reranking.notes import RerankNote

__all__ = [
    "Boost",
    "Cap",
    "Chosen",
    "ExplorationConfig",
    "GroupsOf",
    "Matcher",
    "RerankConfig",
    "RerankNote",
    "SlateInput",
    "Slot",
    "SurfaceRules",
    "choose_slate",
    "diversify",
    "mmr",
    "pinned_rows",
]
