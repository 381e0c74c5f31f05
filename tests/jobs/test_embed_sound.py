"""Sounds and what is said in them, from the data folder to masked vectors beside pictures and words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embeddings.audio_encoders import LogMelEncoder
from embeddings.fake_encoder import FakeEncoder
from jobs.artifacts import load_content, load_dataset
from jobs.embed import embed_job
from jobs.validate import validate_job
from recsys.workspace import CONFIG_NAME, Workspace
from tests.embeddings.sounds import saved, sweep
from tests.worlds.checkerboard import write_world
from tests.worlds.workspaces import NOW

CONFIG = """\
[encoders]
image = "fake"
text = "fake"
audio = "logmel"
decode_workers = -1
text_template = "{title}, {attributes.mood}. {description}"
"""
N_ITEMS = 8
HEARD, SPOKEN = [0, 1, 2], [1, 5]
FLOAT16 = 2e-3


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Eight items: three with a sound, one with a broken one; two with a transcript; one in a mood."""
    data = tmp_path / "data"
    write_world(data, n_items=N_ITEMS, n_users=4)
    (tmp_path / CONFIG_NAME).write_text(CONFIG)
    (data / "sounds").mkdir()
    for number in HEARD:
        (data / "sounds" / f"{number}.ogg").write_bytes(saved(sound(number), 16_000, "OGG", "VORBIS"))
    (data / "sounds" / "3.ogg").write_bytes(b"OggS, but no more of it")
    items = [json.loads(line) for line in (data / "items.jsonl").read_text().splitlines()]
    for number in (*HEARD, 3):
        items[number]["audio"] = f"sounds/{number}.ogg"
    items[4]["attributes"] = {"mood": "calm", "stock": 7}
    (data / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    said = [{"item_id": items[number]["item_id"], "text": f"words of {number}"} for number in SPOKEN]
    (data / "transcripts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in said))
    return Workspace.open(tmp_path)


def sound(number: int) -> Any:
    return sweep(1.0, 16_000, low_hz=200 + 500 * number, seed=number)


def mask_of(numbers: list[int]) -> list[bool]:
    return [number in numbers for number in range(N_ITEMS)]


def embedded(workspace: Workspace) -> Mapping[str, Any]:
    validate_job(workspace, now=NOW)
    return embed_job(workspace)[0]


def test_each_item_has_the_vectors_of_what_it_has_and_a_mask_for_the_rest(workspace: Workspace) -> None:
    result = embedded(workspace)
    assert (result["audio"]["encoded"], result["audio"]["refused"], result["audio"]["absent"]) == (3, 1, 4)
    dataset = load_dataset(workspace)
    content = load_content(workspace, dataset).item_content(dataset)
    assert [modality.name for modality in content.modalities] == ["audio", "image", "text", "transcript"]
    by_name = {modality.name: modality for modality in content.modalities}
    assert by_name["audio"].present.tolist() == mask_of(HEARD)
    assert by_name["transcript"].present.tolist() == mask_of(SPOKEN)
    assert by_name["image"].present.all()
    for modality in content.modalities:
        lengths = np.linalg.norm(modality.vectors, axis=1)
        np.testing.assert_allclose(lengths, modality.present, atol=FLOAT16)
    files = [(workspace.data_dir / "sounds" / f"{number}.ogg").read_bytes() for number in HEARD]
    np.testing.assert_allclose(by_name["audio"].vectors[HEARD], LogMelEncoder().encode(files), atol=FLOAT16)
    said = FakeEncoder("text").encode([f"words of {number}" for number in SPOKEN])
    np.testing.assert_allclose(by_name["transcript"].vectors[SPOKEN], said, atol=FLOAT16)
    assert by_name["transcript"].space_id == by_name["text"].space_id


def test_items_are_put_into_words_by_the_template(workspace: Workspace) -> None:
    embedded(workspace)
    dataset = load_dataset(workspace)
    words = load_content(workspace, dataset).modality("text")
    titles = dataset.items["title"].to_pylist()
    expected = FakeEncoder("text").encode([titles[0], f"{titles[4]}, calm"])
    np.testing.assert_allclose(words.vectors[[0, 4]], expected, atol=FLOAT16)


def test_what_has_not_changed_is_not_encoded_again_and_what_has_is(workspace: Workspace) -> None:
    embedded(workspace)
    again = embedded(workspace)
    assert {name: again[name]["encoded"] for name in ("audio", "text", "transcript")} == {
        "audio": 0,
        "text": 0,
        "transcript": 0,
    }
    (workspace.data_dir / "sounds" / "3.ogg").write_bytes(saved(sound(3), 16_000, "OGG", "VORBIS"))
    mended = embedded(workspace)
    assert (mended["audio"]["encoded"], mended["audio"]["refused"]) == (1, 0)


def test_without_sounds_and_transcripts_there_are_no_such_modalities(workspace: Workspace) -> None:
    items = [json.loads(line) for line in (workspace.data_dir / "items.jsonl").read_text().splitlines()]
    (workspace.data_dir / "items.jsonl").write_text(
        "".join(json.dumps({name: item[name] for name in item if name != "audio"}) + "\n" for item in items)
    )
    (workspace.data_dir / "transcripts.jsonl").unlink()
    embedded(workspace)
    assert set(load_content(workspace, load_dataset(workspace)).spaces) == {"image", "text"}
