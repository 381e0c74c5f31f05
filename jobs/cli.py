"""`recsys`: one word a job. Exit codes: 0 done, 1 a gate or a row failed, 2 wrong usage or environment."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from jobs.progress import errors
from recsys.errors import RecsysError
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
app.add_typer(release_app, name="release")
app.add_typer(events_app, name="events")

WorkspaceDir = Annotated[Path, typer.Option("--workspace", help="Folder with recsys.toml.", show_default="here")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Also write the result to this file.")]
StoreUrl = Annotated[str | None, typer.Option("--store", help="Store URL; default: [serving] store_url.")]
HERE = Path(".")
INTERRUPTED = 130  # as shells report a process that SIGINT ended

Result = tuple[dict[str, Any], int]
"""What a job found (JSON values), and its exit code."""


def _run(job: Callable[[], Result], json_file: Path | None) -> None:
    """Run a job, say what went wrong, write its result, and end with its exit code."""
    if json_file is not None and not json_file.resolve().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {json_file.resolve().parent}", param_hint="--json")
    try:
        result, exit_code = job()
    except RecsysError as error:
        errors.print("[red]error:[/]", escape(str(error)), soft_wrap=True)
        result, exit_code = {"error": str(error)}, error.exit_code
    except KeyboardInterrupt:
        errors.print("interrupted; the same command goes on where it stopped")
        raise typer.Exit(INTERRUPTED) from None
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    raise typer.Exit(exit_code)


@app.command()
def init(workspace: WorkspaceDir = HERE, json_file: JsonFile = None) -> None:
    """Make a workspace: folders, and recsys.toml with every setting commented."""
    from jobs.init import init_workspace

    _run(lambda: init_workspace(workspace), json_file)


@app.command()
def doctor(workspace: WorkspaceDir = HERE, json_file: JsonFile = None) -> None:
    """Check this machine: one line for each thing, with what to do. Exit 2 when the main job could not run."""
    from jobs.doctor import doctor as run_doctor

    raise typer.Exit(run_doctor(workspace, json_file))


@app.command()
def validate(workspace: WorkspaceDir = HERE, json_file: JsonFile = None) -> None:
    """Read data/, accept or quarantine each row, and say why. Exit 1 when rows were quarantined."""
    from jobs.validate import validate_job

    _run(lambda: validate_job(Workspace.open(workspace), now=datetime.now(UTC)), json_file)


@app.command()
def embed(workspace: WorkspaceDir = HERE, json_file: JsonFile = None) -> None:
    """Encode the items' pictures and words (only what changed). Exit 1 when some could not be read."""
    from jobs.embed import embed_job

    _run(lambda: embed_job(Workspace.open(workspace)), json_file)


@app.command()
def train(
    workspace: WorkspaceDir = HERE,
    ranks: Annotated[int, typer.Option(help="Processes, started with torchrun when more than one.")] = 1,
    json_file: JsonFile = None,
) -> None:
    """Train the two-tower model on the validated behaviour and the embedded content."""
    from jobs.train import train_job

    _run(lambda: train_job(Workspace.open(workspace), ranks=ranks), json_file)


@app.command()
def evaluate(workspace: WorkspaceDir = HERE, json_file: JsonFile = None) -> None:
    """Rank the whole catalogue for held-out interactions: the model beside popularity and item-kNN."""
    from jobs.evaluate import evaluate_job

    _run(lambda: evaluate_job(Workspace.open(workspace)), json_file)


@release_app.command("build")
def release_build(
    workspace: WorkspaceDir = HERE,
    publish: Annotated[bool, typer.Option(help="Publish it when it passes its gate.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Validate, embed, project, index and verify: one release. Exit 1 when it fails its gate."""
    from jobs.release import build_job

    _run(lambda: build_job(Workspace.open(workspace), now=datetime.now(UTC), publish=publish), json_file)


@release_app.command("publish")
def release_publish(
    release_id: Annotated[str, typer.Argument(help="Id, or its first characters; default: the last of the list.")] = "",
    workspace: WorkspaceDir = HERE,
    json_file: JsonFile = None,
) -> None:
    """Make a release current. Refused when it fails its gate."""
    from jobs.release import publish_job

    _run(lambda: publish_job(Workspace.open(workspace), release_id), json_file)


@release_app.command("rollback")
def release_rollback(workspace: WorkspaceDir = HERE, json_file: JsonFile = None) -> None:
    """Make the release before the current one current again."""
    from jobs.release import rollback_job

    _run(lambda: rollback_job(Workspace.open(workspace)), json_file)


@release_app.command("list")
def release_list(workspace: WorkspaceDir = HERE, json_file: JsonFile = None) -> None:
    """All releases with their figures; the current one is marked."""
    from jobs.release import list_job

    _run(lambda: list_job(Workspace.open(workspace)), json_file)


@app.command()
def refresh(workspace: WorkspaceDir = HERE, store: StoreUrl = None, json_file: JsonFile = None) -> None:
    """The nightly run: export events, embed what changed, retrain when due, build, gate, publish."""
    from jobs.refresh import refresh_job

    _run(lambda: refresh_job(Workspace.open(workspace), now=datetime.now(UTC), store_url=store), json_file)


@events_app.command("export")
def events_export(workspace: WorkspaceDir = HERE, store: StoreUrl = None, json_file: JsonFile = None) -> None:
    """Write the service's new events to data/events/ as Parquet; training reads them from there."""
    from jobs.events import export_job

    _run(lambda: export_job(Workspace.open(workspace), store_url=store), json_file)


@events_app.command("import")
def events_import(workspace: WorkspaceDir = HERE, store: StoreUrl = None, json_file: JsonFile = None) -> None:
    """Give the service's store the histories in data/, so that it knows its users from the first request."""
    from jobs.events import import_job

    _run(lambda: import_job(Workspace.open(workspace), store_url=store), json_file)


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

    _run(lambda: serve_job(workspace, host=host, port=port, store_url=store, workers=workers), None)


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

    _run(lambda: demo_job(workspace, data=data, images=images, encoder=encoder, keep_serving=keep_serving), json_file)


def main() -> None:
    """The entry point that the package installs."""
    app()
