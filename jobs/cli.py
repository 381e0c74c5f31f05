"""`recsys`: one word a job. Exit codes: 0 done, 1 a gate or a row failed, 2 wrong usage or environment."""

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
    ReleasesUrl,
    Result,
    Retry,
    StoreUrl,
    Workers,
    WorkspaceDir,
    run,
)
from jobs.cli_tag import tag_app
from recsys.workspace import Workspace

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    help="A recommender that sees and reads what it recommends: embed, train, release, serve, prove.",
)
release_app = typer.Typer(no_args_is_help=True, help="Build, publish, roll back and list releases.")
events_app = typer.Typer(no_args_is_help=True, help="Move events between the service's log and files.")
embed_app = typer.Typer(invoke_without_command=True, help="Encode pictures, words and sounds; report on them.")
app.add_typer(embed_app, name="embed")
app.add_typer(tag_app, name="tag")
app.add_typer(release_app, name="release")
app.add_typer(events_app, name="events")


@app.command()
def init(workspace: WorkspaceDir = HERE, json_file: JsonFile = None) -> None:
    """Make a workspace: folders, and recsys.toml with every setting commented."""
    from jobs.init import init_workspace

    run(lambda: init_workspace(workspace), json_file)


@app.command()
def doctor(workspace: WorkspaceDir = HERE, json_file: JsonFile = None) -> None:
    """Check this machine: one line for each thing, with what to do. Exit 2 when the main job could not run."""
    from jobs.doctor import doctor as run_doctor

    raise typer.Exit(run_doctor(workspace, json_file))


@app.command()
def validate(workspace: WorkspaceDir = HERE, json_file: JsonFile = None) -> None:
    """Read data/, accept or quarantine each row, and say why. Exit 1 when rows were quarantined."""
    from jobs.validate import validate_job

    run(lambda: validate_job(Workspace.open(workspace), now=datetime.now(UTC)), json_file)


@embed_app.callback()
def embed(
    context: typer.Context,
    workspace: WorkspaceDir = HERE,
    retry: Retry = None,
    engine: Engine = "local",
    devices: Devices = "",
    workers: Workers = 2,
    gpus_per_worker: GpusPerWorker = 0.0,
    ray_address: RayAddress = None,
    json_file: JsonFile = None,
) -> None:
    """Encode pictures, words and sounds (only what changed). Exit 1 when some could not be had or read."""
    if context.invoked_subcommand is not None:
        return
    from jobs.embed import embed_job
    from jobs.embed_streams import EmbedChoice, engine_of

    def job() -> Result:
        chosen = engine_of(
            engine, devices=devices, workers=workers, gpus_per_worker=gpus_per_worker, ray_address=ray_address
        )
        return embed_job(Workspace.open(workspace), EmbedChoice(chosen, retry_failed=retry == "failed"))

    run(job, json_file)


@embed_app.command("report")
def embed_report(
    workspace: WorkspaceDir = HERE,
    html: Annotated[Path | None, typer.Option(help="Default: artifacts/report/embed.html.")] = None,
    sample: Annotated[int, typer.Option(help="Pictures that are read again at most; 0 = all.")] = 20_000,
    releases: ReleasesUrl = None,
    json_file: JsonFile = None,
) -> None:
    """Near-duplicates, blanks, disagreement and drift, as a page and JSON. Exit 1 on drift or unusable vectors."""
    from jobs.embed_report import embed_report_job

    run(
        lambda: embed_report_job(Workspace.open(workspace).with_releases_at(releases), html=html, sample=sample),
        json_file,
    )


@app.command()
def train(
    workspace: WorkspaceDir = HERE,
    ranks: Annotated[int, typer.Option(help="Processes, started with torchrun when more than one.")] = 1,
    json_file: JsonFile = None,
) -> None:
    """Train the two-tower model on the validated behaviour and the embedded content."""
    from jobs.train import train_job

    run(lambda: train_job(Workspace.open(workspace), ranks=ranks), json_file)


@app.command()
def evaluate(workspace: WorkspaceDir = HERE, json_file: JsonFile = None) -> None:
    """Rank the whole catalogue for held-out interactions: the model beside popularity and item-kNN."""
    from jobs.evaluate import evaluate_job

    run(lambda: evaluate_job(Workspace.open(workspace)), json_file)


@release_app.command("build")
def release_build(
    workspace: WorkspaceDir = HERE,
    publish: Annotated[bool, typer.Option(help="Publish it when it passes its gate.")] = False,
    releases: ReleasesUrl = None,
    json_file: JsonFile = None,
) -> None:
    """Validate, embed, project, index and verify: one release. Exit 1 when it fails its gate."""
    from jobs.release import build_job

    run(
        lambda: build_job(Workspace.open(workspace).with_releases_at(releases), now=datetime.now(UTC), publish=publish),
        json_file,
    )


@release_app.command("publish")
def release_publish(
    release_id: Annotated[str, typer.Argument(help="Id, or its first characters; default: the last of the list.")] = "",
    workspace: WorkspaceDir = HERE,
    releases: ReleasesUrl = None,
    json_file: JsonFile = None,
) -> None:
    """Make a release current. Refused when it fails its gate."""
    from jobs.release import publish_job

    run(lambda: publish_job(Workspace.open(workspace).with_releases_at(releases), release_id), json_file)


@release_app.command("rollback")
def release_rollback(workspace: WorkspaceDir = HERE, releases: ReleasesUrl = None, json_file: JsonFile = None) -> None:
    """Make the release before the current one current again."""
    from jobs.release import rollback_job

    run(lambda: rollback_job(Workspace.open(workspace).with_releases_at(releases)), json_file)


@release_app.command("list")
def release_list(workspace: WorkspaceDir = HERE, releases: ReleasesUrl = None, json_file: JsonFile = None) -> None:
    """All releases with their figures; the current one is marked."""
    from jobs.release import list_job

    run(lambda: list_job(Workspace.open(workspace).with_releases_at(releases)), json_file)


@app.command()
def refresh(
    workspace: WorkspaceDir = HERE, store: StoreUrl = None, releases: ReleasesUrl = None, json_file: JsonFile = None
) -> None:
    """The nightly run: export events, embed what changed, retrain when due, build, gate, publish."""
    from jobs.refresh import refresh_job

    run(
        lambda: refresh_job(
            Workspace.open(workspace).with_releases_at(releases), now=datetime.now(UTC), store_url=store
        ),
        json_file,
    )


@events_app.command("export")
def events_export(workspace: WorkspaceDir = HERE, store: StoreUrl = None, json_file: JsonFile = None) -> None:
    """Write the service's new events to data/events/ as Parquet; training reads them from there."""
    from jobs.events import export_job

    run(lambda: export_job(Workspace.open(workspace), store_url=store), json_file)


@events_app.command("import")
def events_import(workspace: WorkspaceDir = HERE, store: StoreUrl = None, json_file: JsonFile = None) -> None:
    """Give the service's store the histories in data/, so that it knows its users from the first request."""
    from jobs.events import import_job

    run(lambda: import_job(Workspace.open(workspace), store_url=store), json_file)


@app.command()
def plan(
    items: Annotated[float, typer.Option(help="Number of items, as 50e6.")],
    dim: Annotated[int, typer.Option(help="Width of their vectors.")],
    qps: Annotated[float, typer.Option(help="Searches a second at peak.")] = 100.0,
    filters: Annotated[float, typer.Option(help="Share of the items that the usual filter lets pass.")] = 1.0,
    memory_gib: Annotated[float, typer.Option(help="Of one process for the index; 0 = no limit.")] = 0.0,
    gpu: Annotated[bool, typer.Option("--gpu", help="A GPU trains the cells.")] = False,
    core_hour: Annotated[float | None, typer.Option(help="Price of a core for an hour, in your currency.")] = None,
    gib_hour: Annotated[float | None, typer.Option(help="Price of a GiB of memory for an hour.")] = None,
    gpu_hour: Annotated[float | None, typer.Option(help="Price of a GPU for an hour.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Which index so many items want: type, memory, disk, build time, cores and cost, with what is assumed."""
    from jobs.plan import plan_job

    def job() -> Result:
        prices = {"price_core_hour": core_hour, "price_gib_hour": gib_hour, "price_gpu_hour": gpu_hour}
        return plan_job(items, dim, qps=qps, selectivity=filters, memory_gib=memory_gib, gpu=gpu, **prices)

    run(job, json_file)


@app.command()
def serve(
    workspace: WorkspaceDir = HERE,
    host: Annotated[str | None, typer.Option(help="Default: [serving] host.")] = None,
    port: Annotated[int | None, typer.Option(help="Default: [serving] port; 0 takes a free one.")] = None,
    store: Annotated[str | None, typer.Option(help="sqlite:///path, redis://host:port/db or memory://.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; default: [serving] workers.")] = None,
) -> None:
    """Start the service on the current release, as a process of its own."""
    from jobs.serve import serve_job

    run(lambda: serve_job(workspace, host=host, port=port, store_url=store, workers=workers), None)


@app.command()
def demo(
    workspace: Annotated[
        Path | None, typer.Option("--workspace", help="Folder for everything it makes; default: below .demo/.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Your own items.* and interactions.* instead of MovieLens.")] = None,
    images: Annotated[Path | None, typer.Option(help="Pictures named <item_id>.webp, .jpg or .png.")] = None,
    encoder: Annotated[str | None, typer.Option(help="As open_clip:ViT-B-32/laion2b_s34b_b79k.")] = None,
    keep_serving: Annotated[bool, typer.Option(help="Leave the service running at the end.")] = False,
    json_file: JsonFile = None,
) -> None:
    """The main job from end to end on real data, each step shown; ends with one JSON line."""
    from jobs.demo import demo_job

    run(lambda: demo_job(workspace, data=data, images=images, encoder=encoder, keep_serving=keep_serving), json_file)


def main() -> None:
    """The entry point that the package installs."""
    app()
