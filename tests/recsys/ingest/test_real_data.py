"""Real data sets are read whole."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from recsys.catalog import DataConfig
from recsys.ingest.validate import Validated, validate_inputs
from recsys.interactions import to_sequences
from recsys.vocabulary import Vocabulary
from tests.recsys.ingest.folder import NOW, of_kind


def vocabulary_of(validated: Validated) -> Vocabulary:
    return Vocabulary(validated.items["item_id"].to_pylist())


def test_movielens_1m_is_accepted_whole_and_time_agrees_with_position(shared_data: Path) -> None:
    validated = validate_inputs(shared_data / "ml1m", DataConfig(), now=NOW)
    summary = validated.summary
    assert (summary.n_items, summary.n_interactions, summary.n_users) == (3_883, 999_611, 6_040)
    assert summary.n_quarantined == 0
    assert of_kind(validated, "interactions").ignored_columns == ("timestamp_exact",)
    sequences = to_sequences(validated.interactions, vocabulary_of(validated))
    assert (sequences.n_users, sequences.n_events) == (6_040, 999_611)
    assert sequences.event_type_names == ("unknown", "rating")
    same_user = np.diff(sequences.user_rows) == 0
    assert (np.diff(sequences.occurred_at_ms)[same_user] >= 0).all()


def test_amazon_beauty_has_order_without_time(shared_data: Path) -> None:
    validated = validate_inputs(shared_data / "beauty", DataConfig(), now=NOW)
    assert validated.summary.n_quarantined == 0
    sequences = to_sequences(validated.interactions, vocabulary_of(validated))
    assert (sequences.n_users, sequences.n_events) == (22_363, 198_502)
    assert sequences.ordered
    assert not sequences.occurred_at_ms.any()


def test_movielens_cold_is_unordered_and_its_posters_lie_beside_it(shared_data: Path, tmp_path: Path) -> None:
    shutil.copyfile(shared_data / "ml1m-cold" / "items.jsonl", tmp_path / "items.jsonl")
    train = pq.read_table(shared_data / "ml1m-cold" / "train.parquet")
    pq.write_table(train.slice(0, 50_000), tmp_path / "interactions.parquet")
    refused = validate_inputs(tmp_path, DataConfig(), now=NOW)
    assert of_kind(refused, "items").mend == ('[data]\nimage_root = ".."',)
    validated = validate_inputs(tmp_path, DataConfig(image_root=".."), now=NOW)
    assert validated.summary.n_quarantined == 0
    assert validated.summary.n_interactions == 50_000
    assert not to_sequences(validated.interactions, vocabulary_of(validated)).ordered
