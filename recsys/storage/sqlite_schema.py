"""The tables of a SQLite store, and how a file of an earlier version gets those it lacks."""

from __future__ import annotations

import secrets
from sqlite3 import Connection

SCHEMA_VERSION = 2

_FIRST = """
create table meta (name text primary key, value) without rowid;
create table events (
    seq integer primary key autoincrement,
    event_id text not null unique,
    user_id text not null,
    item_id text not null,
    occurred_at_us integer not null,
    event_type text not null,
    value real,
    recommendation_id text,
    position integer,
    context text not null
);
create table exposures (seq integer primary key autoincrement, record blob not null);
create table user_states (user_id text primary key, state blob not null);
create table live_items (item_id text primary key, version integer not null, record blob not null);
create index live_items_by_version on live_items (version);
"""
_SECOND = """
create table served (user_id text primary key, marks blob not null, until_ms integer not null) without rowid;
create index served_by_end on served (until_ms);
create table erased (user_hash text primary key, until_us integer not null) without rowid;
create table merges (
    seq integer primary key autoincrement,
    source_user_id text not null,
    target_user_id text not null,
    merged_at_us integer not null
);
create index merges_by_target on merges (target_user_id, source_user_id);
create table drained (spool_id text primary key, until integer not null) without rowid;
create table taken (
    bucket integer not null, item_id text not null, count integer not null, primary key (bucket, item_id)
) without rowid;
"""


def upgrade(connection: Connection) -> int:
    """Inside a transaction: make what is absent. Returns the version that the file had; a newer one is left alone."""
    found = int(connection.execute("pragma user_version").fetchone()[0])
    if found >= SCHEMA_VERSION:
        return found
    if found == 0:
        _run(connection, _FIRST)
        connection.execute("insert into meta values ('log_id', ?)", (secrets.token_hex(8),))
        connection.execute("insert into meta values ('items_version', 0)")
    _run(connection, _SECOND)
    connection.execute(f"pragma user_version = {SCHEMA_VERSION}")
    return found


def _run(connection: Connection, statements: str) -> None:
    for statement in statements.split(";"):
        connection.execute(statement)
