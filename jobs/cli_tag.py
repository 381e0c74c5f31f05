"""`recsys tag`: its commands."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from jobs.cli_options import (
    HERE,
    Devices,
    Engine,
    GpusPerWorker,
    JsonFile,
    RayAddress,
    Result,
    Retry,
    Workers,
    WorkspaceDir,
    run,
)
from recsys.workspace import Workspace

tag_app = typer.Typer(invoke_without_command=True, help="Tag items by models, train heads, have people look.")


@tag_app.callback()
def tag(
    context: typer.Context,
    workspace: WorkspaceDir = HERE,
    head: Annotated[
        list[str] | None,
        typer.Option(help="image, detection, audio, speech, text or fusion; again for more; default: all set up."),
    ] = None,
    retry: Retry = None,
    engine: Engine = "local",
    devices: Devices = "",
    workers: Workers = 2,
    gpus_per_worker: GpusPerWorker = 0.0,
    ray_address: RayAddress = None,
    json_file: JsonFile = None,
) -> None:
    """Have models say what is in the items (only what changed). Exit 1 when some could not be had or read."""
    if context.invoked_subcommand is not None:
        return
    from jobs.embed_streams import EmbedChoice, engine_of
    from jobs.tag import tag_job

    def job() -> Result:
        chosen = engine_of(
            engine, devices=devices, workers=workers, gpus_per_worker=gpus_per_worker, ray_address=ray_address
        )
        choice = EmbedChoice(chosen, retry_failed=retry == "failed")
        return tag_job(Workspace.open(workspace), head or (), choice, now=datetime.now(UTC))

    run(job, json_file)
