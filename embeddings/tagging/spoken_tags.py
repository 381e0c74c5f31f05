"""Tags from transcripts: that somebody speaks, and in which language.

Their labels are `speech` and `language:<code>`, as `language:en`: a taxonomy names them among the `labels` of its tags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa

from embeddings.tagging.heads import Threshold
from embeddings.tagging.taxonomy import Taxonomy
from recsys.manifest import canonical_json
from recsys.tags import TAGS_SCHEMA

HEAD = "speech"
SPEECH = "speech"
LANGUAGE = "language:"
MAX_MOMENTS = 20
Record = Mapping[str, Any]


def labels_of_transcripts(records: Sequence[Record | None]) -> tuple[str, ...]:
    """`speech`, and each language that was heard, sorted: what a taxonomy of the labels themselves is made from."""
    heard = {LANGUAGE + record["language"] for record in records if record and record["language"]}
    return (SPEECH, *sorted(heard))


def may_give(taxonomy: Taxonomy) -> tuple[str, ...]:
    """The tags that a transcript may have, whatever is said in it."""
    labels = {tag: {label.casefold() for label in taxonomy.meant_by(tag)} for tag in taxonomy.for_head(HEAD)}
    return tuple(
        tag for tag, own in labels.items() if SPEECH in own or any(label.startswith(LANGUAGE) for label in own)
    )


def tags_of_transcripts(
    item_ids: Sequence[str],
    records: Sequence[Record | None],
    taxonomy: Taxonomy,
    thresholds: Mapping[str, Threshold],
    *,
    model: str,
    version: str,
    now: datetime,
) -> pa.Table:
    """`TAGS_SCHEMA`: the `yes` and `unsure` of what `SpeechEncoder` heard, by item, then tag.

    The confidence of `speech` is that of its clearest segment, and its evidence the first moments, in seconds.

    Args:
        records: of each item; None where it has no sound, or one that cannot be read.
        thresholds: of each tag that `speech` or a language may mean.
        version: key of the head's artifact.
    """
    labels = labels_of_transcripts(records)
    meaning = taxonomy.labels_of(HEAD, labels)
    rows: list[dict[str, Any]] = []
    for item_id, record in zip(item_ids, records, strict=True):
        sure = _confidences(record)
        for tag, places in sorted(meaning.items()):
            confidence, evidence = max((sure.get(labels[place], (0.0, None)) for place in places), key=_first)
            if confidence <= 0 or confidence < thresholds[tag].unsure:
                continue
            rows.append(
                {
                    "item_id": item_id,
                    "tag": tag,
                    "verdict": "yes" if confidence >= thresholds[tag].yes else "unsure",
                    "confidence": confidence,
                    "by": "model",
                    "head": HEAD,
                    "model": model,
                    "version": version,
                    "at": now,
                    "evidence": evidence,
                }
            )
    return pa.Table.from_pylist(rows, schema=TAGS_SCHEMA)


def _confidences(record: Record | None) -> dict[str, tuple[float, str | None]]:
    """label → (confidence, evidence) of one transcript; empty where nobody speaks."""
    if not record or not record["segments"]:
        return {}
    segments = record["segments"]
    moments = [{"start_s": each["start_s"], "end_s": each["end_s"]} for each in segments[:MAX_MOMENTS]]
    sure: dict[str, tuple[float, str | None]] = {
        SPEECH: (max(each["confidence"] for each in segments), canonical_json({"moments": moments}))
    }
    if record["language"]:
        sure[LANGUAGE + record["language"]] = (record["language_confidence"], None)
    return sure


def _first(pair: tuple[float, str | None]) -> float:
    return pair[0]
