"""Any order of batches, replays, late events, imports and reopenings, against a store that is a few Python lists."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from recsys.events import Interaction, hash64
from recsys.ports import MAX_STORED_HISTORY, Store
from recsys.storage.urls import open_store
from tests.contracts.conftest import url_of
from tests.contracts.events import NOON_MS, event, past

USERS = ("ann", "b/ö:b", "🎬")
NUMBERS = st.integers(0, 40)
MINUTES = st.integers(0, 5)  # few, so that many events share their moment
SETTINGS = settings(
    max_examples=12,
    stateful_step_count=15,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


class AgainstPlainLists(RuleBasedStateMachine):
    """The model: the log as a list, and per user every (occurred_at_ms, item_id, event_id) in order of arrival."""

    def __init__(self, open_again: Callable[[Store | None], Store]) -> None:
        super().__init__()
        self.open_again = open_again
        self.store = open_again(None)
        self.log: list[str] = []
        self.arrived: dict[str, list[tuple[int, str, str]]] = {user: [] for user in USERS}

    def arrive(self, user: str, occurred_at_ms: int, item_id: str, event_id: str) -> None:
        if all(known != event_id for _, _, known in self.arrived[user]):
            self.arrived[user].append((occurred_at_ms, item_id, event_id))

    @rule(batch=st.lists(st.tuples(NUMBERS, st.sampled_from(USERS), MINUTES, st.integers(0, 9)), max_size=8))
    def append(self, batch: list[tuple[int, str, int, int]]) -> None:
        events = [event(number, user=user, minute=minute, item=f"i{item}") for number, user, minute, item in batch]
        self.append_events(events)

    @rule(user=st.sampled_from(USERS), first=st.integers(100, 400))
    def append_many(self, user: str, first: int) -> None:
        self.append_events([event(number, user=user, minute=3) for number in range(first, first + 150)])

    def append_events(self, events: list[Interaction]) -> None:
        expected = []
        for interaction in events:
            new = interaction.event_id not in self.log
            expected.append("accepted" if new else "duplicate")
            if new:
                self.log.append(interaction.event_id)
                self.arrive(interaction.user_id, interaction.occurred_at_ms, interaction.item_id, interaction.event_id)
        assert self.store.append(events) == expected

    @rule(
        user=st.sampled_from(USERS), numbers=st.lists(st.integers(1_000, 1_400), min_size=1, max_size=60, unique=True)
    )
    def import_history(self, user: str, numbers: list[int]) -> None:
        self.store.import_histories([(user, [past(number, ms=NOON_MS - 1 + number % 2) for number in numbers])])
        for number in numbers:
            self.arrive(user, NOON_MS - 1 + number % 2, f"i{number}", f"e{number}")

    @rule()
    def reopen(self) -> None:
        self.store = self.open_again(self.store)

    @invariant()
    def the_log_holds_each_accepted_event_once_in_order(self) -> None:
        assert [interaction.event_id for _, interaction in self.store.read()] == self.log

    @invariant()
    def states_hold_what_arrived(self) -> None:
        for user, arrived in self.arrived.items():
            latest = sorted(arrived, key=lambda known: known[0])[-MAX_STORED_HISTORY:]
            state = self.store.user_state(user)
            assert [(item.occurred_at_ms, item.item_id, item.event_hash) for item in state.history] == [
                (occurred_at_ms, item_id, hash64(event_id)) for occurred_at_ms, item_id, event_id in latest
            ]
            assert state.seen.tolist() == sorted({hash64(item_id) for _, item_id, _ in arrived})

    def teardown(self) -> None:
        self.store.close()


@pytest.mark.parametrize("kind", ["sqlite", "redis", "memory"])
def test_an_accepted_event_is_never_lost_and_never_counted_twice(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    def machine() -> AgainstPlainLists:
        url = url_of(request, kind, tmp_path)

        def open_again(opened: Store | None) -> Store:
            if opened is None or kind == "memory":
                return opened or open_store(url)
            opened.close()
            return open_store(url)

        return AgainstPlainLists(open_again)

    run_state_machine_as_test(machine, settings=SETTINGS)  # type: ignore[arg-type]  # a factory will do
