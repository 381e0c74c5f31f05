"""https: certificates are checked, and a redirect does not leave it unnoticed."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from embeddings.refused import Refused
from tests.embeddings.sources.conftest import MakeReader
from tests.embeddings.sources.web import Website

x509 = pytest.importorskip("cryptography.x509")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 with its key, signed by nobody but itself."""
    from ipaddress import ip_address

    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    start = datetime.now(UTC) - timedelta(days=1)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path / "certificate.pem"
    path.write_bytes(secret + signed.public_bytes(pem))
    return path


@pytest.fixture
def secure(certificate: Path) -> Iterator[Website]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    site = Website(tls=context)
    yield site
    site.close()


def test_a_certificate_signed_by_nobody_we_trust_is_refused_at_once(secure: Website, reader_of: MakeReader) -> None:
    with pytest.raises(Refused, match="TLS") as caught:
        reader_of().read(secure.content("/a", b"x"))
    assert caught.value.reason == "tls"
    assert secure.asked == []
    assert secure.connections == 1


def test_https_to_a_server_without_tls_is_refused(website: Website, reader_of: MakeReader) -> None:
    with pytest.raises(Refused) as caught:
        reader_of(retries=0).read(website.url("/a").replace("http:", "https:"))
    assert caught.value.reason == "tls"


def test_a_redirect_from_https_to_http_is_followed_only_where_that_is_allowed() -> None:
    from yarl import URL

    from embeddings.sources.addresses import AddressRules
    from embeddings.sources.web_urls import redirected

    page, rules = URL("https://example.org/a/b.jpg"), AddressRules()
    assert str(redirected(page, "c.jpg", rules, allow_downgrade=False)) == "https://example.org/a/c.jpg"
    assert str(redirected(page, "http://x.org/", rules, allow_downgrade=True)) == "http://x.org/"
    with pytest.raises(Refused) as caught:
        redirected(page, "http://x.org/", rules, allow_downgrade=False)
    assert caught.value.reason == "tls"
