"""From a data folder to accepted tables, a quarantine and a summary: the whole of `recsys validate`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from recsys.catalog import DataConfig
from recsys.ingest.files import InputFile, find_inputs
from recsys.ingest.interaction_rows import Known, one_table, read_interactions
from recsys.ingest.item_rows import read_items, read_users
from recsys.ingest.summary import (
    UnknownTokenShare,
    ValidationSummary,
    is_ordered,
    notes_on,
    sample_texts,
    summarise_file,
)
from recsys.ingest.tally import OnProgress, Tally
from recsys.quarantine import Quarantine
from recsys.times import parse_time_ms


@dataclass(frozen=True)
class Validated:
    """What the files hold. In each file, accepted rows + quarantined rows = rows.

    Attributes:
        items: `recsys.catalog.ITEMS_SCHEMA`, in the order of the file.
        interactions: `recsys.interactions.INTERACTIONS_SCHEMA`, in the order of the files.
        users: `recsys.ingest.item_rows.USERS_SCHEMA`; None without a users file.
        quarantine: `recsys.quarantine.QUARANTINE_SCHEMA`.
    """

    items: pa.Table
    interactions: pa.Table
    users: pa.Table | None
    quarantine: pa.Table
    summary: ValidationSummary


def validate_inputs(
    data_dir: Path,
    config: DataConfig,
    *,
    now: datetime,
    on_progress: OnProgress | None = None,
    unknown_token_share: UnknownTokenShare | None = None,
) -> Validated:
    """Read and check every file of a data folder.

    `now` (with a zone) tells future times; `unknown_token_share` gives, for texts, the share of tokens that the text
    encoder does not know.

    Raises:
        InputError: a file is missing, or is not what it claims.
        ConfigError: [data.columns] maps a field that does not exist.
    """
    inputs = find_inputs(data_dir, config)
    quarantine = Quarantine()

    def tally_of(file: InputFile) -> Tally:
        return Tally(file, quarantine, on_progress)

    items_tally = tally_of(inputs.items)
    items = read_items(items_tally, config)
    now_ms = parse_time_ms(now, "now")
    assert now_ms is not None
    known = Known(items["item_id"].combine_chunks(), now_ms)
    tallies = [tally_of(file) for file in inputs.interactions]
    interactions = one_table([read_interactions(tally, config, known) for tally in tallies], tallies)
    users, users_tally = None, None
    if inputs.users is not None:
        users_tally = tally_of(inputs.users)
        users = read_users(users_tally, config)
    all_tallies = [items_tally, *tallies, *([users_tally] if users_tally else [])]
    texts = sample_texts(items) if unknown_token_share else []
    share = unknown_token_share(texts) if unknown_token_share and texts else None
    summary = ValidationSummary(
        files=tuple(summarise_file(tally, config) for tally in all_tallies),
        n_items=len(items),
        n_interactions=len(interactions),
        n_users=pc.count_distinct(interactions["user_id"]).as_py(),
        ordered=is_ordered(interactions),
        unknown_token_share=share,
        notes=notes_on(interactions, tallies, share),
    )
    return Validated(items, interactions, users, quarantine.table(), summary)
