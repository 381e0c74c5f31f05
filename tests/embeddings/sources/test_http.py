"""Fetching from a real server: what comes back, what is refused, and how often it is asked."""

from __future__ import annotations

import asyncio
import gzip
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from aiohttp import web

from embeddings.refused import Refused
from embeddings.sources.http import HttpReader
from tests.embeddings.sources.conftest import MakeReader
from tests.embeddings.sources.web import Names, Website

OK = b"HTTP/1.1 200 OK\r\n"


def refusal(reader: HttpReader, url: str) -> Refused:
    with pytest.raises(Refused) as caught:
        reader.read(url)
    return caught.value


def test_a_page_is_read_whole(website: Website, reader_of: MakeReader) -> None:
    assert reader_of().read(website.content("/a.jpg", b"picture")) == b"picture"


def test_requests_say_who_asks_and_nothing_else(website: Website, reader_of: MakeReader) -> None:
    url = website.content("/a", b"x", **{"Set-Cookie": "id=1; Path=/"})
    reader = reader_of(user_agent="shop/1 (pictures@shop.example)")
    reader.read(url)
    reader.read(website.redirects("/moved", "/a"))
    assert website.headers["User-Agent"] == "shop/1 (pictures@shop.example)"
    assert set(website.headers) == {"Host", "User-Agent", "Accept", "Accept-Encoding"}  # no Cookie, no Referer
    assert website.headers["Accept-Encoding"] == "identity"


def test_a_proxy_of_the_environment_is_not_used(
    website: Website, reader_of: MakeReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert reader_of().read(website.content("/a", b"x")) == b"x"


@pytest.mark.parametrize(
    ("status", "reason"),
    [(404, "not_found"), (410, "not_found"), (401, "not_permitted"), (403, "not_permitted"), (418, "http_status")],
)
def test_a_final_answer_is_not_asked_for_twice(
    website: Website, reader_of: MakeReader, status: int, reason: str
) -> None:
    url = website.answers("/a", status)
    assert refusal(reader_of(), url).reason == reason
    assert website.asked == ["/a"]


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_a_server_in_trouble_is_asked_again(website: Website, reader_of: MakeReader, status: int) -> None:
    assert reader_of().read(website.answers("/a", status, status, 200)) == b"at last"
    assert website.asked == ["/a"] * 3


def test_it_is_given_up_after_the_last_retry(website: Website, reader_of: MakeReader) -> None:
    refused = refusal(reader_of(retries=2), website.answers("/a", 503))
    assert refused.reason == "http_status"
    assert "503" in str(refused)
    assert website.asked == ["/a"] * 3


def test_retry_after_is_waited_for_by_every_request_to_that_host(website: Website, reader_of: MakeReader) -> None:
    times: list[float] = []

    async def busy_once(request: web.Request) -> web.Response:
        times.append(asyncio.get_running_loop().time())
        if len(times) == 1:
            return web.Response(status=429, headers={"Retry-After": "1"})
        return web.Response(body=b"x")

    reader = reader_of(backoff_s=0.0)
    first, second = website.page("/a", busy_once), website.page("/b", busy_once)
    with ThreadPoolExecutor(2) as pool:
        asking = pool.submit(reader.read, first)
        while not times:
            time.sleep(0.005)
        assert [asking.result(), pool.submit(reader.read, second).result()] == [b"x", b"x"]
    assert len(times) == 3
    assert min(times[1:]) - times[0] >= 0.95


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry_After": "3600"},
        {"Retry_After": "Wed, 21 Oct 2026 08:28:00 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"},
    ],
)
def test_a_host_that_asks_for_an_hour_is_left_alone(
    website: Website, reader_of: MakeReader, headers: dict[str, str]
) -> None:
    reader = reader_of()
    refused = refusal(reader, website.answers("/a", 429, **headers))
    assert refused.reason == "http_status"
    assert "3600 s" in str(refused)
    assert refusal(reader, website.content("/b", b"x")).reason == "http_status"
    assert website.asked == ["/a"]


def test_a_slow_drip_ends_with_the_total_timeout(website: Website, reader_of: MakeReader) -> None:
    url = website.raw("/drip", OK + b"Content-Length: 9999\r\n\r\n", b".", endless=True, pause_s=0.02)
    assert refusal(reader_of(total_timeout_s=0.3, retries=0), url).reason == "timeout"


def test_a_silent_server_ends_with_the_read_timeout(website: Website, reader_of: MakeReader) -> None:
    url = website.raw("/silent", b"", pause_s=5.0)
    assert refusal(reader_of(read_timeout_s=0.2, retries=1), url).reason == "timeout"
    assert website.asked == ["/silent"] * 2


def test_an_endless_body_is_cut_at_the_cap(website: Website, reader_of: MakeReader) -> None:
    url = website.raw("/endless", OK + b"\r\n", b"x" * 10_000, endless=True)
    assert refusal(reader_of(), url).reason == "too_large"
    assert website.asked == ["/endless"]


def test_a_body_of_exactly_the_cap_is_taken(website: Website, reader_of: MakeReader) -> None:
    assert len(reader_of().read(website.content("/cap", b"x" * 100_000))) == 100_000
    assert refusal(reader_of(), website.content("/more", b"x" * 100_001)).reason == "too_large"


def test_what_declares_too_much_is_not_even_read(website: Website, reader_of: MakeReader) -> None:
    url = website.raw("/huge", OK + b"Content-Length: 99999999999\r\n\r\n", pause_s=5.0)
    assert refusal(reader_of(), url).reason == "too_large"


@pytest.mark.parametrize(
    ("beginning", "endless", "reason"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 500, "too_large"),
        (OK, b"X-Name: value\r\n" * 500, "no_connection"),
        (b"HTTP/1.1 200 ", b"O" * 10_000, "no_connection"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0" * 10_000, "no_connection"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5;", b"a" * 10_000, "no_connection"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 500, "too_large"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", b"x" * 10_000, "not_found"),
    ],
)
def test_nothing_endless_around_a_body_is_taken(
    website: Website, reader_of: MakeReader, beginning: bytes, endless: bytes, reason: str
) -> None:
    url = website.raw("/flood", beginning, endless, endless=True)
    assert refusal(reader_of(retries=0, total_timeout_s=60.0), url).reason == reason


def test_a_connection_that_is_used_again_grants_each_answer_its_bytes(website: Website, reader_of: MakeReader) -> None:
    reader = reader_of(per_host=1)
    for n in range(20):
        assert len(reader.read(website.content(f"/{n}", b"x" * 100_000))) == 100_000
    assert website.connections == 1


def test_a_body_shorter_than_it_claims_is_asked_for_again_and_then_refused(
    website: Website, reader_of: MakeReader
) -> None:
    url = website.raw("/short", OK + b"Content-Length: 100\r\n\r\n", b"only this")
    assert refusal(reader_of(retries=1), url).reason == "no_connection"
    assert website.asked == ["/short"] * 2


def test_a_broken_chunked_body_is_no_content(website: Website, reader_of: MakeReader) -> None:
    url = website.raw("/chunks", OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", b"ff\r\nhal")
    assert refusal(reader_of(retries=0), url).reason == "no_connection"


def test_what_is_no_http_at_all_is_refused(website: Website, reader_of: MakeReader) -> None:
    assert refusal(reader_of(retries=0), website.raw("/odd", b"SSH-2.0-OpenSSH_9.6\r\n")).reason == "no_connection"


def test_nobody_listening_is_no_connection(website: Website, reader_of: MakeReader) -> None:
    url = website.url("/a")
    website.close()
    assert refusal(reader_of(retries=1), url).reason == "no_connection"


@pytest.mark.parametrize(
    ("coding", "packed"), [("gzip", gzip.compress(b"words" * 9)), ("deflate", zlib.compress(b"words" * 9))]
)
def test_compression_that_was_not_asked_for_is_unpacked(
    website: Website, reader_of: MakeReader, coding: str, packed: bytes
) -> None:
    assert reader_of().read(website.content("/z", packed, **{"Content-Encoding": coding})) == b"words" * 9


def test_a_gzip_bomb_is_refused_by_what_it_unpacks_to(website: Website, reader_of: MakeReader) -> None:
    bomb = gzip.compress(bytes(50_000_000))  # 50 MB in 50 kB
    assert len(bomb) < 100_000
    url = website.content("/bomb", bomb, **{"Content-Encoding": "gzip"})
    assert refusal(reader_of(), url).reason == "too_large"


@pytest.mark.parametrize(
    ("coding", "body", "reason"),
    [
        ("gzip", b"not gzip", "damaged"),
        ("gzip", gzip.compress(b"x" * 99)[:-9], "no_connection"),
        ("br", b"?", "http_status"),
    ],
)
def test_broken_or_unknown_compression_is_refused(
    website: Website, reader_of: MakeReader, coding: str, body: bytes, reason: str
) -> None:
    url = website.content("/z", body, **{"Content-Encoding": coding})
    assert refusal(reader_of(retries=0), url).reason == reason


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(website: Website, reader_of: MakeReader, status: int) -> None:
    website.content("/there", b"found")
    assert reader_of().read(website.redirects("/here", "/there", status)) == b"found"


def test_five_redirects_are_followed_and_not_a_sixth(website: Website, reader_of: MakeReader) -> None:
    for hop in range(6):
        website.redirects(f"/{hop}", f"/{hop + 1}")
    website.content("/6", b"far")
    assert reader_of().read(website.url("/1")) == b"far"
    assert refusal(reader_of(), website.url("/0")).reason == "too_many_redirects"


def test_a_redirect_loop_ends(website: Website, reader_of: MakeReader) -> None:
    assert refusal(reader_of(), website.redirects("/loop", "/loop")).reason == "too_many_redirects"
    assert website.asked == ["/loop"] * 6


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("ftp://example.org/a.jpg", "unsupported_scheme"),
        ("file:///etc/passwd", "unsupported_scheme"),
        ("http://user:secret@example.org/", "not_permitted"),
        ("http://127.0.0.2/", "address_not_global"),
        ("//169.254.169.254/latest/meta-data/", "address_not_global"),
        ("http://[::1]/", "address_not_global"),
        ("http://a:99999/", "host_unknown"),
    ],
)
def test_each_hop_is_judged(website: Website, reader_of: MakeReader, target: str, reason: str) -> None:
    refused = refusal(reader_of(), website.redirects("/here", target))
    assert refused.reason == reason
    assert "secret" not in str(refused)


def test_a_redirect_without_a_target_is_an_answer_like_any_other(website: Website, reader_of: MakeReader) -> None:
    assert refusal(reader_of(), website.answers("/a", 302)).reason == "http_status"


def test_redirects_share_one_total_timeout(website: Website, reader_of: MakeReader) -> None:
    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(0.15)
        return web.Response(status=302, headers={"Location": "/slow"})

    reader = reader_of(total_timeout_s=0.3, retries=0)
    assert refusal(reader, website.page("/slow", slow)).reason == "timeout"
    assert len(website.asked) < 4


def test_a_host_never_sees_more_requests_at_once_than_allowed(website: Website, reader_of: MakeReader) -> None:
    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(0.02)
        return web.Response(body=b"x")

    reader = reader_of(per_host=3)
    urls = [website.page(f"/{n}", slow) for n in range(30)]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(reader.read, urls)) == [b"x"] * 30
    assert website.busiest == 3
    assert website.connections == 3  # kept open and used again


def test_all_hosts_together_are_limited_too(website: Website, reader_of: MakeReader) -> None:
    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(0.02)
        return web.Response(body=b"x")

    website.page("/a", slow)
    reader = reader_of(total=2, per_host=2, make_resolver=lambda: Names(any=["127.0.0.1"]))
    urls = [website.url("/a", host=f"shop{n}.example") for n in range(12)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(reader.read, urls)) == [b"x"] * 12
    assert website.busiest == 2


def test_a_rate_spreads_the_requests(website: Website, reader_of: MakeReader) -> None:
    times: list[float] = []

    async def note(request: web.Request) -> web.Response:
        times.append(asyncio.get_running_loop().time())
        return web.Response(body=b"x")

    reader = reader_of(requests_per_s=20.0)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(reader.read, [website.page(f"/{n}", note) for n in range(5)]))
    assert times[-1] - times[0] >= 4 / 20 * 0.9


def test_one_url_asked_for_by_many_threads_is_fetched_once(website: Website, reader_of: MakeReader) -> None:
    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(0.1)
        return web.Response(body=b"x")

    reader, url = reader_of(), website.page("/a", slow)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(reader.read, [url] * 8)) == [b"x"] * 8
    assert website.asked == ["/a"]


def test_what_was_fetched_is_not_fetched_again(website: Website, reader_of: MakeReader) -> None:
    url = website.content("/a", b"picture")
    first = reader_of()
    assert first.stamp(url) is None
    first.read(url)
    again = reader_of()
    assert again.stamp(url) == first.stamp(url) is not None
    assert again.read(url + "#fragment") == b"picture"
    assert website.asked == ["/a"]


def test_a_blob_that_is_gone_or_spoilt_is_fetched_again(
    website: Website, reader_of: MakeReader, tmp_path: Path
) -> None:
    url = website.content("/a", b"picture")
    reader_of().read(url)
    (blob,) = [path for path in (tmp_path / "fetched" / "blobs").rglob("*") if path.is_file()]
    blob.write_bytes(b"pictur3")
    assert reader_of().read(url) == b"picture"
    blob.unlink()
    assert reader_of().read(url) == b"picture"
    assert blob.read_bytes() == b"picture"
    assert website.asked == ["/a"] * 3


def test_without_keeping_bytes_the_hash_is_still_known(website: Website, reader_of: MakeReader, tmp_path: Path) -> None:
    url = website.content("/a", b"picture")
    reader_of(keep_fetched=False).read(url)
    assert reader_of(keep_fetched=False).stamp(url) is not None
    assert not (tmp_path / "fetched" / "blobs").exists()


def test_a_failure_is_remembered_until_it_is_retried(website: Website, reader_of: MakeReader) -> None:
    url = website.answers("/a", 404, 200)
    assert refusal(reader_of(), url).reason == "not_found"
    remembered = refusal(reader_of(), url)
    assert remembered.reason == "not_found"
    assert "--retry failed" in str(remembered)
    assert website.asked == ["/a"]
    assert reader_of(retry_failed=True).read(url) == b"at last"
    assert reader_of().read(url) == b"at last"
    assert website.asked == ["/a"] * 2


def test_retrying_asks_once_in_a_run(website: Website, reader_of: MakeReader) -> None:
    url = website.answers("/a", 404)
    refusal(reader_of(), url)
    again = reader_of(retry_failed=True)
    refusal(again, url)
    refusal(again, url)
    assert website.asked == ["/a"] * 2


@pytest.mark.parametrize("url", ["http://user@example.org/a", "ftp://example.org/a", "http:///a", "http://[::1/", "x"])
def test_a_url_that_cannot_be_asked_for_is_refused_and_has_no_stamp(reader_of: MakeReader, url: str) -> None:
    reader = reader_of()
    assert reader.stamp(url) is None
    assert refusal(reader, url).reason in ("not_permitted", "unsupported_scheme", "host_unknown")
