"""Which store a URL names."""

from __future__ import annotations

from pathlib import Path

from recsys.errors import ConfigError
from recsys.ports import SharedBuckets, StateReader, Store
from recsys.storage.redis_address import SCHEMES

_FORMS = (
    "sqlite:///relative/path.db, sqlite:////absolute/path.db, redis://host:port/db[?namespace=NAME], "
    "unix:///path/of/a/redis.socket[?db=NUMBER&namespace=NAME], memory://"
)
_SQLITE = "sqlite:///"


def open_store(url: str, *, root: Path | None = None) -> Store:
    """The store that `url` names (one of the forms in `_FORMS`).

    A SQLite file is made where absent; Redis is first asked when the store is used, so that a service can start
    before its Redis does.

    Args:
        root: the folder that a relative SQLite path starts from; the working directory by default.

    Raises:
        ConfigError: no such kind of store, or a URL of it that is not whole.
        StoreUnavailable: the SQLite file cannot be used.
    """
    if url.startswith(_SQLITE):
        return _sqlite(url, root or Path())
    if url.startswith(SCHEMES):
        from recsys.storage.redis_store import RedisStore  # only who names Redis needs its client installed

        return RedisStore(url)
    if url == "memory://":
        from recsys.storage.memory_store import MemoryStore

        return MemoryStore()
    raise ConfigError(f"{_without_password(url)!r} is not a store URL; write one of {_FORMS}")


def open_shared_buckets(url: str, worker: str) -> SharedBuckets | None:
    """Token buckets in the store that `url` names, for this worker; None where that store has none.

    Redis is first asked when they are used. Raises ConfigError for a URL that is not whole.
    """
    if not url.startswith(SCHEMES):
        return None
    from recsys.storage.redis_buckets import RedisBuckets  # only who names Redis needs its client installed

    return RedisBuckets(url, worker)


def open_state_reader(url: str, store: Store, *, root: Path | None = None) -> StateReader:
    """The reader of users' states of the store that `url` names, for one event loop; open it before serving.

    Args:
        store: what `open_store` gave for the same URL: it has made the file of a SQLite store, and a store in memory is
            read itself. Redis and SQLite are read by a connection of the reader's own.
        root: as for `open_store`.

    Raises:
        ConfigError: no such kind of store.
        StoreUnavailable: the SQLite file cannot be used.
    """
    if url.startswith(SCHEMES):
        from recsys.storage.redis_reader import RedisStateReader

        return RedisStateReader(url)
    from recsys.storage.direct_readers import DirectStateReader, SqliteStateReader

    if url.startswith(_SQLITE):
        return SqliteStateReader(_sqlite_path(url, root or Path()))
    if url == "memory://":
        return DirectStateReader(store)
    raise ConfigError(f"{_without_password(url)!r} is not a store URL; write one of {_FORMS}")


def _sqlite(url: str, root: Path) -> Store:
    from recsys.storage.sqlite_store import SqliteStore

    return SqliteStore(_sqlite_path(url, root))


def _sqlite_path(url: str, root: Path) -> Path:
    path = url.removeprefix(_SQLITE)
    if path in ("", ":memory:") or path.endswith("/"):
        raise ConfigError(f"{url!r} names no file; write sqlite:///path/to/file.db, or memory:// for no file at all")
    return root / path


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}***@{rest.rpartition('@')[2]}" if "@" in rest else url
