"""One reader for a catalogue: every form of reference reaches its own source, also in another process."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from embeddings.refused import Refused
from embeddings.sources.reader import CatalogueReader, open_reader
from recsys.sources_config import HttpConfig, SourcesConfig
from tests.embeddings.sources.test_containers import write_tar
from tests.embeddings.sources.web import Website


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "posters").mkdir(parents=True)
    (folder / "posters" / "a.jpg").write_bytes(b"path")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "b.jpg").write_bytes(b"beside")
    write_tar(folder / "shards" / "0.tar", {"c.jpg": b"member", "posters/d.jpg": b"in the tar", "c.wav": b"sound"})
    return folder


def opened(shop: Path, image_root: str = "..", *, patterns: tuple[str, ...] = ("shards/*.tar",)) -> CatalogueReader:
    config = SourcesConfig(image_files=patterns, http=HttpConfig(allow_addresses=("127.0.0.1/32",)))
    return open_reader(config, items_folder=shop, image_root=image_root, cache_folder=shop.parent / "fetched")


def reason(reader: CatalogueReader, reference: str) -> str:
    with pytest.raises(Refused) as caught:
        reader.read(reference)
    return caught.value.reason


def test_each_form_of_reference_reaches_its_source(shop: Path, website: Website) -> None:
    reader = opened(shop)
    references = [
        reader.reference_for("1", "posters/a.jpg"),
        reader.reference_for("2", "../pictures/b.jpg"),
        reader.reference_for("3", "posters/d.jpg"),
        reader.reference_for("c", None),
        reader.reference_for("c", None, "audio"),
        reader.reference_for("4", website.content("/e.jpg", b"web")),
    ]
    assert None not in references
    contents = [reader.read(str(reference)) for reference in references]
    assert contents == [b"path", b"beside", b"in the tar", b"member", b"sound", b"web"]
    assert None not in [reader.stamp(str(reference)) for reference in references]
    assert reader.reference_for("5", None) is None
    reader.close()


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("absent.jpg", "not_found"),
        ("/etc/passwd", "outside_root"),
        ("s3://bucket/a.jpg", "unsupported_scheme"),
        ("file:///etc/passwd", "unsupported_scheme"),
        ("member:image:nobody", "not_found"),
        ("http://127.0.0.2/", "address_not_global"),
    ],
)
def test_what_cannot_be_had_says_why(shop: Path, reference: str, said: str) -> None:
    reader = opened(shop)
    assert said == "outside_root" or reader.stamp(reference) is None
    assert reason(reader, reference) == said


def test_without_containers_an_item_without_a_picture_has_none(shop: Path) -> None:
    reader = opened(shop, patterns=())
    assert reader.reference_for("c", None) is None
    assert reader.reference_for("c", "posters/a.jpg") == "posters/a.jpg"
    assert reason(reader, "member:image:c") == "not_found"
    assert reader.findings() == ()


def test_below_a_file_url_links_out_are_refused_too(shop: Path) -> None:
    (shop / "posters" / "out.jpg").symlink_to("../../pictures/b.jpg")
    reader = opened(shop, f"file://{shop}/posters")
    assert reader.read("a.jpg") == reader.read(f"file://{shop}/posters/a.jpg") == b"path"
    assert [reason(reader, name) for name in ("out.jpg", f"file://{shop.parent}/pictures/b.jpg", "../x")] == [
        "outside_root"
    ] * 3


def test_below_a_web_url_paths_are_fetched(shop: Path, website: Website) -> None:
    website.content("/p/a b.jpg", b"web")
    reader = opened(shop, website.url("/p/"))
    assert reader.read("a b.jpg") == reader.read(website.url("/p/a%20b.jpg")) == b"web"
    assert reason(reader, "../a.jpg") == "outside_root"
    assert website.asked == ["/p/a b.jpg"]
    reader.close()


def test_below_another_url_paths_are_read_with_fsspec(shop: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").pipe_file("/reader/a.jpg", b"memory")
    reader = opened(shop, "memory://reader")
    assert reader.read("a.jpg") == reader.read("memory://reader/a.jpg") == b"memory"
    assert reader.stamp("a.jpg") is not None
    assert reason(reader, "posters/../../a.jpg") == "outside_root"


def test_findings_tell_of_damage_and_duplicates(shop: Path) -> None:
    (shop / "shards" / "1.tar").write_bytes(b"no tar at all")
    write_tar(shop / "shards" / "2.tar", {"c.jpg": b"again"})
    damaged, doubled = opened(shop).findings()
    assert "1.tar" in damaged
    assert doubled.startswith("1 members")


def test_a_reader_that_has_been_used_can_be_sent_elsewhere(shop: Path, website: Website) -> None:
    """Copying goes by the same protocol as pickling; locks, loops and connections must stay behind."""
    reader = opened(shop)
    url = website.content("/a", b"web")
    reader.read(url)
    reader.read("member:image:c")
    sent = copy.deepcopy(reader)
    assert [sent.read(each) for each in (url, "member:image:c", "posters/a.jpg")] == [b"web", b"member", b"path"]
    reader.close()
    sent.close()
    assert reader.read(website.content("/b", b"more")) == b"more"  # closing lets go and no more
    reader.close()
