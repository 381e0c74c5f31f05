"""Which scope a request needs, told from its method and path before anything else looks at it."""

from __future__ import annotations

from collections.abc import Sequence
from re import Pattern

from starlette.routing import compile_path

from serving.operations import Needs, Operation


class NeededScopes:
    """The scopes of some operations, by the same patterns that the router matches."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._plain = {(each.method, each.path): each.scope for each in operations if "{" not in each.path}
        self._patterns: list[tuple[str, Pattern[str], Needs]] = [
            (each.method, compile_path(each.path)[0], each.scope) for each in operations if "{" in each.path
        ]

    def of(self, method: str, path: str) -> Needs | None:
        """The scope; None where no operation takes that method at that path."""
        if method == "HEAD":  # the router answers it wherever it answers GET
            method = "GET"
        needed = self._plain.get((method, path))
        if needed is not None:
            return needed
        return next((scope for verb, pattern, scope in self._patterns if verb == method and pattern.match(path)), None)
