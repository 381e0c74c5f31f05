"""Decoding in isolated worker processes."""

from embeddings.isolation.limits import DecodeLimits, DecodeStatistics
from embeddings.isolation.pool import DecodePool

__all__ = ["DecodeLimits", "DecodePool", "DecodeStatistics"]
