from __future__ import annotations

from datetime import timedelta

import numpy as np

from embeddings.tagging.heads import Head, Threshold, label_head
from embeddings.tagging.verdicts import carried, judged_table, verdict_rows
from recsys.manifest import EmbeddingSpace
from tests.embeddings.tagging.tag_rows import NOON

SPACE = EmbeddingSpace(
    encoder="fake",
    modality="image",
    weights_sha256="0" * 64,
    preprocessing="",
    dim=2,
    normalised=True,
    similarity="cosine",
)
LATER = NOON + timedelta(days=1)


def head(**thresholds: Threshold) -> Head:
    tags = tuple(thresholds)
    return label_head(
        "image", "image", SPACE, np.eye(2, dtype=np.float32), np.zeros(2, np.float32), model="m", origin="zero_shot",
        labels=tags, labels_of={tag: (at,) for at, tag in enumerate(tags)}, activation="sigmoid", thresholds=thresholds,
    )  # fmt: skip


HEAD = head(dog=Threshold(yes=0.6, unsure=0.3), never=Threshold(yes=1.1, unsure=1.1))
CONFIDENCES = np.array([[0.7, 1.0], [0.4, 0.9], [0.1, 0.0], [np.nan, np.nan]], np.float32)


def test_rows_are_the_yes_and_the_unsure_by_the_head_s_thresholds() -> None:
    rows = verdict_rows(HEAD, ["a", "b", "c", "d"], CONFIDENCES, model="m", version="v1", now=NOON)
    assert rows.select(["item_id", "tag", "verdict"]).to_pylist() == [
        {"item_id": "a", "tag": "dog", "verdict": "yes"},
        {"item_id": "b", "tag": "dog", "verdict": "unsure"},
    ]
    assert set(rows["at"].to_pylist()) == {NOON}
    assert set(zip(*(rows[name].to_pylist() for name in ("by", "head", "model", "version")), strict=True)) == {
        ("model", "image", "m", "v1")
    }


def test_what_was_said_before_keeps_its_time_and_what_changed_gets_a_new_one() -> None:
    ids = ["a", "b", "c"]
    earlier = verdict_rows(HEAD, ids, CONFIDENCES[[0, 1, 0]], model="m", version="v1", now=NOON)
    now = CONFIDENCES[[0, 0, 0, 0]] + np.float32([[5e-7, 0], [0, 0], [0.01, 0], [0, 0]])
    rows = carried(verdict_rows(HEAD, [*ids, "new"], now, model="m", version="v1", now=LATER), earlier)
    assert rows["at"].to_pylist() == [NOON, LATER, LATER, LATER]


def test_another_version_of_the_head_says_it_anew() -> None:
    earlier = verdict_rows(HEAD, ["a"], CONFIDENCES[:1], model="m", version="v1", now=NOON)
    rows = carried(verdict_rows(HEAD, ["a"], CONFIDENCES[:1], model="m", version="v2", now=LATER), earlier)
    assert rows["at"].to_pylist() == [LATER]


def test_the_first_run_carries_nothing() -> None:
    rows = verdict_rows(HEAD, ["a"], CONFIDENCES[:1], model="m", version="v1", now=NOON)
    assert carried(rows, None).equals(rows)
    assert carried(rows, rows.slice(0, 0)).equals(rows)


def test_each_item_is_judged_absent_or_refused() -> None:
    table = judged_table(["a", "b", "c"], np.array([True, False, False]), {"c"})
    assert table["status"].to_pylist() == ["judged", "absent", "refused"]
