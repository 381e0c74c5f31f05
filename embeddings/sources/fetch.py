"""Fetching one URL: attempts, redirects and their checks, until there are bytes or a reason why not."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import socket
from dataclasses import dataclass
from weakref import WeakValueDictionary

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from embeddings.refused import Reason, Refused
from embeddings.sources.addresses import AddressRefused, AddressRules, JudgingResolver
from embeddings.sources.answers import REDIRECTS, Transient, body_of, require_ok
from embeddings.sources.meter import MeteredSocket, metered_response
from embeddings.sources.pace import Pace
from embeddings.sources.web_urls import ALLOW, redirected, web_url
from recsys.sources_config import HttpConfig

# Names that resolve to nothing stay so; a resolver that did not answer may answer the next time.
_RESOLVER_BUSY = socket.EAI_AGAIN
_WIRE_BYTES_A_BYTE = 2  # what chunks and TLS add to a body is far less


@dataclass(frozen=True, slots=True)
class Fetched:
    """A URL's content, after `tries` attempts; `etag` and `last_modified` as the server sent them."""

    content: bytes
    tries: int
    etag: str | None = None
    last_modified: str | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a URL has no content, after `tries` attempts."""

    reason: Reason
    message: str
    tries: int


@dataclass(frozen=True, slots=True)
class _Answer:
    content: bytes
    etag: str | None
    last_modified: str | None


class Fetcher:
    """Fetches politely and only from permitted addresses. An async context manager that lives in one event loop.

    No cookies, no credentials, no Referer, no proxy, nothing from the environment.

    Args:
        max_bytes: of one body.
        resolver: names → addresses; None = the system's.
    """

    def __init__(self, config: HttpConfig, *, max_bytes: int, resolver: AbstractResolver | None = None) -> None:
        self._config = config
        self._max_bytes = max_bytes
        self._resolver = resolver
        self._rules = AddressRules(config.allow_addresses)
        self._pace = Pace(config)
        self._sockets: WeakValueDictionary[int, MeteredSocket] = WeakValueDictionary()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Fetcher:
        connector = aiohttp.TCPConnector(
            limit=0,  # Pace counts, by host name and without starting anybody's clock
            resolver=JudgingResolver(self._resolver or aiohttp.ThreadedResolver(), self._rules),
            socket_factory=self._make_socket,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            connector_owner=True,
            response_class=metered_response(self._sockets, _WIRE_BYTES_A_BYTE * self._max_bytes),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            raise_for_status=False,
            headers={"User-Agent": self._config.user_agent, "Accept": "*/*", "Accept-Encoding": "identity"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def fetch(self, text: str) -> Fetched | Failed:
        """The content of a URL, or why there is none."""
        tries = 0
        while True:
            tries += 1
            try:
                answer = await self._attempt(web_url(text, self._rules))
                return Fetched(answer.content, tries, answer.etag, answer.last_modified)
            except Refused as refused:
                return Failed(refused.reason, str(refused), tries)
            except Transient as transient:
                if tries > self._config.retries:
                    return Failed(transient.refused.reason, str(transient.refused), tries)
            await asyncio.sleep(min(self._config.max_wait_s, backoff_s(text, tries, self._config.backoff_s)))

    def _make_socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        made = self._rules.make_socket(address, MeteredSocket)
        self._sockets[made.fileno()] = made
        return made

    async def _attempt(self, url: URL) -> _Answer:
        """Follow redirects by hand, so that each is judged before it is asked for."""
        left_s = self._config.total_timeout_s
        for _ in range(self._config.max_redirects + 1):
            if left_s <= 0:
                raise Transient(Refused("timeout", f"{url.host}: redirects took {self._config.total_timeout_s:g} s"))
            async with self._pace.place(_host_of(url)):
                started_s = asyncio.get_running_loop().time()
                found = await self._asked(url, left_s)
                left_s -= asyncio.get_running_loop().time() - started_s
            if isinstance(found, _Answer):
                return found
            url = found
        raise Refused("too_many_redirects", f"more than {self._config.max_redirects} redirects, the last to {url.host}")

    async def _asked(self, url: URL, left_s: float) -> _Answer | URL:
        """One request: the answer, or where it redirects to."""
        assert self._session is not None, "enter the context first"
        config = self._config
        timeout = aiohttp.ClientTimeout(
            total=left_s, connect=config.connect_timeout_s, sock_read=config.read_timeout_s, ceil_threshold=float("inf")
        )
        try:
            async with self._session.get(url, allow_redirects=False, timeout=timeout) as response:
                try:
                    return await self._understood(response)
                except BaseException:
                    response.close()  # the rest of the body is not waited for
                    raise
        except Transient as transient:
            if transient.wait_s is not None:
                self._pace.pause(_host_of(url), transient.wait_s)
            raise
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise _in_our_words(error, url) from None

    async def _understood(self, response: aiohttp.ClientResponse) -> _Answer | URL:
        location = response.headers.get("Location")
        if response.status in REDIRECTS and location:
            response.release()  # unread: a redirect's body may be endless
            return redirected(response.url, location, self._rules, allow_downgrade=self._config.allow_downgrade)
        require_ok(response)
        content = await body_of(response, self._max_bytes)
        return _Answer(content, response.headers.get("ETag"), response.headers.get("Last-Modified"))


def backoff_s(text: str, tries: int, base_s: float) -> float:
    """`base_s`, doubled with each try, times 0.5 to 1.5 as the URL's hash says: spread, and the same each time."""
    digest = hashlib.blake2b(f"{tries} {text}".encode(), digest_size=8).digest()
    share = int.from_bytes(digest, "big") / 2**64
    return float(base_s * 2 ** min(tries - 1, 30) * (0.5 + share))


def _host_of(url: URL) -> str:
    return (url.raw_host or "").rstrip(".").lower()


def _in_our_words(error: Exception, url: URL) -> Refused | Transient:
    """What aiohttp, ssl and the system call it, as a reason; the more special classes come first."""
    host, cause = url.host, getattr(error, "os_error", error)
    if isinstance(cause, AddressRefused):
        return Refused("address_not_global", f"{host} leads to {cause.address}, {_NOT_GLOBAL}; {ALLOW}")
    if errno.EMSGSIZE in (getattr(each, "errno", None) for each in (cause, error.__cause__)):  # MeteredSocket
        return Refused("too_large", f"{host} sends far more around its answer than the answer may have")
    if isinstance(error, TimeoutError):
        return Transient(Refused("timeout", f"{host} did not answer in time ({_words(error)})"))
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        refused = Refused("host_unknown", f"{host} resolves to no address ({_words(cause)})")
        return Transient(refused) if getattr(cause, "errno", None) == _RESOLVER_BUSY else refused
    if isinstance(error, aiohttp.ClientSSLError):
        return Refused("tls", f"{host}: TLS fails ({_words(cause)})")
    if isinstance(error, aiohttp.InvalidURL | ValueError):
        return Refused("host_unknown", f"the URL cannot be asked for ({_words(error)})")
    return Transient(Refused("no_connection", f"{host}: the connection failed ({_words(error)})"))


_NOT_GLOBAL = "which is not an address of the global internet"


def _words(error: object) -> str:
    return f"{type(error).__name__}: {error}"[:200]
