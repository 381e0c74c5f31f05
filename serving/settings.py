"""What the service is told: `recsys.toml` of the workspace, overruled by the environment, overruled by options.

The only place of the project that reads the environment.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import ValidationError

from recsys.errors import ConfigError
from recsys.recommender import RecommenderConfig
from recsys.releases_config import ReleasesConfig
from recsys.serving_config import ServingConfig, require_safe
from recsys.workspace import Workspace, WorkspaceConfig

WORKSPACE_VARIABLE = "RECSYS_WORKSPACE"
RELEASES_VARIABLE = "RECSYS_RELEASES_URL"
METRICS_VARIABLE = "RECSYS_METRICS_DIR"
ENCODER_VARIABLE = "RECSYS_ENCODER_SOCKET"  # from the main process to its workers
TOKEN_VARIABLE = "RECSYS_TOKEN_KEY"  # what page tokens are signed with; the same on all hosts of one service
TOKEN_FILE = "token.key"
MIN_TOKEN_KEY = 16

# Environment variable → key of `[serving]`, with a dot for one of its sections.
VARIABLES: Mapping[str, str] = {
    "RECSYS_STORE_URL": "store_url",
    "RECSYS_HOST": "host",
    "RECSYS_PORT": "port",
    "RECSYS_WORKERS": "workers",
    "RECSYS_THREADS": "threads",
    "RECSYS_API_KEYS": "api_keys",
    "RECSYS_API_KEYS_SHA256": "api_keys_sha256",
    "RECSYS_CORS_ORIGINS": "cors_origins",
    "RECSYS_ACCESS_LOG": "access_log",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "tracing.endpoint",
}
LISTS = frozenset({"api_keys", "api_keys_sha256", "cors_origins"})


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything `create_app` needs.

    Attributes:
        workspace: the folder, absolute.
        metrics_dir: where several workers keep their numbers together; None for a single one.
        encoder_socket: where this host's encoder process listens; None: each worker encodes itself.
        config: all of `recsys.toml`, as it was when the service started.
        token_key: what page tokens are signed with.
        releases: where the releases lie: `[releases]`, overruled by the environment.
    """

    workspace: Path
    serving: ServingConfig
    recommender: RecommenderConfig
    metrics_dir: Path | None = None
    encoder_socket: Path | None = None
    config: WorkspaceConfig = field(default_factory=WorkspaceConfig)
    token_key: bytes = field(default_factory=lambda: secrets.token_hex(32).encode())
    releases: ReleasesConfig = field(default_factory=ReleasesConfig)


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
    return Settings(
        workspace.root,
        serving,
        workspace.config.recommender,
        metrics_dir,
        encoder_socket,
        workspace.config,
        _token_key(workspace.root, variables),
        workspace.with_releases_at(variables.get(RELEASES_VARIABLE)).config.releases,
    )


def _token_key(root: Path, variables: Mapping[str, str]) -> bytes:
    """The key from the environment, else the workspace's own, made where there is none yet.

    Raises:
        ConfigError: it is too short to be one.
    """
    text = variables.get(TOKEN_VARIABLE, "").strip()
    if text:
        if len(text) < MIN_TOKEN_KEY:
            raise ConfigError(f"{TOKEN_VARIABLE} has {len(text)} characters: take at least {MIN_TOKEN_KEY} random ones")
        return text.encode()
    path = root / TOKEN_FILE
    with suppress(FileExistsError, OSError):  # another worker made it, or the workspace may not be written to
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_hex(32))
    try:
        return path.read_bytes().strip() or secrets.token_hex(32).encode()
    except OSError:
        return secrets.token_hex(32).encode()


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
        os.environ.setdefault(TOKEN_VARIABLE, settings.token_key.decode("ascii", "replace"))
        metrics_dir = folders.enter_context(TemporaryDirectory(prefix="recsys-metrics-"))
        if settings.serving.workers > 1:
            os.environ[METRICS_VARIABLE] = metrics_dir
        yield settings


def _overruled(serving: ServingConfig, variables: Mapping[str, str]) -> ServingConfig:
    values: dict[str, Any] = serving.model_dump()
    for variable, key in VARIABLES.items():
        text = variables.get(variable, "").strip()
        if text:
            section, _, name = key.rpartition(".")
            inside = values[section] if section else values
            inside[name] = [part.strip() for part in text.split(",") if part.strip()] if key in LISTS else text
    try:
        return ServingConfig.model_validate(values)
    except ValidationError as error:
        # Without the input: it may be a key that somebody put where its sha256 belongs.
        problems = [f"{_variable_of(each['loc'])}: {each['msg']}" for each in error.errors(include_input=False)]
        raise ConfigError("the environment is refused: " + "; ".join(problems)) from None


def _variable_of(place: tuple[int | str, ...]) -> str:
    """The variable that set what stands at this place of `[serving]`, else the place."""
    names = {key: variable for variable, key in VARIABLES.items()}
    found = (names.get(".".join(map(str, place[:depth]))) for depth in (1, 2))
    return next((name for name in found if name), ".".join(map(str, place)) or "[serving]")
