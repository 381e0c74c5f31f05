"""The URL of a Redis server, and what to do about the errors that it answers with. Needs no client."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from recsys.errors import ConfigError

FORM = (
    "redis://[user:password@]host[:port][/db][?namespace=NAME] "
    "or unix://[user:password@]/path/of/the.socket[?db=NUMBER&namespace=NAME]"
)
SCHEMES = ("redis://", "unix://")
_DEFAULT_PORT = 6379

# By the code that begins the server's answer, which a script's error only quotes.
ADVICE_BY_CODE = {
    "READONLY": "It is a replica, which takes no writes; name the primary in the store's URL",
    "OOM": "It is full; raise maxmemory (with maxmemory-policy noeviction) or move its data away",
    "MISCONF": "It cannot write its data to disk, so it takes no writes; free disk space and see its log",
    "WRONGTYPE": "Another program uses these keys; give this one a namespace of its own: ?namespace=NAME",
    "LOADING": "It is still reading its data; it will answer when that is done",
    "NOAUTH": "It asks for a password; put it into the store's URL",
    "WRONGPASS": "Its password is wrong; correct it in the store's URL",
}
START_IT = "Start it, or correct the host and port in the store's URL"
SEE_ITS_LOG = "See the server's log, and try again"


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """One database of one server.

    Attributes:
        host: name, IPv4 or IPv6 address (without brackets); "" with a unix socket.
        unix_path: of its socket; "" where it listens on TCP.
        namespace: what every key begins with.
    """

    host: str
    port: int
    database: int
    namespace: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    unix_path: str = ""

    @classmethod
    def parse(cls, url: str) -> RedisAddress:
        """Raises ConfigError when the URL is not of the form `FORM`; its words never hold the password."""
        parts = urlsplit(url)
        shown = f"{parts.scheme}://{parts.hostname or parts.path}"
        try:
            options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
            address = cls._unix(parts, options) if parts.scheme == "unix" else cls._tcp(parts, options)
        except ValueError as error:
            raise ConfigError(f"the store URL {shown} is not whole ({error}); write {FORM}") from None
        if options or not (address.host or address.unix_path) or not address.namespace or parts.fragment:
            wrong = f"it has {', '.join(sorted(options))}" if options else "its host, path or namespace is empty"
            raise ConfigError(f"the store URL {shown} is not whole ({wrong}); write {FORM}")
        return address

    @classmethod
    def _tcp(cls, parts: SplitResult, options: dict[str, str]) -> RedisAddress:
        database = int(parts.path.strip("/") or 0)
        namespace = options.pop("namespace", "recsys")
        return cls(parts.hostname or "", parts.port or _DEFAULT_PORT, database, namespace, *_login(parts))

    @classmethod
    def _unix(cls, parts: SplitResult, options: dict[str, str]) -> RedisAddress:
        database = int(options.pop("db", "0"))
        namespace = options.pop("namespace", "recsys")
        return cls("", 0, database, namespace, *_login(parts), unix_path=unquote(parts.path))

    def __str__(self) -> str:
        if self.unix_path:
            return f"unix://{self.unix_path}?db={self.database}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"redis://{host}:{self.port}/{self.database}"


def _login(parts: SplitResult) -> tuple[str | None, str | None]:
    return (
        unquote(parts.username) if parts.username else None,
        unquote(parts.password) if parts.password else None,
    )


def advice_on(words: str) -> str:
    """What to do about an error that the server answered."""
    return ADVICE_BY_CODE.get(words.partition(" ")[0], SEE_ITS_LOG)
