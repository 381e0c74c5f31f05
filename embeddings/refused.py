"""Why one content has no vector: a reason that programs count by, and a sentence that says what to do."""

from __future__ import annotations

from typing import Literal, get_args

from recsys.errors import InputError

Reason = Literal[
    # It could not be had.
    "not_found",  # no such file, member, object or page (404, 410)
    "not_permitted",  # 401, 403, file permissions
    "outside_root",  # the reference leaves the folder or bucket it must lie in
    "unsupported_scheme",
    "address_not_global",  # a loopback, private or otherwise special address
    "host_unknown",  # its name resolves to nothing
    "no_connection",  # refused, reset, broken off
    "tls",
    "timeout",
    "http_status",  # any other status but 200
    "too_many_redirects",
    "too_large",  # more bytes than the cap
    "not_readable",  # the file system says no for another reason
    "changed",  # not what it was when the job was planned
    "damaged_container",  # a tar or Parquet file that holds it is broken
    # It was had and cannot be decoded.
    "empty",
    "wrong_type",  # a text where bytes are wanted, or the other way round
    "unknown_format",
    "too_many_pixels",
    "too_long",  # audio
    "damaged",
    "decode_time",
    "decode_memory",
    "decoder_died",
    # It was decoded and cannot be encoded.
    "not_finite",
]
REASONS: tuple[str, ...] = get_args(Reason)
NOT_HAD = frozenset(REASONS[: REASONS.index("empty")])
"""Reasons that speak of one reference at one time, and not of a content: nothing keeps them by content."""


class Refused(InputError):
    """One content that gets no vector. Its neighbours are not harmed.

    Attributes:
        reason: a code that reports and `--retry` count by.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason
