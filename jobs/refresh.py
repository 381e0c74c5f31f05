"""`recsys refresh`: the nightly run, one line of cron. On a failed gate the old release stays and it exits 1."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from jobs.artifacts import Content, Dataset, load_dataset, load_model
from jobs.bootstrap import store_of
from jobs.events import export_new_events, import_histories
from jobs.progress import console
from jobs.release import build_job
from jobs.train import train_on
from recsys.catalog import TAG_PREFIX
from recsys.errors import MissingArtifact
from recsys.workspace import Workspace


def refresh_job(workspace: Workspace, *, now: datetime, store_url: str | None = None) -> tuple[dict[str, Any], int]:
    """Export new events → validate → embed what changed → retrain when due → build → gate → publish."""
    trained_because: list[str] = []

    def retrain_when_due(dataset: Dataset, content: Content) -> None:
        why = why_retrain(workspace, dataset, content)
        if why:
            console.print(f"  training: {why}")
            train_on(workspace, dataset, content)
            trained_because.append(why)

    store = store_of(workspace, store_url)
    try:
        n_events = export_new_events(workspace, store)
        result, exit_code = build_job(workspace, now=now, publish=True, on_content=retrain_when_due)
        import_histories(load_dataset(workspace), store)
    finally:
        store.close()
    return {"events": n_events, "retrained": "".join(trained_because), **result}, exit_code


def why_retrain(workspace: Workspace, dataset: Dataset, content: Content) -> str:
    """Why a new model is due; "" when it is not."""
    n_interactions = dataset.sequences.n_events
    if n_interactions == 0:
        return ""
    try:
        model = load_model(workspace)
    except MissingArtifact:
        return "there is no model yet"
    if dict(model.space_ids) != {name: space.space_id for name, space in content.spaces.items()}:
        return "the encoders have changed"
    if content.user_content(dataset) is not None and not model.reads_profiles:
        return "there are profiles now"
    if (
        dataset.tagging
        and any(dataset.tagging.tags.tags)
        and not any(name.startswith(TAG_PREFIX) for name in model.category_names)
    ):
        return "there are tags now"
    config = workspace.config
    if model.settings != {
        "model": config.model.model_dump(mode="json"),
        "training": config.training.model_dump(mode="json"),
    }:
        return "the settings of [model] or [training] have changed"
    grown = (n_interactions - model.n_interactions) / max(model.n_interactions, 1)
    if grown >= workspace.config.refresh.retrain_share:
        return f"interactions have grown by {grown:.1%}"
    return ""
