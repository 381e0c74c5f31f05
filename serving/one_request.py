"""The store as one request sees it: the user's state was read before, and its exposure goes to the spool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from recsys.errors import StoreUnavailable
from recsys.events import Exposure
from recsys.ports import PackedState, StateReader, UserState
from serving.feature_cache import KnownStates
from serving.telemetry import Telemetry

NOBODY = UserState()


@dataclass(slots=True)
class OneRequest:
    """Implements `recsys.ports.RequestStore`.

    Attributes:
        state: what the store knows of the user; None where it did not answer and nothing is known from before.
        append: takes the exposure; raises StoreUnavailable.
        is_stale: the state is an earlier one, kept by this process.
    """

    state: PackedState | None
    append: Callable[[Exposure], None]
    is_stale: bool = False

    def user_state(self, user_id: str) -> PackedState:
        if self.state is None:
            raise StoreUnavailable("the store did not answer, and nothing is known of this user from before")
        return self.state

    def append_exposure(self, exposure: Exposure) -> None:
        self.append(exposure)


@dataclass(frozen=True, slots=True)
class UserStates:
    """Reads users' states, and falls back to the last one known."""

    reader: StateReader
    known: KnownStates
    telemetry: Telemetry

    async def read(
        self, user_id: str | None, timeout_s: float, *, with_served: bool
    ) -> tuple[PackedState | None, bool]:
        """The state, and whether it is an earlier one; None where there is none to be had."""
        if user_id is None:
            return NOBODY, False
        try:
            state = await self.reader.packed_state(user_id, timeout_s=timeout_s, with_served=with_served)
            _ = state.version  # raises where it is no state
        except StoreUnavailable:
            self.telemetry.store_error("user_state")
            known = self.known.last_known(user_id)
            return known, known is not None
        self.known.remember(user_id, state)
        return state, False
