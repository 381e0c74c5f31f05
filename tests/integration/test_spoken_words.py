"""What is said in an item's sound is found by words: sound → transcript → embed → release → search over HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from embeddings.embed import EmbedOptions, embed_items
from embeddings.stored import gather_records
from embeddings.tagging.speech import load_speech
from jobs.artifacts import load_dataset
from jobs.embed import embed_job, reader_of
from jobs.release import build_job
from jobs.transcripts import write_transcripts
from jobs.validate import validate_job
from recsys.tagging_config import SpeechConfig
from recsys.workspace import CONFIG_NAME, Workspace
from tests.serving.asking import soon
from tests.serving.test_process import ask, serving
from tests.worlds.checkerboard import write_world
from tests.worlds.spoken import require_espeak, spoken_file
from tests.worlds.workspaces import NOW

pytestmark = pytest.mark.slow

CONFIG = """\
[encoders]
image = "fake"
text = "fake"
audio = "none"

[gate]
min_lift_over_popularity = 0.0

[serving]
store_url = "sqlite:///store.sqlite3"
release_poll_s = 0.1

[serving.budgets]
search_ms = 10000
"""
SPOKEN = {"item-0002": "Fresh bread in the window.", "item-0005": "A small boat crossed the wide lake."}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Twelve items, two of which are spoken; no title holds a word of what is said."""
    require_espeak()
    (tmp_path / CONFIG_NAME).write_text(CONFIG)
    data = tmp_path / "data"
    write_world(data, n_items=12, n_users=20)
    items = [json.loads(line) for line in (data / "items.jsonl").read_text().splitlines()]
    for item in items:
        if item["item_id"] in SPOKEN:
            item["audio"] = f"{item['item_id']}.mp3"
            (data / item["audio"]).write_bytes(spoken_file(SPOKEN[item["item_id"]], file_format="MP3"))
    (data / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    return Workspace.open(tmp_path)


def hear(workspace: Workspace) -> None:
    """What the tag job does for its head `speech`."""
    encoder = load_speech(SpeechConfig(), threads=2)
    assert encoder is not None
    items = load_dataset(workspace).items
    ids = items["item_id"].to_pylist()
    reader = reader_of(workspace)
    named = [
        (item_id, reader.reference_for(item_id, audio, "audio"))
        for item_id, audio in zip(ids, items["audio"].to_pylist(), strict=True)
    ]
    store = workspace.root / "artifacts" / "records"
    report = embed_items(named, encoder, store, reader=reader, options=EmbedOptions(decode_workers=1))
    reader.close()
    records = gather_records(store, encoder.space, [report.content_hashes.get(item_id) for item_id in ids])
    write_transcripts(workspace, ids, records, {"space": encoder.space.space_id})


def test_an_item_is_found_by_what_is_said_in_it(workspace: Workspace) -> None:
    validate_job(workspace, now=NOW)
    hear(workspace)
    summary, _ = embed_job(workspace)
    assert summary["transcript"]["encoded"] == len(SPOKEN)
    report, exit_code = build_job(workspace, now=NOW, publish=True)
    assert exit_code == 0, report
    with serving(workspace.root) as (_, base):
        soon(lambda: ask(base + "/v1/search", {"text": "warm"})[1].get("degraded") == [], within_s=60)
        for words, expected in {"bread window": "item-0002", "small lake": "item-0005"}.items():
            status, reply = ask(base + "/v1/search", {"text": words, "limit": 3})
            assert (status, reply["degraded"]) == (200, [])
            assert reply["items"][0]["item_id"] == expected
