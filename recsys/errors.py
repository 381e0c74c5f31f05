"""The errors of this project, all in one tree; each message says what to do.

RecsysError
├── UsageError              wrong usage or environment
│   ├── ConfigError         recsys.toml or an option: unknown key, wrong type, impossible value
│   ├── EnvironmentProblem  a library, a server, a device or disk space is missing
│   └── WeightsUnavailable  an encoder's weights cannot be had here
├── InputError              a whole file is not what it claims (rows that are bad are quarantined, not raised)
├── ArtifactError           something we published cannot be used
│   ├── MissingArtifact     it is not there: which job makes it
│   ├── CorruptArtifact     its bytes differ from its manifest
│   ├── PublishedMeanwhile  somebody else moved the pointer first: look at theirs, then publish again
│   └── SpaceMismatch       its vectors live in another embedding space
├── GateFailed              a release is not good enough to publish (exit code 1; all others 2)
├── StoreUnavailable        Redis or SQLite does not answer
├── EncoderUnavailable      the encoder process does not answer, or not in time
└── RequestError            one request cannot be served as asked (HTTP 4xx)
    ├── InvalidRequest      a field is wrong (422)
    ├── NotSupported        a field whose feature this version lacks (422)
    ├── NotFound            the thing asked for is not there (404)
    ├── TooLarge            more than the stated limit (413)
    └── Overloaded          the service is full for now (429, with Retry-After)
"""

from __future__ import annotations


class RecsysError(Exception):
    """Root of the tree. `exit_code` is what a command line ends with: 2, but 1 where a gate or a row failed."""

    exit_code = 2


class UsageError(RecsysError):
    """Wrong usage or environment."""


class ConfigError(UsageError):
    """Configuration that is refused."""


class EnvironmentProblem(UsageError):
    """Something this machine lacks."""


class WeightsUnavailable(UsageError):
    """An encoder's weights cannot be had here."""


class InputError(RecsysError):
    """A whole input file is not what it claims to be."""


class ArtifactError(RecsysError):
    """Something we published cannot be used."""


class MissingArtifact(ArtifactError):
    """An artifact is not there; the message names the job that makes it."""


class CorruptArtifact(ArtifactError):
    """Bytes differ from the manifest's checksum."""


class PublishedMeanwhile(ArtifactError):
    """Another release became current after the one who publishes had looked; nothing was overwritten."""


class SpaceMismatch(ArtifactError):
    """Vectors of two embedding spaces would be compared."""


class GateFailed(RecsysError):
    """A release fails a check that publishing requires."""

    exit_code = 1


class StoreUnavailable(RecsysError):
    """A store does not answer, or answers with an error."""


class EncoderUnavailable(RecsysError):
    """The process that encodes words, pictures and sounds does not answer, or not in time."""


class RequestError(RecsysError):
    """One request cannot be served as asked.

    `status` is the HTTP status, `field` the JSON pointer of the part at fault ("" = the whole body).
    """

    status = 400

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class InvalidRequest(RequestError):
    """A field is wrong."""

    status = 422


class NotSupported(RequestError):
    """A field whose feature comes with a later version: refused, never ignored."""

    status = 422


class NotFound(RequestError):
    """The thing asked for is not there."""

    status = 404


class TooLarge(RequestError):
    """More than the stated limit."""

    status = 413


class Overloaded(RequestError):
    """Full for now; try again after `retry_after_s`."""

    status = 429

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
