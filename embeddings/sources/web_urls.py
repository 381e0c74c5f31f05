"""Which http(s) URLs are asked for, judged by their text; their addresses are judged where the socket is made."""

from __future__ import annotations

from ipaddress import ip_address

from yarl import URL

from embeddings.refused import Refused
from embeddings.sources.addresses import AddressRules, odd_ipv4

WEB_SCHEMES = ("http", "https")


def web_url(text: str, rules: AddressRules) -> URL:
    """The URL to ask for, without its fragment.

    Raises:
        Refused: `unsupported_scheme`, `host_unknown` (no host, or none that could be one), `not_permitted` (it carries
            a user's name), `address_not_global` (an address in place of a name).
    """
    try:
        url = URL(text)
    except ValueError as error:
        raise Refused("host_unknown", f"not a URL ({error})") from None
    return _checked(url, rules)


def redirected(url: URL, location: str, rules: AddressRules, *, allow_downgrade: bool) -> URL:
    """Where a redirect leads, held to the same rules as the URL of the catalogue.

    Raises:
        Refused: as `web_url`, and `tls` where it would leave https.
    """
    try:
        target = _checked(url.join(URL(location)), rules)
    except ValueError as error:
        raise Refused("host_unknown", f"{url.host} redirects to what is not a URL ({error})") from None
    except Refused as refused:
        raise Refused(refused.reason, f"{url.host} redirects: {refused}") from None
    if url.scheme == "https" and target.scheme == "http" and not allow_downgrade:
        message = (
            f"{url.host} redirects from https to http ({target.host}); allow_downgrade under [sources.http] lets it"
        )
        raise Refused("tls", message)
    return target


def _checked(url: URL, rules: AddressRules) -> URL:
    if url.scheme not in WEB_SCHEMES:
        raise Refused("unsupported_scheme", f"{url.scheme or 'no scheme'}: only http and https are fetched")
    if url.user is not None or url.password is not None:
        # The message does not repeat the URL: it would carry the password into reports.
        raise Refused("not_permitted", "the URL carries a name or password; these are never sent, leave them out")
    host = url.raw_host
    if not host or not url.port:
        raise Refused("host_unknown", "the URL names no host, or port 0")
    if odd_ipv4(host):
        raise Refused("address_not_global", f"{host} is an address in an unusual notation; write it as a.b.c.d")
    try:
        ip_address(host.split("%")[0])
    except ValueError:
        return url.with_fragment(None)
    if not rules.permit(host):
        raise Refused("address_not_global", f"{host} is not an address of the global internet; {ALLOW}")
    return url.with_fragment(None)


ALLOW = "allow_addresses under [sources.http] names internal networks that may be fetched from"
