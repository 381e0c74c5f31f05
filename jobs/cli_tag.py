"""`recsys tag`: its commands."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
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
review_app = typer.Typer(no_args_is_help=True, help="What people should look at goes out, and their words come in.")
tag_app.add_typer(review_app, name="review")


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


@tag_app.command()
def train(
    labels: Annotated[Path, typer.Option(help="item_id, tag and perhaps value, as CSV, JSON lines or Parquet.")],
    head: Annotated[str, typer.Option(help="image, audio, text or fusion.")] = "image",
    with_text: Annotated[bool, typer.Option(help="Let it read the items' texts as well.")] = False,
    finetune: Annotated[bool, typer.Option(help="Adapt the last blocks of the image encoder, too (LoRA).")] = False,
    workspace: WorkspaceDir = HERE,
    json_file: JsonFile = None,
) -> None:
    """Fit a head on labelled items: folds, calibration, thresholds. `recsys tag` uses it from then on."""
    from jobs.tag_train import train_head_job

    run(
        lambda: train_head_job(
            Workspace.open(workspace), head=head, labels=labels, with_text=with_text, finetune=finetune
        ),
        json_file,
    )


@tag_app.command()
def report(
    head: Annotated[str, typer.Option(help="Of which head.")] = "image",
    html: Annotated[Path | None, typer.Option(help="Default: artifacts/report/tags-<head>.html.")] = None,
    workspace: WorkspaceDir = HERE,
    json_file: JsonFile = None,
) -> None:
    """How far a head's tags can be trusted, as one page: reliability, confusion, each tag, examples to look at."""
    from jobs.tag_report import report_job

    run(lambda: report_job(Workspace.open(workspace), head=head, html=html), json_file)


@review_app.command("export")
def review_export(
    head: Annotated[str, typer.Option(help="Of which head.")] = "image",
    n: Annotated[int, typer.Option("--n", min=1, help="How many questions.")] = 200,
    out: Annotated[Path | None, typer.Option(help="CSV or Parquet; default: artifacts/review/<head>.csv.")] = None,
    seed: Annotated[int, typer.Option(help="Of what is chosen by chance.")] = 0,
    workspace: WorkspaceDir = HERE,
    json_file: JsonFile = None,
) -> None:
    """The items most worth a person's time: a file to fill in, and a page to click through, offline."""
    from jobs.tag_review import export_job

    run(
        lambda: export_job(Workspace.open(workspace), head=head, n=n, out=out, seed=seed, now=datetime.now(UTC)),
        json_file,
    )


@review_app.command("import")
def review_import(
    file: Annotated[Path, typer.Argument(help="What `export` wrote, filled in, or any item_id, tag, verdict.")],
    by: Annotated[str, typer.Option(help="Who says so.")],
    workspace: WorkspaceDir = HERE,
    json_file: JsonFile = None,
) -> None:
    """Take people's words: they win over every model, now and later. Exit 1 where a row was refused."""
    from jobs.tag_review import import_job

    run(lambda: import_job(Workspace.open(workspace), file, by, now=datetime.now(UTC)), json_file)
