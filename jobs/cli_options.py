"""What the commands share: their options, and how a job's end becomes an exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape

from jobs.progress import errors
from recsys.errors import RecsysError, UsageError

WorkspaceDir = Annotated[Path, typer.Option("--workspace", help="Folder with recsys.toml.", show_default="here")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Also write the result to this file.")]
StoreUrl = Annotated[str | None, typer.Option("--store", help="Store URL; default: [serving] store_url.")]
ReleasesUrl = Annotated[
    str | None,
    typer.Option("--releases", envvar="RECSYS_RELEASES_URL", help="Where releases lie; default: [releases] url."),
]
Retry = Annotated[
    Literal["failed"] | None, typer.Option(help="Try again what earlier runs could not fetch, read or decode.")
]
Engine = Annotated[
    Literal["local", "processes", "ray"], typer.Option(help="This process, one process a device, or a Ray cluster.")
]
Devices = Annotated[str, typer.Option(help="Of `processes`: cuda:0,cuda:1; default: all GPUs.")]
Workers = Annotated[int, typer.Option(help="Of `ray`: actors; of `processes` without GPUs: processes.")]
GpusPerWorker = Annotated[float, typer.Option(help="Of `ray`.")]
RayAddress = Annotated[str | None, typer.Option(help="Of `ray`: auto or ray://host:port; default: here.")]
HERE = Path(".")
INTERRUPTED = 130  # as shells report a process that SIGINT ended

Result = tuple[dict[str, Any], int]
"""What a job found (JSON values), and its exit code."""


def run(job: Callable[[], Result], json_file: Path | None) -> None:
    """Run a job, say what went wrong, write its result, and end with its exit code."""
    if json_file is not None and not json_file.resolve().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {json_file.resolve().parent}", param_hint="--json")
    try:
        result, exit_code = job()
    except RecsysError as error:
        errors.print("[red]error:[/]", escape(str(error)), soft_wrap=True)
        result, exit_code = {"error": str(error)}, error.exit_code
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        errors.print(
            "[red]error:[/]", escape(f"{error.strerror or error}{where}; run the same command again"), soft_wrap=True
        )
        result, exit_code = {"error": str(error)}, UsageError.exit_code
    except KeyboardInterrupt:
        errors.print("interrupted; the same command goes on where it stopped")
        raise typer.Exit(INTERRUPTED) from None
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    raise typer.Exit(exit_code)
