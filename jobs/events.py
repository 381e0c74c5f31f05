"""`recsys events`: the service's log to files, and the files' histories to the service's store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from jobs.artifacts import Dataset, load_dataset
from jobs.bootstrap import store_of
from jobs.progress import console, progress_bar
from recsys.events import hash64
from recsys.interactions import user_after_user
from recsys.ports import Store
from recsys.storage.event_export import export_events
from recsys.types import HistoryItem
from recsys.workspace import Workspace


def export_job(workspace: Workspace, *, store_url: str | None = None) -> tuple[dict[str, Any], int]:
    """Write the log's new events to data/events/."""
    store = store_of(workspace, store_url)
    try:
        n_events = export_new_events(workspace, store)
    finally:
        store.close()
    return {"events": n_events}, 0


def export_new_events(workspace: Workspace, store: Store) -> int:
    """Events written now; each event is exported exactly once."""
    report = export_events(store, workspace.events_dir)
    if report.started_anew:
        console.print("  [yellow]this store is another one than last time: its log was exported from its start[/]")
    console.print(f"  {report.n_events:,} new events exported to {workspace.events_dir}", markup=False)
    return report.n_events


def import_job(workspace: Workspace, *, store_url: str | None = None) -> tuple[dict[str, Any], int]:
    """Give the store the histories of the dataset that was validated last."""
    store = store_of(workspace, store_url)
    try:
        n_users = import_histories(load_dataset(workspace), store)
    finally:
        store.close()
    return {"users": n_users}, 0


def import_histories(dataset: Dataset, store: Store) -> int:
    """Merge the dataset's interactions into the users' states (twice is the same as once); the number of users."""
    with progress_bar("import histories", "users") as bar:
        n_users = store.import_histories(_histories(dataset, bar))
    console.print(f"  the store knows {n_users:,} users")
    return n_users


def _histories(dataset: Dataset, bar: Any) -> Iterator[tuple[str, list[HistoryItem]]]:
    """Each user's interactions in order, with the hash of their event_id so that an event is never counted twice."""
    sequences, item_ids = dataset.sequences, dataset.vocabulary.item_ids
    event_ids = user_after_user(dataset.interactions, dataset.vocabulary)["event_id"].to_pylist()
    hashes = np.fromiter(map(hash64, event_ids), np.uint64, count=len(event_ids))
    for row, user_id in enumerate(sequences.user_ids):
        mine = sequences.of(row)
        yield (
            user_id,
            [
                HistoryItem(item_ids[item], sequences.event_type_names[event_type], at_ms, event_hash)
                for item, event_type, at_ms, event_hash in zip(
                    sequences.item_rows[mine].tolist(),
                    sequences.event_types[mine].tolist(),
                    sequences.occurred_at_ms[mine].tolist(),
                    hashes[mine].tolist(),
                    strict=True,
                )
            ],
        )
        bar(row + 1, sequences.n_users)
