"""Tags of transcripts: that somebody speaks, and which language."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from embeddings.tagging.heads import Threshold
from embeddings.tagging.spoken_tags import labels_of_transcripts, may_give, tags_of_transcripts
from embeddings.tagging.taxonomy import TagDefinition, Taxonomy
from recsys.tags import TAGS_SCHEMA

NOW = datetime(2026, 5, 1, tzinfo=UTC)
TAXONOMY = Taxonomy(
    tags={
        "talking": TagDefinition(labels=("speech",)),
        "romance": TagDefinition(labels=("language:es", "language:fr"), modalities=("speech",)),
        "english": TagDefinition(labels=("language:en",)),
        "english on a picture": TagDefinition(labels=("language:en",), modalities=("image",)),
        "en": TagDefinition(),
    }
)


def record(language: str, sure: float, *confidences: float) -> dict[str, Any]:
    segments = [
        {"start_s": 2.0 * at, "end_s": 2.0 * at + 1, "text": "words", "confidence": confidence}
        for at, confidence in enumerate(confidences)
    ]
    return {"text": "words", "language": language, "language_confidence": sure, "segments": segments}


def tagged(*records: dict[str, Any] | None) -> list[dict[str, Any]]:
    thresholds = dict.fromkeys(TAXONOMY.tags, Threshold(yes=0.6, unsure=0.3))
    ids = [f"item-{number}" for number in range(len(records))]
    table = tags_of_transcripts(ids, records, TAXONOMY, thresholds, model="whisper", version="v", now=NOW)
    assert table.schema == TAGS_SCHEMA
    return list(table.to_pylist())


def test_who_speaks_and_in_which_language_become_tags_with_their_verdicts() -> None:
    rows = tagged(record("en", 0.9, 0.4, 0.7), None, record("fr", 0.4, 0.2), record("", 0.0), record("de", 0.9, 0.9))
    assert [(row["item_id"], row["tag"], row["verdict"]) for row in rows] == [
        ("item-0", "english", "yes"),
        ("item-0", "talking", "yes"),
        ("item-2", "romance", "unsure"),
        ("item-4", "talking", "yes"),
    ]
    assert [row["confidence"] for row in rows] == pytest.approx([0.9, 0.7, 0.4, 0.9])
    first = rows[0]
    assert (first["by"], first["head"], first["model"], first["version"], first["at"]) == (
        "model",
        "speech",
        "whisper",
        "v",
        NOW,
    )


def test_the_moments_of_speech_are_its_evidence() -> None:
    rows = {row["tag"]: row for row in tagged(record("en", 0.9, *[0.8] * 30))}
    moments = json.loads(rows["talking"]["evidence"])["moments"]
    assert moments[:2] == [{"start_s": 0.0, "end_s": 1.0}, {"start_s": 2.0, "end_s": 3.0}]
    assert len(moments) == 20
    assert rows["english"]["evidence"] is None


def test_without_a_taxonomy_the_labels_are_the_tags() -> None:
    records = [record("fr", 0.9, 0.9), None, record("en", 0.9, 0.9), record("", 0.0)]
    assert labels_of_transcripts(records) == ("speech", "language:en", "language:fr")
    plain = Taxonomy.of_labels(labels_of_transcripts(records))
    assert list(plain.labels_of("speech", labels_of_transcripts(records))) == ["speech", "language-en", "language-fr"]


def test_a_tag_that_is_called_like_a_label_may_be_given() -> None:
    taxonomy = Taxonomy(tags={"talk": TagDefinition(names={"en": "Speech"}), "dog": TagDefinition()})
    thresholds = dict.fromkeys(may_give(taxonomy), Threshold(yes=0.6, unsure=0.3))
    heard = [record("en", 0.9, 0.9)]
    table = tags_of_transcripts(["a"], heard, taxonomy, thresholds, model="whisper", version="v", now=NOW)
    assert table["tag"].to_pylist() == ["talk"]
