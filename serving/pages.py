"""Page tokens: opaque, signed, bound to the recommendation they go on with.

A token carries what was on the pages before it, so that any worker of any machine can go on, whatever has happened to
events, releases and the store meanwhile. Layout, in URL-safe base64 without padding:

    version u8 | page u16 | issued u32 (seconds since 1970) | recommendation 16 bytes | asked 8 bytes |
    n x u32 `hash32` of the items so far, sorted | mac 16 bytes

`asked` is a digest of who asked and for what; the mac is keyed blake2b over all before it. 32 bits tell items apart
well enough: two that share a hash cost one item its place on a later page, and nothing is ever shown twice.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.errors import InvalidRequest

VERSION = 1
MAX_AGE_S = 86_400
MAX_ITEMS = 100_000
MAX_ITEMS_IN_URL = 10_500  # 56,000 characters; what parses HTTP here takes 65,535 of an address
MAX_PAGES = 65_535
MAC_BYTES = 16
_HEAD = struct.Struct("<BHI16s8s")
FIELD = "/page_token"

Hashes = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Page:
    """Where a recommendation stands.

    Attributes:
        recommendation_id: of its first page, 32 hex digits.
        number: pages before this one.
        shown: uint32, sorted: `hash32` of the items on them.
    """

    recommendation_id: str
    number: int
    shown: Hashes


class PageTokens:
    """Writes and reads tokens with one key; all workers that answer for one address need the same."""

    def __init__(self, key: bytes) -> None:
        """`key`: at least 16 random bytes."""
        self._key = hashlib.blake2b(key, digest_size=32, person=b"recsys-pages").digest()

    def write(
        self, page: Page, asked: bytes, shown: NDArray[np.uint64], now_s: int, most: int = MAX_ITEMS
    ) -> str | None:
        """The token of the page after `page`, which shows the items of these `hash64`; None where a recommendation
        has as many pages, or more items than `most`, as a token can tell of: `page` is then its last."""
        mine = shown.astype(np.uint32)
        together = np.union1d(page.shown, mine) if len(page.shown) else np.sort(mine)
        if page.number == MAX_PAGES or len(together) > most:
            return None
        head = _HEAD.pack(VERSION, page.number + 1, now_s, bytes.fromhex(page.recommendation_id), asked)
        body = head + together.astype("<u4", copy=False).tobytes()
        return base64.urlsafe_b64encode(body + self._mac(body)).rstrip(b"=").decode()

    def read(self, token: str, asked: bytes, now_s: int) -> Page:
        """The page that a token stands for.

        Raises:
            InvalidRequest: it is not one of ours, too old, or of another request.
        """
        body = self._verified(token)
        version, number, issued_s, recommendation, of = _HEAD.unpack_from(body)
        if version != VERSION or now_s - issued_s > MAX_AGE_S:
            raise InvalidRequest("this page token has expired: ask for the first page again", field=FIELD)
        if not hmac.compare_digest(of, asked):
            message = "this page token is of another request: send the same user, session, history, surface and filter"
            raise InvalidRequest(message, field=FIELD)
        return Page(recommendation.hex(), number, np.frombuffer(body, "<u4", offset=_HEAD.size))

    def _verified(self, token: str) -> bytes:
        """The token's content. Raises InvalidRequest where it was not written with this key."""
        try:
            raw = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, UnicodeEncodeError, ValueError):
            raw = b""
        body, mac = raw[:-MAC_BYTES], raw[-MAC_BYTES:]
        n_item_bytes = len(body) - _HEAD.size
        sound = n_item_bytes >= 0 and n_item_bytes % 4 == 0 and n_item_bytes <= 4 * MAX_ITEMS
        if not sound or not hmac.compare_digest(mac, self._mac(body)):
            message = "this is no page token of this service: send next_page_token of an earlier reply as it is"
            raise InvalidRequest(message, field=FIELD)
        return body

    def _mac(self, body: bytes) -> bytes:
        return hashlib.blake2b(body, digest_size=MAC_BYTES, key=self._key).digest()


def asked_digest(*parts: object) -> bytes:
    """8 bytes of who asked and for what; equal for equal parts."""
    text = "\x00".join([part if type(part) is str else repr(part) for part in parts])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
