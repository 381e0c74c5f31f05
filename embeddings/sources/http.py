"""Contents of http and https URLs: fetched once, then kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from aiohttp.abc import AbstractResolver

from embeddings.item_text import bytes_hash
from embeddings.refused import Refused
from embeddings.sources.addresses import AddressRules
from embeddings.sources.blobs import BlobFolder
from embeddings.sources.fetch import Failed, Fetched, Fetcher
from embeddings.sources.fetch_ledger import FetchLedger, Got
from embeddings.sources.loop_thread import LoopThread
from embeddings.sources.web_urls import web_url
from recsys.sources_config import SourcesConfig

MakeResolver = Callable[[], AbstractResolver]


class HttpReader:
    """A ContentReader of URLs. What failed stays failed until a reader is made with `retry_failed`.

    The event loop, the connections and the ledger are opened by the first call.

    Args:
        folder: where the ledger and the fetched bytes lie; processes may share it.
        make_resolver: names → addresses; None = the system's.
    """

    def __init__(
        self,
        config: SourcesConfig,
        folder: Path,
        *,
        retry_failed: bool = False,
        make_resolver: MakeResolver | None = None,
    ) -> None:
        self._config = config
        self._folder = folder
        self._retry_failed = retry_failed
        self._make_resolver = make_resolver
        self._rules = AddressRules(config.http.allow_addresses)
        self._blobs = BlobFolder(folder / "blobs")
        self._mutex = threading.Lock()
        self._opened: tuple[LoopThread, Fetcher] | None = None
        self._ledger: FetchLedger | None = None
        self._flights: dict[str, Future[bytes]] = {}

    def __reduce__(self) -> tuple[Callable[..., HttpReader], tuple[object, ...]]:
        return _made, (self._config, self._folder, self._retry_failed, self._make_resolver)

    def stamp(self, reference: str) -> str | None:
        """The hash of the content, where it has been fetched."""
        try:
            ledger = self._known()
            # Most URLs are written as the ledger writes them, and taking one apart costs more than looking it up.
            known = ledger.find(reference) or ledger.find(str(web_url(reference, self._rules)))
        except Exception:  # whatever it is, read will say it
            return None
        return known.sha256 if isinstance(known, Got) else None

    def read(self, reference: str) -> bytes:
        """The content, from the disk where it has been fetched before.

        Raises:
            Refused: the URL is not asked for, or gave nothing, now or in an earlier run.
            EnvironmentProblem: the disk is full or fails.
        """
        url = str(web_url(reference, self._rules))
        with self._mutex:
            flight = self._flights.get(url)
            mine = flight is None
            if flight is None:
                flight = self._flights[url] = Future()
        if mine:
            try:
                flight.set_result(self._had(url))
            except BaseException as error:
                flight.set_exception(error)
            finally:
                with self._mutex:
                    del self._flights[url]
        return flight.result()

    def close(self) -> None:
        """End what is under way and let go of all connections; a later call opens them again."""
        with self._mutex:
            opened, self._opened, self._ledger = self._opened, None, None
        if opened is not None:
            loop, fetcher = opened
            loop.run(fetcher.__aexit__())
            loop.close()

    def _had(self, url: str) -> bytes:
        ledger = self._known()
        known = ledger.find(url)
        if isinstance(known, Failed):
            raise Refused(known.reason, f"{known.message} (in an earlier try; --retry failed asks again)")
        if known is not None and (content := self._blobs.read(known.sha256)) is not None:
            return content
        loop, fetcher = self._open()
        outcome = loop.run(fetcher.fetch(url))
        if isinstance(outcome, Fetched):
            keep = self._blobs.write if self._config.keep_fetched else bytes_hash
            ledger.record(url, outcome, keep(outcome.content))
            return outcome.content
        ledger.record(url, outcome)
        raise Refused(outcome.reason, outcome.message)

    def _known(self) -> FetchLedger:
        with self._mutex:
            if self._ledger is None:
                self._ledger = FetchLedger(self._folder, retry_failed=self._retry_failed)
            return self._ledger

    def _open(self) -> tuple[LoopThread, Fetcher]:
        with self._mutex:
            if self._opened is None:
                loop = LoopThread("fetching")
                resolver = self._make_resolver() if self._make_resolver else None
                fetcher = Fetcher(self._config.http, max_bytes=self._config.max_bytes, resolver=resolver)
                self._opened = loop, loop.run(fetcher.__aenter__())
            return self._opened


def _made(config: SourcesConfig, folder: Path, retry_failed: bool, make_resolver: MakeResolver | None) -> HttpReader:
    return HttpReader(config, folder, retry_failed=retry_failed, make_resolver=make_resolver)
