"""Users' states from Redis for an event loop: one GET, or one MGET, over one connection a process."""

from __future__ import annotations

from recsys.storage.packed import PackedUserState
from recsys.storage.redis_address import RedisAddress
from recsys.storage.redis_keys import RedisKeys
from recsys.storage.redis_pipe import RedisPipe, pack_command


class RedisStateReader:
    """Implements `recsys.ports.StateReader`; belongs to the event loop that uses it first."""

    def __init__(self, url: str) -> None:
        """Asks the server nothing yet. Raises ConfigError when the URL is not whole."""
        address = RedisAddress.parse(url)
        self._keys = RedisKeys(address.namespace)
        self._pipe = RedisPipe(address)

    async def packed_state(self, user_id: str, *, timeout_s: float, with_served: bool = False) -> PackedUserState:
        """See the port."""
        if not with_served:
            command = pack_command((b"GET", self._keys.state(user_id)))
            return PackedUserState(await self._pipe.ask(command, timeout_s))
        command = pack_command((b"MGET", self._keys.state(user_id), self._keys.served(user_id)))
        state, served = await self._pipe.ask(command, timeout_s)
        return PackedUserState(state, served)

    async def close(self) -> None:
        """See the port."""
        await self._pipe.close()
