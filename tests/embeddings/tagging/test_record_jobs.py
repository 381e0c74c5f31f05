"""Records through the embedding jobs' machinery: stores, quarantine, kill -9, engines."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from embeddings.embed import EmbedOptions, embed_items
from embeddings.engines.run import EngineConfig, embed_with_engine
from embeddings.engines.spec import ReaderSpec, WorkerSpec, open_contents
from embeddings.registry import load_encoders
from embeddings.shards import ShardStore
from embeddings.stored import gather_records, read_items
from embeddings.tagging.detection import Detector, load_detector
from recsys.errors import MissingArtifact
from tests.embeddings.conftest import picture, saved
from tests.embeddings.engines.catalogues import stored_bytes
from tests.embeddings.tagging.fake_records import N_PICTURES, embed, pictures
from tests.embeddings.tagging.test_yolox import spec_of
from tests.embeddings.tagging.toy_yolox import save_toy
from tests.worlds.in_memory_reader import InMemoryReader


def stored(folder: Path, encoder: Any) -> dict[str, dict[str, Any] | None]:
    hashes = read_items(folder)
    return dict(zip(hashes, gather_records(folder, encoder.space, list(hashes.values())), strict=True))


def test_records_come_back_from_the_store_as_they_were_given(tmp_path: Path) -> None:
    encoder = embed(tmp_path)
    assert encoder.n_records == N_PICTURES - 1
    found = stored(tmp_path, encoder)
    assert len(found) == N_PICTURES - 1
    assert "item-5" not in found
    _, reader = pictures()
    for at in (0, 7, 21):
        [expected] = encoder.records([encoder.preprocess(reader.contents[f"{at}.png"])])  # type: ignore[arg-type]
        assert found[f"item-{at}"] == {"size": list(expected["size"]), "level": expected["level"]}
    assert gather_records(tmp_path, encoder.space, [None, "0" * 64]) == [None, None]
    with pytest.raises(MissingArtifact):
        gather_records(tmp_path / "nowhere", encoder.space, ["0" * 64])


@pytest.mark.parametrize("n_fsyncs", [0, 3, 7, 12])
def test_killed_between_any_two_writes_and_run_again_the_records_have_the_same_bytes(
    tmp_path: Path, n_fsyncs: int
) -> None:
    undisturbed = embed(tmp_path / "undisturbed")
    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "tests.embeddings.tagging.fake_records", str(killed), str(n_fsyncs)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    committed = ShardStore.open(killed, undisturbed.space).shards
    again = embed(killed)
    assert again.n_records == undisturbed.n_records - sum(shard.n_rows for shard in committed)
    assert stored_bytes(killed) == stored_bytes(tmp_path / "undisturbed")
    assert (n_fsyncs < 6) == (len(committed) == 0)


def test_a_rerun_looks_at_nothing_again(tmp_path: Path) -> None:
    embed(tmp_path)
    before = stored_bytes(tmp_path)
    assert embed(tmp_path).n_records == 0
    assert stored_bytes(tmp_path) == before


def hostile() -> dict[str, bytes]:
    """Files that harm whoever decodes them in good faith."""
    good = saved(picture(200, 150))
    strip = saved(Image.new("RGB", (1, 20_000), "red"))
    bomb = saved(Image.new("1", (7000, 7000)), "PNG")
    photo = saved(picture(300, 200), "JPEG")
    return {
        "empty": b"",
        "text": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "cut.png": good[: len(good) // 2],
        "cut.jpg": photo[: len(photo) // 2],
        "bomb.png": bomb,
        "strip.png": strip,
        "lies.jpg": b"\xff\xd8\xff" + bytes(1000),
    }


def test_hostile_pictures_cost_themselves_alone(tmp_path: Path) -> None:
    detector = load_detector(spec_of(save_toy(tmp_path / "toy.onnx", batch="B")))
    contents = {f"{at}.png": saved(picture(64, 48, seed=at)) for at in range(4)} | hostile()
    names = [name for pair in zip(hostile(), ["0.png", "1.png", "2.png", "3.png"] * 2, strict=False) for name in pair]
    items = [(f"{at}-{name}", name) for at, name in enumerate(names)]
    options = EmbedOptions(shard_size=3, decode_workers=1)
    report = embed_items(items, detector, tmp_path / "store", reader=InMemoryReader(contents), options=options)
    reasons = {each.reference: each.reason for each in report.rejected}
    assert reasons == {
        "empty": "empty",
        "text": "unknown_format",
        "cut.png": "damaged",
        "cut.jpg": "damaged",
        "bomb.png": "too_many_pixels",
        "lies.jpg": "damaged",
    }
    found = stored(tmp_path / "store", detector)
    assert {len(record["boxes"]) for key, record in found.items() if record and "strip" not in key} == {2}
    [strip] = [record for key, record in found.items() if "strip" in key]
    assert strip is not None
    assert (strip["width"], strip["height"]) == (1, 20_000)


def test_pictures_at_the_limit_of_what_is_decoded_fit_into_a_worker(tmp_path: Path) -> None:
    detector = load_detector(spec_of(save_toy(tmp_path / "toy.onnx")))
    noise = np.random.default_rng(0).integers(0, 255, (400, 600, 3), dtype=np.uint8)
    large = Image.fromarray(noise).resize((6000, 3900), Image.Resampling.NEAREST)
    exif = Image.Exif()
    exif[0x0112] = 6
    contents = {"large.jpg": saved(large, "JPEG", exif=exif), "large.png": saved(large, compress_level=1)}
    items: list[tuple[str, str | None]] = [(name, name) for name in contents]
    options = EmbedOptions(decode_workers=1)
    report = embed_items(items, detector, tmp_path / "store", reader=InMemoryReader(contents), options=options)
    assert [(each.item_id, each.reason) for each in report.rejected] == []
    sizes = {
        key: (record["width"], record["height"])
        for key, record in stored(tmp_path / "store", detector).items()
        if record
    }
    assert sizes == {"large.jpg": (3900, 6000), "large.png": (6000, 3900)}


def test_workers_of_an_engine_load_the_detector_from_its_spec(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for at in range(5):
        (folder / f"{at}.png").write_bytes(saved(picture(64, 48, seed=at)))
    encoder = load_encoders(spec_of(save_toy(tmp_path / "toy.onnx")), "none").image
    assert isinstance(encoder, Detector)
    spec = WorkerSpec(
        modality="image",
        encoder=spec_of(tmp_path / "toy.onnx"),
        device="cpu",
        space=encoder.space,
        store_dir=tmp_path / "store",
        reader=ReaderSpec(items_folder=folder, cache_folder=tmp_path / "fetched"),
        decode_workers=1,
    )
    items = [(f"item-{at}", f"{at}.png") for at in range(5)]
    options = EmbedOptions(shard_size=2)
    embed_with_engine(
        items, spec, EngineConfig(kind="processes", workers=1), reader=open_contents(spec), options=options
    )
    embed_items(items, encoder, tmp_path / "alone", reader=open_contents(spec), options=options)
    assert stored_bytes(tmp_path / "store") == stored_bytes(tmp_path / "alone")
    assert {len(record["boxes"]) for record in stored(tmp_path / "store", encoder).values() if record} == {2}
