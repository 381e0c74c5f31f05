"""What an item's `image` or `audio` names, judged by its text: a path in a folder, or a URL below a root."""

from __future__ import annotations

import posixpath
import re

WEB_SCHEMES = ("http", "https")
_URL = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")


def url_scheme(text: str) -> str | None:
    """`s3` for `s3://bucket/a`, in lower case; None where it is not a URL."""
    match = _URL.match(text)
    return match.group(1).lower() if match else None


def is_web(text: str) -> bool:
    return url_scheme(text) in WEB_SCHEMES


def normal_root(root: str) -> str:
    """A root such as `s3://bucket/pictures`, without a slash at its end.

    Raises:
        ValueError: it cannot be a root; the message says why.
    """
    scheme, _, path = root.partition("://")
    if "::" in root or url_scheme(root) is None:
        raise ValueError("must be one URL, like s3://bucket/pictures, without :: chains")
    if "?" in path or "#" in path:
        raise ValueError("must not contain ? or #")
    if ".." in path.split("/"):
        raise ValueError("must not contain ..")
    if "@" in path.split("/")[0]:
        raise ValueError("must not carry a name or password: keys belong into the environment")
    if scheme.lower() != "memory" and not path.strip("/"):
        raise ValueError("must name a bucket or folder, like s3://bucket/pictures")
    return f"{scheme.lower()}://{path.rstrip('/')}"


def url_below(reference: str, root: str) -> str | None:
    """The URL that a relative path or a URL names, None where that does not lie below `root` (a normal one)."""
    scheme = url_scheme(reference)
    if scheme is None:
        if posixpath.isabs(reference):
            return None
        rest = posixpath.normpath(reference)
    else:
        url = scheme + reference[len(scheme) :]
        if not url.startswith(root + "/"):
            return None
        rest = url[len(root) + 1 :]
    return None if ".." in rest.split("/") else f"{root}/{rest}"
