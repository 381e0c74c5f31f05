"""Web servers on loopback, and readers that may talk to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from embeddings.sources.http import HttpReader, MakeResolver
from recsys.sources_config import HttpConfig, SourcesConfig
from tests.embeddings.sources.web import Website

MakeReader = Callable[..., HttpReader]
LOOPBACK = ("127.0.0.1/32",)


@pytest.fixture
def website() -> Iterator[Website]:
    site = Website()
    yield site
    site.close()


@pytest.fixture
def reader_of(tmp_path: Path) -> Iterator[MakeReader]:
    """Readers with short waits over one cache folder; by default they may connect to 127.0.0.1 alone."""
    readers: list[HttpReader] = []

    def make(
        *,
        folder: str = "fetched",
        max_bytes: int = 100_000,
        keep_fetched: bool = True,
        retry_failed: bool = False,
        make_resolver: MakeResolver | None = None,
        **http: Any,
    ) -> HttpReader:
        waits = {"backoff_s": 0.01, "max_wait_s": 2.0, "connect_timeout_s": 5.0, "allow_addresses": LOOPBACK}
        config = SourcesConfig(max_bytes=max_bytes, keep_fetched=keep_fetched, http=HttpConfig(**(waits | http)))
        reader = HttpReader(config, tmp_path / folder, retry_failed=retry_failed, make_resolver=make_resolver)
        readers.append(reader)
        return reader

    yield make
    for reader in readers:
        reader.close()
