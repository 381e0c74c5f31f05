"""Pictures inside tar and Parquet files: the right bytes for the right item, and damage that stays where it is."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embeddings.refused import Refused
from embeddings.sources.containers import ContainerReader
from recsys.errors import ConfigError


def write_tar(path: Path, members: dict[str, bytes], format: int = tarfile.USTAR_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def write_parquet(path: Path, columns: dict[str, pa.Array | list[object]], rows_a_group: int = 2) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=rows_a_group)
    return path


def reader_of(folder: Path, *patterns: str, max_bytes: int = 1_000_000) -> ContainerReader:
    return ContainerReader(folder, patterns or ("*",), max_bytes=max_bytes)


def picture_of(reader: ContainerReader, item_id: str) -> bytes | None:
    reference = reader.reference_for(item_id, None, "image")
    return None if reference is None else reader.read(reference)


def content_or_reason(reader: ContainerReader, reference: str) -> bytes | str:
    try:
        return reader.read(reference)
    except Refused as refused:
        return refused.reason


def reason(reader: ContainerReader, reference: str) -> str:
    with pytest.raises(Refused) as caught:
        reader.read(reference)
    return caught.value.reason


def test_an_item_has_the_member_with_its_id_for_a_name(tmp_path: Path) -> None:
    write_tar(tmp_path / "shards/0.tar", {"000.jpg": b"zero", "000.json": b"{}", "000.txt": b"caption"})
    write_tar(tmp_path / "shards/1.tar", {"./sku.12.webp": b"dots", "b/7.PNG": b"folder"})
    reader = reader_of(tmp_path, "shards/*.tar")
    assert picture_of(reader, "000") == b"zero"
    assert picture_of(reader, "sku.12") == b"dots"
    assert picture_of(reader, "b/7") == b"folder"
    assert [picture_of(reader, item_id) for item_id in ("0", "7", "000.jpg", "sku")] == [None] * 4


def test_a_member_can_be_called_by_its_name(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", {"000.jpg": b"zero", "000.txt": b"caption"})
    reader = reader_of(tmp_path)
    reference = reader.reference_for("any", "000.jpg", "image")
    assert reference is not None
    assert reader.read(reference) == b"zero"
    assert reader.reference_for("any", "001.jpg", "image") is None


def test_pictures_and_sounds_of_one_key_are_told_apart(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", {"a.wav": b"sound", "a.jpg": b"picture"})
    reader = reader_of(tmp_path)
    sound = reader.reference_for("a", None, "audio")
    assert sound is not None
    assert (picture_of(reader, "a"), reader.read(sound)) == (b"picture", b"sound")
    assert reader.reference_for("b", None, "audio") is None


def test_a_json_file_that_names_the_item_counts_before_the_number(tmp_path: Path) -> None:
    """As img2dataset writes them: numbered, with the columns it was told to keep."""
    write_tar(
        tmp_path / "00000.tar",
        {
            "000000000.jpg": b"first",
            "000000000.json": json.dumps({"key": "000000000", "item_id": "sku-9", "width": 3}).encode(),
            "000000001.json": json.dumps({"item_id": 42}).encode(),
            "000000001.jpg": b"second",
            "000000002.json": b"{broken",
            "000000002.jpg": b"third",
        },
    )
    reader = reader_of(tmp_path)
    assert [picture_of(reader, item_id) for item_id in ("sku-9", "42", "000000002")] == [b"first", b"second", b"third"]
    assert picture_of(reader, "000000000") is None  # another item of the catalogue may be called so
    assert reader.reference_for("", "000000000.jpg", "image") is not None


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format_of_tar_is_read(tmp_path: Path, format: int) -> None:
    names = ["plain.jpg", "a" * 90 + "/" + "b" * 60 + ".jpg", "é" * 40 + "🦜.jpg"]
    if format != tarfile.USTAR_FORMAT:
        names.append("long/" * 60 + "x" * 200 + ".jpg")
    members = {name: name.encode() * (n + 1) for n, name in enumerate(names)}
    write_tar(tmp_path / "0.tar", members, format)
    reader = reader_of(tmp_path)
    assert {name: picture_of(reader, name.removesuffix(".jpg")) for name in names} == members


def test_links_folders_and_devices_are_no_members(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            member = tarfile.TarInfo(f"{kind.decode()}.jpg")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        last = tarfile.TarInfo("last.jpg")
        last.size = 4
        archive.addfile(last, io.BytesIO(b"last"))
    reader = reader_of(tmp_path)
    assert picture_of(reader, "last") == b"last"
    assert [picture_of(reader, str(kind)) for kind in range(1, 7)] == [None] * 6


def test_a_header_with_a_size_in_base_256_is_read(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", {"a.jpg": b"a" * 700, "b.jpg": b"b"})
    data = bytearray((tmp_path / "0.tar").read_bytes())
    data[124:136] = b"\x80" + (700).to_bytes(11, "big")
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    (tmp_path / "0.tar").write_bytes(data)
    reader = reader_of(tmp_path)
    assert (picture_of(reader, "a"), picture_of(reader, "b")) == (b"a" * 700, b"b")


def test_of_a_truncated_tar_only_what_is_cut_off_is_lost(tmp_path: Path) -> None:
    members = {f"{n}.jpg": bytes([n]) * 1000 for n in range(4)}
    data = write_tar(tmp_path / "whole.tar", members).read_bytes()
    # Each member takes 512 bytes of header and 1,024 of data: cut in the data of the third.
    (tmp_path / "0.tar").write_bytes(data[: 2 * 1536 + 512 + 300])
    (tmp_path / "whole.tar").unlink()
    write_tar(tmp_path / "1.tar", {"good.jpg": b"good"})
    reader = reader_of(tmp_path)
    assert [picture_of(reader, name) for name in ("0", "1", "good")] == [b"\0" * 1000, b"\1" * 1000, b"good"]
    cut = reader.reference_for("2", None, "image")
    assert cut is not None
    assert reason(reader, cut) == "damaged_container"
    assert reader.reference_for("3", None, "image") is None
    assert reason(reader, "member:image:3") == "damaged_container"  # it may have been there
    (said,) = reader.listing().damaged
    assert "0.tar" in said


def test_a_tar_cut_anywhere_gives_right_bytes_or_a_refusal(tmp_path: Path) -> None:
    members = {f"{'long' * 30 if n == 1 else ''}{n}.jpg": bytes([n]) * 600 for n in range(3)}
    data = write_tar(tmp_path / "0.tar", members, tarfile.PAX_FORMAT).read_bytes()
    for cut in range(0, len(data), 97):
        (tmp_path / "0.tar").write_bytes(data[:cut])
        reader = reader_of(tmp_path)
        for name, content in members.items():
            assert content_or_reason(reader, f"member:name:{name}") in (content, "damaged_container", "not_found")


def test_what_comes_after_a_broken_header_is_lost_and_said_to_be(tmp_path: Path) -> None:
    data = bytearray(write_tar(tmp_path / "0.tar", {"a.jpg": b"a", "b.jpg": b"b", "c.jpg": b"c"}).read_bytes())
    data[1024 + 20] ^= 1  # in the second header
    (tmp_path / "0.tar").write_bytes(data)
    reader = reader_of(tmp_path)
    assert [picture_of(reader, name) for name in "abc"] == [b"a", None, None]
    assert "checksum" in reader.listing().damaged[0]


@given(data=st.binary(max_size=3000), at=st.integers(0, 2000))
def test_no_bytes_make_listing_a_tar_crash_or_run_for_ever(
    data: bytes, at: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("tar")
    good = write_tar(folder / "0.tar", {"x" * 120 + ".jpg": b"a" * 600, "b.jpg": b"b"}, tarfile.PAX_FORMAT).read_bytes()
    (folder / "0.tar").write_bytes(good[:at] + data + good[at + len(data) :])
    reader_of(folder).listing()


@pytest.mark.parametrize("name", ["0.tar.gz", "0.tgz", "0.tar"])
def test_a_compressed_tar_is_refused_with_what_to_do(tmp_path: Path, name: str) -> None:
    plain = write_tar(tmp_path / "plain", {"a.jpg": b"a"})
    (tmp_path / name).write_bytes(gzip.compress(plain.read_bytes()))
    with pytest.raises(ConfigError, match=r"gzip.*unpack it"):
        reader_of(tmp_path, name).listing()


def test_a_pattern_that_matches_nothing_or_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK")
    for pattern, message in (("*.tar", "matches no file"), ("*.zip", "neither .tar nor .parquet")):
        with pytest.raises(ConfigError, match=message):
            reader_of(tmp_path, pattern).reference_for("a", None, "image")


def test_of_a_name_given_twice_the_first_container_counts(tmp_path: Path) -> None:
    write_tar(tmp_path / "1.tar", {"a.jpg": b"second", "b.jpg": b"b"})
    write_tar(tmp_path / "0.tar", {"a.jpg": b"first"})
    write_parquet(tmp_path / "2.parquet", {"item_id": ["a.jpg", "c"], "bytes": [b"third", b"c"]})
    reader = reader_of(tmp_path, "[01].tar", "*.parquet")
    assert [picture_of(reader, item_id) for item_id in "abc"] == [b"first", b"b", b"c"]
    assert reader.listing().by_name.n_duplicates == 2  # a.jpg twice more


def test_a_member_over_the_cap_is_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", {"a.jpg": b"x" * 2001, "b.jpg": b"x" * 2000})
    write_parquet(tmp_path / "1.parquet", {"item_id": ["c", "d"], "bytes": [b"x" * 2001, b"x" * 2000]})
    reader = reader_of(tmp_path, max_bytes=2000)
    assert [reason(reader, f"member:image:{name}") for name in "ac"] == ["too_large"] * 2
    assert [len(reader.read(f"member:image:{name}")) for name in "bd"] == [2000, 2000]


def test_a_container_that_changes_under_us_is_not_read_from_old_places(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", {"a.jpg": b"a"})
    write_parquet(tmp_path / "1.parquet", {"item_id": ["b"], "bytes": [b"b"]})
    reader = reader_of(tmp_path)
    assert picture_of(reader, "a") == b"a"
    write_tar(tmp_path / "0.tar", {"new.jpg": b"n" * 20_000, "a.jpg": b"b"})
    (tmp_path / "1.parquet").unlink()
    assert reason(reader, "member:image:a") == "damaged_container"
    assert reason(reader, "member:image:b") == "damaged_container"


def test_stamps_change_with_the_container_and_differ_between_members(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", {"a.jpg": b"a", "b.jpg": b"b"})
    write_parquet(tmp_path / "1.parquet", {"item_id": ["c", "d"], "bytes": [b"c", b"d"]})
    references = [f"member:image:{name}" for name in "abcd"]
    stamps = [reader_of(tmp_path).stamp(reference) for reference in references]
    assert len(set(stamps)) == 4
    assert [reader_of(tmp_path).stamp(reference) for reference in references] == stamps
    write_tar(tmp_path / "0.tar", {"a.jpg": b"A", "b.jpg": b"b", "c.jpg": b"c" * 20_000})
    assert reader_of(tmp_path).stamp("member:image:a") not in (*stamps, None)
    assert reader_of(tmp_path).stamp("member:image:x") is None


@pytest.mark.parametrize("ids", ["item_id", "key", "__key__"])
@pytest.mark.parametrize("contents", ["bytes", "image", "jpg", "png", "webp"])
def test_parquet_columns_are_found_by_their_names(tmp_path: Path, ids: str, contents: str) -> None:
    write_parquet(tmp_path / "0.parquet", {"width": [1, 2, 3], ids: ["a", "b", "c"], contents: [b"1", b"2", b"3"]})
    reader = reader_of(tmp_path)
    assert [picture_of(reader, item_id) for item_id in "abcd"] == [b"1", b"2", b"3", None]


def test_parquet_of_hugging_face_datasets_is_read(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [
        {"bytes": b"1", "path": "a.jpg"},
        None,
        {"bytes": None, "path": "c.jpg"},
        {"bytes": b"4", "path": "d/e.png"},
    ]
    pictures = pa.array(rows, kind)
    write_parquet(tmp_path / "paths.parquet", {"image": pictures, "label": [1, 2, 3, 4]})
    write_parquet(tmp_path / "ids.parquet", {"item_id": pa.array([7, 8, 9, None]), "image": pictures})
    by_path, by_id = reader_of(tmp_path, "paths.parquet"), reader_of(tmp_path, "ids.parquet")
    assert [picture_of(by_path, item_id) for item_id in ("a", "d/e")] == [b"1", b"4"]
    assert by_path.reference_for("", "d/e.png", "image") is not None
    assert reason(by_path, "member:image:c") == "not_found"
    assert picture_of(by_id, "7") == b"1"
    assert [reason(by_id, f"member:image:{n}") for n in (8, 9)] == ["not_found"] * 2


def test_sounds_in_parquet_are_sounds(tmp_path: Path) -> None:
    write_parquet(tmp_path / "0.parquet", {"item_id": ["a"], "audio": [b"sound"]})
    reader = reader_of(tmp_path)
    assert reader.reference_for("a", None, "image") is None
    assert reader.read(str(reader.reference_for("a", None, "audio"))) == b"sound"


@pytest.mark.parametrize(
    "columns",
    [{"id": ["a"], "bytes": [b"a"]}, {"item_id": ["a"], "image": ["a.jpg"]}, {"item_id": [1.0], "jpg": [b"a"]}],
)
def test_parquet_without_ids_or_bytes_is_refused(tmp_path: Path, columns: dict[str, list[object]]) -> None:
    write_parquet(tmp_path / "0.parquet", columns)
    with pytest.raises(ConfigError, match="column of ids"):
        reader_of(tmp_path).listing()


def test_row_groups_too_large_to_hold_are_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embeddings.sources.parquet_rows.MAX_ROW_GROUP_BYTES", 1000)
    write_parquet(tmp_path / "0.parquet", {"item_id": ["a"], "bytes": [b"x" * 2000]})
    with pytest.raises(ConfigError, match="row_group_size"):
        reader_of(tmp_path).listing()


def test_of_a_damaged_parquet_file_other_row_groups_are_read(tmp_path: Path) -> None:
    contents = [bytes([65 + n]) * 500 for n in range(4)]
    write_parquet(tmp_path / "0.parquet", {"item_id": list("abcd"), "bytes": contents})
    (tmp_path / "1.parquet").write_bytes(b"PAR1 no footer PAR1")
    column = pq.ParquetFile(tmp_path / "0.parquet").metadata.row_group(0).column(1)
    data = bytearray((tmp_path / "0.parquet").read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + 40] = b"\xff" * 40
    (tmp_path / "0.parquet").write_bytes(data)
    reader = reader_of(tmp_path)
    assert [reason(reader, f"member:image:{name}") for name in "ab"] == ["damaged_container"] * 2
    assert [picture_of(reader, name) for name in "cd"] == contents[2:]
    assert "1.parquet" in reader.listing().damaged[0]


def test_many_threads_read_one_row_group_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from embeddings.sources import parquet_rows

    read: list[int] = []
    real = parquet_rows._contents

    def counted(path: Path, layout: parquet_rows.ParquetLayout, row_group: int) -> pa.ChunkedArray:
        read.append(row_group)
        return real(path, layout, row_group)

    monkeypatch.setattr(parquet_rows, "_contents", counted)
    ids = [str(n) for n in range(60)]
    write_parquet(tmp_path / "0.parquet", {"item_id": ids, "bytes": [name.encode() for name in ids]}, rows_a_group=20)
    reader = reader_of(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda name: picture_of(reader, name), ids)) == [name.encode() for name in ids]
    assert sorted(read) == [0, 1, 2]


def test_old_row_groups_are_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embeddings.sources.parquet_rows._KEPT_BYTES", 2500)
    ids = [str(n) for n in range(6)]
    write_parquet(tmp_path / "0.parquet", {"item_id": ids, "bytes": [b"x" * 1000] * 6}, rows_a_group=1)
    reader = reader_of(tmp_path)
    for name in (*ids, *ids):
        assert picture_of(reader, name) == b"x" * 1000
    assert len(reader._row_groups._groups) == 2
