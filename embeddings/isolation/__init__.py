"""Decoding in isolated worker processes."""

from embeddings.isolation.limits import DecodeLimits, DecodeStatistics, limits_of
from embeddings.isolation.pool import DecodePool

__all__ = ["DecodeLimits", "DecodePool", "DecodeStatistics", "limits_of"]
