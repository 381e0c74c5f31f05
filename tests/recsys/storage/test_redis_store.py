"""What only Redis can do to us: it goes away, hangs, fills up, forgets scripts."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import redis

from recsys.errors import ConfigError, StoreUnavailable
from recsys.events import SpoolRange, UserMerge
from recsys.ports import LiveItem, Store
from recsys.storage.redis_log import RedisLog
from recsys.storage.redis_server import PrivateRedis
from recsys.storage.urls import open_store
from tests.contracts.events import LATER, NOON, NOON_MS, event, past, shown_to
from tests.contracts.test_event_log_contract import exposure


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PrivateRedis]:
    with PrivateRedis(tmp_path / "redis", append_only=True) as running:
        yield running


@pytest.fixture
def store(server: PrivateRedis) -> Iterator[Store]:
    opened = open_store(server.url)
    yield opened
    opened.close()


@pytest.fixture
def admin(server: PrivateRedis) -> Iterator[redis.Redis]:
    client = redis.Redis(port=server.port, protocol=2)
    yield client
    client.close()


def every_call(store: Store) -> list[tuple[str, object]]:
    return [
        ("user_state", lambda: store.user_state("ann")),
        ("import_histories", lambda: store.import_histories([("ann", [past(1)])])),
        ("block", lambda: store.block("ann", ["i1"])),
        ("unblock", lambda: store.unblock("ann", ["i1"])),
        ("note_served", lambda: store.note_served("ann", np.array([1], np.uint64), NOON_MS, 60)),
        ("merge_users", lambda: store.merge_users("anon", "ann", now=LATER)),
        ("merges", lambda: list(store.merges())),
        ("erase_user", lambda: store.erase_user("nobody", now=NOON)),
        ("trending", lambda: store.trending(NOON_MS, 3_600, 5)),
        ("delete_items", lambda: store.delete_items(["i1"])),
        ("upsert_items", lambda: store.upsert_items([LiveItem("i1", {}, {}, {})])),
        ("items_since", lambda: store.items_since(0)),
        ("append", lambda: store.append([event(1)])),
        ("append_exposure", lambda: store.append_exposure(exposure(1))),
        ("read", lambda: list(store.read())),
        ("exposures", lambda: list(store.exposures())),
        ("ping", store.ping),
    ]


def test_nothing_is_asked_before_the_first_use_and_a_dead_server_is_named(server: PrivateRedis) -> None:
    server.kill()
    store = open_store(f"{server.url}?namespace=n")
    for name, call in every_call(store):
        with pytest.raises(StoreUnavailable, match=rf"127\.0\.0\.1:{server.port}.*Start it") as raised:
            call()  # type: ignore[operator]
        assert raised.value.__cause__ is not None, name


def test_the_same_store_works_again_once_redis_is_back_and_nothing_is_lost(server: PrivateRedis, store: Store) -> None:
    store.append([event(1), event(2)])
    server.kill()
    with pytest.raises(StoreUnavailable):
        store.append([event(3)])
    server.start()
    assert store.append([event(2), event(3)]) == ["duplicate", "accepted"]
    assert [item.item_id for item in store.user_state("ann").history] == ["i1", "i2", "i3"]
    assert [interaction.event_id for _, interaction in store.read()] == ["e1", "e2", "e3"]


def test_a_server_that_hangs_is_given_up_on_soon(server: PrivateRedis, store: Store) -> None:
    store.append([event(1)])
    os.kill(server.pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(StoreUnavailable, match="did not answer"):
            store.user_state("ann")
        assert time.monotonic() - started < 5  # the limit is 0.5 s; the rest is for a busy machine
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert len(store.user_state("ann").history) == 1


def test_a_write_that_ran_into_the_time_limit_may_be_sent_again(server: PrivateRedis, store: Store) -> None:
    store.append([event(1)])
    os.kill(server.pid, signal.SIGSTOP)
    try:
        with pytest.raises(StoreUnavailable):
            store.append([event(2)])
    finally:
        os.kill(server.pid, signal.SIGCONT)
    store.append([event(2)])
    assert [interaction.event_id for _, interaction in store.read()] == ["e1", "e2"]
    assert len(store.user_state("ann").history) == 2


def test_forgotten_scripts_are_sent_again(store: Store, admin: redis.Redis) -> None:
    store.append([event(1)])
    store.upsert_items([LiveItem("i1", {}, {}, {})])
    admin.script_flush()
    assert store.append([event(1), event(2)]) == ["duplicate", "accepted"]
    assert store.upsert_items([LiveItem("i2", {}, {}, {})]) == 2


def test_a_user_state_is_one_command(store: Store, admin: redis.Redis) -> None:
    store.append([event(number) for number in range(200)])
    store.block("ann", ["i1"])
    admin.config_resetstat()
    store.user_state("ann")
    ours = ("cmdstat_config", "cmdstat_info")
    counted = {name: f["calls"] for name, f in admin.info("commandstats").items() if not name.startswith(ours)}
    assert counted == {"cmdstat_get": 1}


@pytest.mark.parametrize(
    ("settings", "advice"),
    [({"maxmemory": "100kb"}, "raise maxmemory"), ({"requirepass": "secret"}, "password")],
)
def test_a_refused_write_says_what_to_do_and_changes_nothing(
    store: Store, admin: redis.Redis, settings: dict[str, str], advice: str
) -> None:
    store.append([event(1)])
    admin.ping()
    for name, value in settings.items():
        admin.config_set(name, value)
    if "requirepass" in settings:
        store = open_store(f"redis://127.0.0.1:{admin.connection_pool.connection_kwargs['port']}/0")
    with pytest.raises(StoreUnavailable, match=advice):
        store.append([event(2), event(3, user="bob")])
    for name in settings:
        admin.config_set(name, "0" if name == "maxmemory" else "")
    assert [interaction.event_id for _, interaction in store.read()] == ["e1"]
    assert store.user_state("bob").history == ()


def test_a_replica_is_told_from_the_primary(store: Store, admin: redis.Redis) -> None:
    store.append([event(1)])
    admin.replicaof("127.0.0.1", "1")
    with pytest.raises(StoreUnavailable, match="name the primary"):
        store.append([event(2)])
    admin.replicaof("NO", "ONE")
    assert store.append([event(2)]) == ["accepted"]


def test_keys_of_another_program_are_named_as_such(store: Store, admin: redis.Redis) -> None:
    admin.hset("recsys:u:ann", "name", "Ann")
    with pytest.raises(StoreUnavailable, match="namespace of its own"):
        store.user_state("ann")
    admin.set("recsys:u:bob", b"something else")
    with pytest.raises(StoreUnavailable, match="written by another version"):
        store.user_state("bob")


def test_namespaces_and_databases_keep_apart(server: PrivateRedis, store: Store) -> None:
    store.append([event(1)])
    for other in (f"{server.url}?namespace=other", server.url.replace("/0", "/1")):
        assert open_store(other).append([event(1)]) == ["accepted"]


def test_an_accepted_event_is_remembered_for_long_but_not_for_ever(store: Store, admin: redis.Redis) -> None:
    store.append([event(1)])
    (key,) = admin.keys("recsys:e:*")
    assert 89 * 86_400 < int(admin.ttl(key)) <= 90 * 86_400


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://host:port/0",
        "redis://host/zero",
        "redis://host/0?namespace=",
        "redis://host/0?timeout=3",
        "redis://host:99999/0",
    ],
)
def test_a_url_that_is_not_whole_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"write redis://"):
        open_store(url)


def test_a_record_that_another_program_wrote_is_the_stores_fault_and_said_so(store: Store, admin: redis.Redis) -> None:
    store.upsert_items([LiveItem("i1", {"title": "one"}, {}, {})])
    admin.hset("recsys:items", "junk", b"junk")
    admin.zadd("recsys:items:order", {"junk": 7})
    with pytest.raises(StoreUnavailable, match="another program"):
        store.items_since(0)
    deep: dict[str, object] = {}
    for _ in range(900):
        deep = {"a": deep}
    store.upsert_items([LiveItem("junk", deep, {}, {})])
    with pytest.raises(StoreUnavailable, match="another program"):
        _read_at_depth(store, 300)
    admin.xadd("recsys:log", {"r": b"junk"})
    with pytest.raises(StoreUnavailable, match="another program"):
        list(store.read())


def _read_at_depth(store: Store, depth: int) -> None:
    """As a caller that is itself many calls deep."""
    if depth:
        _read_at_depth(store, depth - 1)
    else:
        store.items_since(0)


def test_an_item_whose_record_went_since_its_name_was_read_is_left_out(store: Store, admin: redis.Redis) -> None:
    store.upsert_items([LiveItem("i1", {}, {}, {}), LiveItem("i2", {}, {}, {})])
    admin.hdel("recsys:items", "i1")
    version, items = store.items_since(0)
    assert (version, [item.item_id for item in items]) == (2, ["i2"])


def test_a_full_redis_still_answers_all_reads(store: Store, admin: redis.Redis) -> None:
    store.append([event(1)])
    store.upsert_items([LiveItem("i1", {}, {}, {})])
    assert len(list(store.read())) == 1
    admin.config_set("maxmemory", 1)
    with pytest.raises(StoreUnavailable, match="raise maxmemory"):
        store.append([event(2)])
    assert [item.item_id for item in store.user_state("ann").history] == ["i1"]
    assert [item.item_id for item in store.items_since(0)[1]] == ["i1"]
    assert len(list(store.read())) == 1


def test_nothing_in_redis_names_an_erased_user(store: Store, admin: redis.Redis) -> None:
    user = "someone@example.org/é"
    store.append([event(1, user=user), event(2, user="bob"), event(3, user="anon-77")])
    store.merge_users("anon-77", user, now=NOON)
    store.append_exposures([shown_to(user, 1), shown_to("bob", 2)], served_keep_s=600)
    store.block(user, ["i1"])
    assert any(user.encode() in part for part in everything(admin))
    store.erase_user(user, now=LATER)
    for name in (user, "anon-77"):
        assert not any(name.encode() in part for part in everything(admin))
    assert any(b"bob" in part for part in everything(admin))
    assert len(list(admin.scan_iter("recsys:e:*"))) == 1  # the other events' marks went with them


def everything(admin: redis.Redis) -> list[bytes]:
    """All keys, and all that lies under them."""
    found: list[bytes] = []
    for key in admin.scan_iter(count=1_000):
        found.append(key)
        kind = admin.type(key)
        if kind == b"string":
            found.append(admin.get(key))
        elif kind == b"stream":
            found += [fields[b"r"] for _, fields in admin.xrange(key)]
        elif kind == b"list":
            found += admin.lrange(key, 0, -1)
        elif kind == b"set":
            found += admin.smembers(key)
        elif kind == b"zset":
            found += admin.zrange(key, 0, -1)
        else:
            found += [part for pair in admin.hgetall(key).items() for part in pair]
    return found


def test_what_was_served_and_what_is_taken_forget_themselves(store: Store, admin: redis.Redis) -> None:
    store.note_served("ann", np.array([1], np.uint64), NOON_MS, 60.5)
    assert 60_000 < admin.pttl("recsys:s:ann") <= 60_500
    store.note_served("anon", np.array([1], np.uint64), NOON_MS, 600)
    store.merge_users("anon", "ann", now=LATER)
    assert 599_000 < admin.pttl("recsys:s:ann") <= 600_000
    store.append([replace(event(1), occurred_at=datetime.now(UTC))])
    (bucket,) = admin.scan_iter("recsys:t:*")
    assert 86_000 < admin.ttl(bucket) < 90_000


def test_ten_minutes_keep_the_items_taken_most(store: Store, admin: redis.Redis) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    events = [replace(event(n, item=f"i{n}", user=f"u{n % 9}"), occurred_at=now) for n in range(6_000)]
    store.append([replace(event(n, item="hit"), event_id=f"h{n}", occurred_at=now) for n in range(5)])
    for start in range(0, 6_000, 1_000):
        store.append(events[start : start + 1_000])
    (bucket,) = admin.scan_iter("recsys:t:*")
    assert 4_000 <= admin.zcard(bucket) <= 5_000
    assert store.trending(int(now.timestamp() * 1_000), 3_600, 1)[0] == ("hit",)


def test_a_batch_of_exposures_on_keys_of_another_program_writes_nothing(store: Store, admin: redis.Redis) -> None:
    admin.set("recsys:exposures", "mine")
    with pytest.raises(StoreUnavailable, match="namespace of its own"):
        store.append_exposures([shown_to("ann")], SpoolRange("s", 0, 10), served_keep_s=60)
    assert not admin.exists("recsys:d:s", "recsys:s:ann")


def test_who_is_merged_while_an_erasure_begins_is_erased_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.append([event(1, user="anon"), event(2)])
    read_merges = RedisLog.merges

    def read_and_then_merge(log: RedisLog) -> Iterator[UserMerge]:
        found = list(read_merges(log))
        if not found:
            store.merge_users("anon", "ann", now=NOON)
        return iter(found)

    monkeypatch.setattr(RedisLog, "merges", read_and_then_merge)
    assert store.erase_user("ann", now=LATER).n_events == 2
    assert list(store.read()) == []
