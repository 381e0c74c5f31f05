"""`recsys refresh`: the nightly run, one line of cron. On a failed gate the old release stays and it exits 1."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from jobs.artifacts import Dataset, load_model
from jobs.bootstrap import store_of
from jobs.embed import embed_dataset
from jobs.events import export_new_events, import_histories
from jobs.progress import console
from jobs.refresh_catalog import refresh_catalog
from jobs.release import report
from jobs.train import train_on
from jobs.validate import validate_data
from recsys.errors import MissingArtifact
from recsys.workspace import Workspace


def refresh_job(workspace: Workspace, *, now: datetime) -> tuple[dict[str, Any], int]:
    """Export new events → validate → embed what changed → retrain when due → build → gate → publish."""
    store = store_of(workspace)
    try:
        n_events = export_new_events(workspace, store)
        dataset = validate_data(workspace, now=now)
        content = embed_dataset(workspace, dataset).content
        why = why_retrain(workspace, dataset, {name: space.space_id for name, space in content.spaces.items()})
        if why:
            console.print(f"  training: {why}")
            train_on(workspace, dataset, content)
        built = refresh_catalog(workspace, now=now, publish=True)
        import_histories(dataset, store)
    finally:
        store.close()
    return {"events": n_events, "retrained": why, **report(built)}, 0


def why_retrain(workspace: Workspace, dataset: Dataset, space_ids: dict[str, str]) -> str:
    """Why a new model is due; "" when it is not."""
    n_interactions = dataset.sequences.n_events
    if n_interactions == 0:
        return ""
    try:
        model = load_model(workspace)
    except MissingArtifact:
        return "there is no model yet"
    if dict(model.space_ids) != space_ids:
        return "the encoders have changed"
    grown = (n_interactions - model.n_interactions) / max(model.n_interactions, 1)
    if grown >= workspace.config.refresh.retrain_share:
        return f"interactions have grown by {grown:.1%}"
    return ""
