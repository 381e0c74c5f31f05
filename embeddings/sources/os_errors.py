"""What the operating system says, as a reason."""

from __future__ import annotations

import errno

from embeddings.refused import Reason, Refused
from recsys.errors import EnvironmentProblem

_REASONS: dict[int, Reason] = {
    errno.ENOENT: "not_found",
    errno.ENOTDIR: "not_found",
    errno.ENAMETOOLONG: "not_found",
    errno.EACCES: "not_permitted",
    errno.EPERM: "not_permitted",
}
_OURS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # our own trouble: no content is to blame


def refusal(error: OSError, reference: str) -> Refused:
    """Why that content cannot be read.

    Raises:
        EnvironmentProblem: this machine has run out of something, so that the next content would fail too.
    """
    if error.errno in _OURS:
        raise EnvironmentProblem(f"{error.strerror}: raise the limit (ulimit -n) or run fewer threads") from None
    reason = _REASONS.get(error.errno or 0, "not_readable")
    return Refused(reason, f"{reference}: {error.strerror or error}")
