"""Token buckets in Redis, `NAME:rate:BUCKET` (`NAME` as in the store's URL): the server's clock fills them."""

from __future__ import annotations

from collections.abc import Sequence

from recsys.ports import BucketDraw, Drawn
from recsys.storage.redis_connection import RedisConnection
from recsys.storage.redis_scripts import DRAW

LEASE_MS = 2000  # several times what a draw may take, so that a lease never ends while its worker still counts on it


class RedisBuckets:
    """Implements `recsys.ports.SharedBuckets` for one worker, which is known by its name."""

    def __init__(self, url: str, worker: str) -> None:
        """Raises ConfigError when the URL is not whole."""
        self._connection = RedisConnection(url)
        self._script = self._connection.client.register_script(DRAW)
        self._worker = worker

    def draw(self, draws: Sequence[BucketDraw]) -> Sequence[Drawn]:
        """See the port."""
        keys = [f"{self._connection.namespace}:rate:{each.name}" for each in draws]
        arguments = [part for each in draws for part in (repr(each.rate_per_s), each.burst, each.held, each.want)]
        with self._connection.asking():
            answer = self._script(keys, [self._worker, LEASE_MS, *arguments])
        return [Drawn(int(granted), float(left)) for granted, left in zip(answer[::2], answer[1::2], strict=True)]

    def close(self) -> None:
        self._connection.close()
