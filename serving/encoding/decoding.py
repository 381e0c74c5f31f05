"""Pictures and sounds to features in processes that the kernel holds to their caps: an upload may be hostile."""

from __future__ import annotations

from collections import OrderedDict

from embeddings.isolation import DecodeLimits, DecodePool
from embeddings.preprocess.features import Features
from embeddings.refused import Refused

MAX_POOLS = 3
"""Preprocessings whose processes are kept; a release has two at most, and the next one mostly the same."""

WALL_S = 3.0


class IsolatedDecoder:
    """One decode process for each preprocessing. Used by one thread at a time."""

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes`: longest content and longest features."""
        self._limits = DecodeLimits(wall_s=WALL_S, content_bytes=max_bytes, lookahead_items=2)
        self._pools: OrderedDict[str, DecodePool] = OrderedDict()

    def features(self, preprocessing: str, content: bytes) -> Features:
        """What `preprocessing`, the canonical JSON of an embedding space, makes of a file.

        Raises:
            Refused: it is no picture or sound, or decoding it costs more than the caps allow.
            EnvironmentProblem: decode processes cannot be started here, or lack a library.
        """
        ((_, result),) = self._pool(preprocessing).map([(None, content)])
        if isinstance(result, Refused):
            raise result
        return result

    def start(self, preprocessing: str) -> None:
        """Start the process, so that the first upload does not wait for that."""
        list(self._pool(preprocessing).map([(None, b"")]))

    def close(self) -> None:
        """End the processes."""
        while self._pools:
            self._pools.popitem()[1].close()

    def _pool(self, preprocessing: str) -> DecodePool:
        pool = self._pools.get(preprocessing)
        if pool is None:
            pool = self._pools[preprocessing] = DecodePool(preprocessing, workers=1, limits=self._limits)
            if len(self._pools) > MAX_POOLS:
                self._pools.popitem(last=False)[1].close()
        self._pools.move_to_end(preprocessing)
        return pool
