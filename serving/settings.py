"""What the service is told: `recsys.toml` of the workspace, overruled by the environment, overruled by options.

The only place of the project that reads the environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import ValidationError

from recsys.errors import ConfigError
from recsys.recommender import RecommenderConfig
from recsys.serving_config import ServingConfig, require_safe
from recsys.workspace import Workspace

WORKSPACE_VARIABLE = "RECSYS_WORKSPACE"
ENCODER_VARIABLE = "RECSYS_ENCODER_SOCKET"  # from the main process to its workers
METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # the Prometheus client's own name for it

# Environment variable → key of `[serving]`.
VARIABLES: Mapping[str, str] = {
    "RECSYS_STORE_URL": "store_url",
    "RECSYS_HOST": "host",
    "RECSYS_PORT": "port",
    "RECSYS_WORKERS": "workers",
    "RECSYS_THREADS": "threads",
    "RECSYS_API_KEYS_SHA256": "api_keys_sha256",
    "RECSYS_ACCESS_LOG": "access_log",
}
LISTS = frozenset({"api_keys_sha256"})


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything `create_app` needs.

    Attributes:
        workspace: the folder, absolute.
        metrics_dir: where several workers keep their numbers together; None for a single one.
        encoder_socket: where this host's encoder process listens; None: each worker encodes itself.
    """

    workspace: Path
    serving: ServingConfig
    recommender: RecommenderConfig
    metrics_dir: Path | None = None
    encoder_socket: Path | None = None


def read_settings(environment: Mapping[str, str], options: Mapping[str, str] | None = None) -> Settings:
    """Settings from a workspace and variables; `options` are more variables (from a command line) that come first.

    Raises:
        ConfigError: no valid `recsys.toml`, a variable with an impossible value, or a service that would be unsafe.
    """
    variables = {**environment, **(options or {})}
    workspace = Workspace.open(Path(variables.get(WORKSPACE_VARIABLE) or "."))
    serving = _overruled(workspace.config.serving, variables)
    require_safe(serving)
    metrics_dir = Path(variables[METRICS_VARIABLE]) if variables.get(METRICS_VARIABLE) else None
    socket = variables.get(ENCODER_VARIABLE) if serving.encoder.process != "off" else None
    encoder_socket = Path(socket) if socket else None
    return Settings(workspace.root, serving, workspace.config.recommender, metrics_dir, encoder_socket)


def settings_here() -> Settings:
    """Settings from this process's environment; raises as `read_settings` does."""
    return read_settings(os.environ)


@contextmanager
def handed_to_workers(options: Mapping[str, str]) -> Iterator[Settings]:
    """The settings with these options; worker processes that start inside the block find the same.

    Raises ConfigError as `read_settings` does.
    """
    with ExitStack() as folders:
        runtime_dir = folders.enter_context(TemporaryDirectory(prefix="recsys-encoder-", ignore_cleanup_errors=True))
        socket = str(Path(runtime_dir) / "socket")  # a folder that is ours alone
        settings = read_settings(os.environ, {**options, ENCODER_VARIABLE: socket})
        os.environ.update({**options, WORKSPACE_VARIABLE: str(settings.workspace), ENCODER_VARIABLE: socket})
        metrics_dir = folders.enter_context(TemporaryDirectory(prefix="recsys-metrics-"))
        if settings.serving.workers > 1:
            os.environ[METRICS_VARIABLE] = metrics_dir
        yield settings


def _overruled(serving: ServingConfig, variables: Mapping[str, str]) -> ServingConfig:
    values: dict[str, Any] = serving.model_dump()
    for variable, key in VARIABLES.items():
        text = variables.get(variable, "").strip()
        if text:
            values[key] = [part for part in text.split(",") if part.strip()] if key in LISTS else text
    try:
        return ServingConfig.model_validate(values)
    except ValidationError as error:
        names = {key: variable for variable, key in VARIABLES.items()}
        problems = [f"{names.get(str(each['loc'][0]), each['loc'])}: {each['msg']}" for each in error.errors()]
        raise ConfigError("the environment is refused: " + "; ".join(problems)) from None
