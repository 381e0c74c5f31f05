"""Any order of events, exposures, merges and erasures, against a store that is a few Python lists."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from recsys.ports import Store
from recsys.storage.urls import open_store
from tests.contracts.conftest import url_of
from tests.contracts.events import NOON, event, shown_to
from tests.contracts.test_feature_store_contract import ids

USERS = ("ann", "b/ö:b", "🎬", "an")
USER = st.sampled_from(USERS)
SETTINGS = settings(
    max_examples=15,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


class AgainstPlainLists(RuleBasedStateMachine):
    """The model: both logs as lists, histories as lists, each user's time of erasure, and cursors taken on the way."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self.minute = 0
        self.log: list[tuple[str, str]] = []
        self.shown: list[tuple[str, str]] = []
        self.history: dict[str, list[tuple[int, str]]] = {user: [] for user in USERS}
        self.erased: dict[str, int] = {}
        self.pairs: list[tuple[str, str]] = []
        self.cursors: list[tuple[str, set[str]]] = [("", set())]  # a cursor, and what had been read at it
        self.ever: list[tuple[str, str, int]] = []

    @rule(user=USER, number=st.integers(0, 60), back=st.integers(0, 6))
    def append(self, user: str, number: int, back: int) -> None:
        self.minute += 1
        minute = self.minute - back
        status = "accepted"
        if (f"e{number}", user) in self.log or any(known == f"e{number}" for known, _ in self.log):
            status = "duplicate"
        elif minute <= self.erased.get(user, -1_000):
            status = "rejected"
        else:
            self.log.append((f"e{number}", user))
            known = [name for _, name in self.history[user]]
            if f"e{number}" not in known:
                self.history[user].append((minute, f"e{number}"))
        assert self.store.append([event(number, user=user, minute=minute, item=f"i{number}")]) == [status]

    @rule(user=USER, number=st.integers(0, 10_000), back=st.integers(0, 6))
    def expose(self, user: str, number: int, back: int) -> None:
        self.minute += 1
        minute = self.minute - back
        kept = minute > self.erased.get(user, -1_000)
        if kept:
            self.shown.append((f"r{number}", user))
        stored = self.store.append_exposures([shown_to(user, number, NOON + timedelta(minutes=minute))])
        assert (stored.n_stored, stored.n_dropped) == (int(kept), int(not kept))

    @rule(source=USER, into=USER)
    def merge(self, source: str, into: str) -> None:
        self.store.merge_users(source, into, now=NOON + timedelta(minutes=self.minute))
        if source == into:
            return
        known = [name for _, name in self.history[into]]
        moved = [entry for entry in sorted(self.history[source], key=lambda e: e[0]) if entry[1] not in known]
        if self.history[source] or (source, into) not in self.pairs:
            self.pairs.append((source, into))
        self.history[into] = [*sorted(self.history[into], key=lambda e: e[0]), *moved]
        self.history[source] = []

    @rule(user=USER)
    def erase(self, user: str) -> None:
        users, found = {user}, True
        while found:
            found = {source for source, target in self.pairs if target in users} - users
            users |= found
        self.store.erase_user(user, now=NOON + timedelta(minutes=self.minute))
        for each in users:
            self.erased[each] = self.minute
            self.history[each] = []
        self.log = [entry for entry in self.log if entry[1] not in users]
        self.shown = [entry for entry in self.shown if entry[1] not in users]
        self.pairs = [pair for pair in self.pairs if not users & set(pair)]

    @rule(count=st.integers(1, 5))
    def read_a_little(self, count: int) -> None:
        after, read = self.cursors[-1]
        for (cursor, interaction), _ in zip(self.store.read(after), range(count), strict=False):
            after, read = cursor, read | {f"{interaction.event_id} {interaction.user_id} {interaction.occurred_at}"}
        self.cursors.append((after, read))

    @invariant()
    def logs_hold_what_was_kept_in_order(self) -> None:
        assert [(e.event_id, e.user_id) for _, e in self.store.read()] == self.log
        assert [(e.recommendation_id, e.user_id) for _, e in self.store.exposures()] == self.shown
        assert [(m.source_user_id, m.target_user_id) for m in self.store.merges()] == self.pairs

    @invariant()
    def histories_are_those_of_the_model(self) -> None:
        for user, entries in self.history.items():
            expected = [f"i{name[1:]}" for _, name in sorted(entries, key=lambda entry: entry[0])]
            assert ids(self.store.user_state(user).history) == expected

    @invariant()
    def any_cursor_reads_all_that_was_not_read_before_it(self) -> None:
        everything = [f"{e.event_id} {e.user_id} {e.occurred_at}" for _, e in self.store.read()]
        for cursor, read in self.cursors[-3:]:
            rest = [f"{e.event_id} {e.user_id} {e.occurred_at}" for _, e in self.store.read(cursor)]
            assert rest == [name for name in everything if name not in read]

    def teardown(self) -> None:
        self.store.close()


@pytest.mark.parametrize("kind", ["sqlite", "redis", "memory"])
def test_users_come_go_and_are_merged_in_any_order(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    run_state_machine_as_test(  # a factory will do
        lambda: AgainstPlainLists(open_store(url_of(request, kind, tmp_path))),  # type: ignore[arg-type,return-value]
        settings=SETTINGS,
    )
