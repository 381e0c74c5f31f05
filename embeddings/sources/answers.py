"""What a server's answer means: its status, how long it asks us to wait, and its body within a size cap."""

from __future__ import annotations

import zlib
from email.utils import parsedate_to_datetime

from aiohttp import ClientResponse
from multidict import CIMultiDictProxy

from embeddings.refused import Reason, Refused

OK = 200
REDIRECTS = frozenset((301, 302, 303, 307, 308))
_REASONS: dict[int, Reason] = {401: "not_permitted", 403: "not_permitted", 404: "not_found", 410: "not_found"}
_TOO_MANY_REQUESTS = 429
_INFLATED = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


class Transient(Exception):
    """An attempt failed in a way that another may not.

    Attributes:
        refused: what it is when no other follows.
        wait_s: what the server asked for, None where it said nothing.
    """

    def __init__(self, refused: Refused, wait_s: float | None = None) -> None:
        super().__init__(str(refused))
        self.refused = refused
        self.wait_s = wait_s


def require_ok(response: ClientResponse) -> None:
    """Raises Refused where the answer is final, Transient for 429 and 5xx."""
    status, host = response.status, response.url.host
    if status == OK:
        return
    refused = Refused(_REASONS.get(status, "http_status"), f"{host} answers {status} {response.reason or ''}".rstrip())
    if status == _TOO_MANY_REQUESTS or status >= 500:
        raise Transient(refused, retry_after_s(response.headers))
    raise refused


def retry_after_s(headers: CIMultiDictProxy[str]) -> float | None:
    """Seconds that `Retry-After` asks for (RFC 9110, 10.2.3); a date is counted from the server's own clock."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit() and len(value) < 10:
        return float(value)
    try:
        until, now = parsedate_to_datetime(value), parsedate_to_datetime(headers.get("Date", ""))
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


async def body_of(response: ClientResponse, max_bytes: int) -> bytes:
    """The whole body; never more than `max_bytes` are held, whatever the headers claim.

    Raises:
        Refused: `too_large`, `damaged` where its compression is broken, `http_status` where it is unknown.
    """
    declared = response.content_length
    if declared is not None and declared > max_bytes:
        raise _too_large(response, max_bytes)
    inflater = _inflater(response)
    body = bytearray()
    async for chunk in response.content.iter_any():
        room = max_bytes - len(body) + 1
        try:
            # Compressed, a megabyte may stand for a gigabyte: only what still fits is unpacked.
            body += inflater.decompress(chunk, room) if inflater else chunk[:room]
        except zlib.error as error:
            raise Refused("damaged", f"{response.url.host} sends a broken compressed body ({error})") from None
        if len(body) > max_bytes:
            raise _too_large(response, max_bytes)
    if inflater and not inflater.eof:
        raise Transient(Refused("no_connection", f"{response.url.host} broke off in the middle of the body"))
    return bytes(body)


def _inflater(response: ClientResponse) -> zlib._Decompress | None:
    coding = response.headers.get("Content-Encoding", "").strip().lower()
    if coding in ("", "identity"):
        return None
    if coding not in _INFLATED:
        raise Refused("http_status", f"{response.url.host} compresses with {coding}, which was not asked for")
    return zlib.decompressobj(_INFLATED[coding])


def _too_large(response: ClientResponse, max_bytes: int) -> Refused:
    return Refused("too_large", f"{response.url.host} sends more than {max_bytes} bytes (max_bytes under [sources])")
