"""What every event log promises (`recsys.ports.EventLog`)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from threading import Barrier, Thread

import pytest

from recsys.errors import InputError
from recsys.events import Exposure, Interaction
from recsys.ports import Store
from recsys.storage.urls import open_store
from tests.contracts.events import NOON, event


def logged(store: Store, after: str = "") -> list[str]:
    return [interaction.event_id for _, interaction in store.read(after)]


def exposure(number: int) -> Exposure:
    return Exposure(
        recommendation_id=f"r{number}",
        user_id=None if number % 2 else "ann",
        session_id="s/1",
        occurred_at=NOON + timedelta(microseconds=number),
        release="f" * 64,
        item_ids=("i1", "i2"),
        propensities=(0.75, 0.1),
        sources=("ann", "popular"),
        variants={"exp": "treatment"},
        surface="home",
    )


def test_a_replay_is_a_duplicate_and_counts_once(store: Store) -> None:
    assert store.append([event(1), event(2)]) == ["accepted", "accepted"]
    assert store.append([event(2), event(3)]) == ["duplicate", "accepted"]
    assert logged(store) == ["e1", "e2", "e3"]
    assert len(store.user_state("ann").history) == 3


def test_the_first_of_two_with_one_id_in_a_batch_wins(store: Store) -> None:
    second = replace(event(1), user_id="bob", item_id="other")
    assert store.append([event(1), second, event(2)]) == ["accepted", "duplicate", "accepted"]
    assert [interaction.item_id for _, interaction in store.read()] == ["i1", "i2"]
    assert store.user_state("bob").history == ()


def test_an_empty_batch_is_nothing(store: Store) -> None:
    assert store.append([]) == []


def test_a_duplicate_is_known_after_a_restart(store_url: str) -> None:
    first = open_store(store_url)
    first.append([event(1)])
    first.close()
    second = open_store(store_url)
    assert second.append([event(1), event(2)]) == ["duplicate", "accepted"]
    assert logged(second) == ["e1", "e2"]
    second.close()


def test_every_field_comes_back(store: Store) -> None:
    full = Interaction(
        event_id="é/1:🎬",
        user_id="u" * 256,
        item_id="日本",
        occurred_at=datetime(2004, 3, 28, 2, 13, 20, 1009, tzinfo=UTC),
        event_type="purchase",
        value=-1.5,
        recommendation_id="r1",
        position=0,
        context={"device": "tv", "tags": ["a", {"b": None}], "n": 2.5, "ok": True, "large": 10**30},
    )
    store.append([full, event(1)])
    assert [interaction for _, interaction in store.read()] == [full, event(1)]


def test_times_come_back_in_utc(store: Store) -> None:
    in_delhi = replace(event(1), occurred_at=NOON.astimezone(timezone(timedelta(hours=5, minutes=30))))
    store.append([in_delhi])
    ((_, interaction),) = store.read()
    assert interaction.occurred_at == NOON
    assert interaction.occurred_at.utcoffset() == timedelta(0)


def test_a_cursor_continues_right_after_its_event(store: Store) -> None:
    for number in range(5):
        store.append([event(number, minute=-number)])  # the log keeps the order of arrival, not of time
    cursors = [cursor for cursor, _ in store.read()]
    assert len(set(cursors)) == 5
    assert logged(store, cursors[1]) == ["e2", "e3", "e4"]
    assert logged(store, cursors[4]) == []
    store.append([event(5)])
    assert logged(store, cursors[4]) == ["e5"]


def test_a_long_log_is_read_whole_and_in_order(store: Store) -> None:
    for start in range(0, 2_500, 500):
        store.append([event(number, user=f"u{number % 7}") for number in range(start, start + 500)])
    assert logged(store) == [f"e{number}" for number in range(2_500)]


def test_a_cursor_of_another_log_is_refused(store: Store) -> None:
    other = open_store("memory://")
    other.append([event(1)])
    ((cursor, _),) = other.read()
    with pytest.raises(InputError, match="another event log"):
        store.read(cursor)


def test_exposures_come_back_in_order_apart_from_events(store: Store) -> None:
    store.append([event(1)])
    for number in range(3):
        store.append_exposure(exposure(number))
    read = list(store.exposures())
    assert [record for _, record in read] == [exposure(number) for number in range(3)]
    assert [record.recommendation_id for _, record in store.exposures(read[0][0])] == ["r1", "r2"]
    assert logged(store) == ["e1"]


def test_a_thousand_events_of_a_thousand_users_are_one_batch(store: Store) -> None:
    batch = [event(number, user=f"u{number}") for number in range(1_000)]
    assert Counter(store.append(batch)) == {"accepted": 1_000}
    assert store.user_state("u999").history[0].item_id == "i999"


@pytest.mark.parametrize("batch_size", [1, 40])
def test_four_threads_with_the_same_events_have_each_accepted_exactly_once(store: Store, batch_size: int) -> None:
    events = [event(number, user=f"u{number % 3}") for number in range(200)]
    accepted: list[str] = []
    started = Barrier(4)

    def write() -> None:
        started.wait()
        for at in range(0, 200, batch_size):
            batch = events[at : at + batch_size]
            statuses = store.append(batch)
            accepted.extend(e.event_id for e, status in zip(batch, statuses, strict=True) if status == "accepted")

    threads = [Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    everything = sorted(e.event_id for e in events)
    assert sorted(accepted) == everything
    assert sorted(logged(store)) == everything
    assert sum(len(store.user_state(f"u{n}").history) for n in range(3)) == 200


def test_two_open_stores_see_each_others_writes(store_url: str) -> None:
    one, other = open_store(store_url), open_store(store_url)
    one.append([event(1)])
    assert other.append([event(1), event(2)]) == ["duplicate", "accepted"]
    assert [item.item_id for item in one.user_state("ann").history] == ["i1", "i2"]
    one.close()
    other.close()
