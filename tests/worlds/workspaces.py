"""The checkerboard as a workspace, and the jobs that take it from files to a published release, in this process.

The time is `NOW` everywhere: the day after the world's last event, so that nothing in it lies in the future.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from jobs.bootstrap import catalog_of, releases_of, store_of
from jobs.embed import embed_job
from jobs.events import import_job
from jobs.release import build_job
from jobs.train import train_job
from jobs.validate import validate_job
from recsys.events import Interaction
from recsys.live import CatalogView
from recsys.recommender import recommend
from recsys.types import HistoryItem, Query, Slate
from recsys.workspace import CONFIG_NAME, Workspace
from tests.worlds.checkerboard import World, write_world

NOW = datetime(2024, 1, 3, tzinfo=UTC)
N_ITEMS, N_USERS = 60, 160

CONFIG = """\
[encoders]
image = "fake"
text = "fake"
shard_size = 16

[model]
dim = 32
n_blocks = 1

[training]
batch_tokens = 1024
max_tokens = {max_tokens}
learning_rate = 0.01
warmup_steps = 5
n_evaluations = 4
checkpoint_every_steps = 4
threads = 1

[evaluation]
n_bootstrap = 100
"""


def write_workspace(
    root: Path,
    *,
    n_items: int = N_ITEMS,
    n_users: int = N_USERS,
    more: str = "",
    max_tokens: int = 24_000,
) -> tuple[Workspace, World]:
    """A workspace with profiles and nothing run; `more` is added to its recsys.toml, which ends with [evaluation]."""
    root.mkdir(parents=True, exist_ok=True)
    (root / CONFIG_NAME).write_text(f"{CONFIG.format(max_tokens=max_tokens)}\n{more}", encoding="utf-8")
    world = write_world(root / "data", n_items=n_items, n_users=n_users, profiles=True)
    return Workspace.open(root), world


def run_jobs(workspace: Workspace) -> str:
    """validate → embed → train → release build --publish → events import; the release's id."""
    validate_job(workspace, now=NOW)
    embed_job(workspace)
    train_job(workspace)
    report, exit_code = build_job(workspace, now=NOW, publish=True)
    assert exit_code == 0, report["gate_problems"]
    import_job(workspace)
    release_id: str = report["release"]
    return release_id


def copied(workspace: Workspace, root: Path, *, more: str = "") -> Workspace:
    """A copy that a test may change; `more` is added to its recsys.toml."""
    shutil.copytree(workspace.root, root)
    with (root / CONFIG_NAME).open("a", encoding="utf-8") as config:
        config.write(f"\n{more}")
    return Workspace.open(root)


@dataclass(frozen=True)
class Asker:
    """Asks the current release of a workspace, as the service would."""

    workspace: Workspace
    catalog: CatalogView

    @staticmethod
    def of(workspace: Workspace) -> Asker:
        current = releases_of(workspace).current()
        assert current is not None
        return Asker(workspace, catalog_of(workspace, current))

    def slate(self, user_id: str | None = None, history: Sequence[str] = (), *, limit: int = 10) -> Slate:
        """A slate with its parts for a stored user, or a session."""
        session = tuple(HistoryItem(item_id) for item_id in history)
        query = Query("asked", NOW, user_id=user_id, history=session, limit=limit, explain=True)
        store = store_of(self.workspace)
        try:
            return recommend(query, self.catalog, store, self.workspace.config.recommender)
        finally:
            store.close()


def item_ids(slate: Slate) -> list[str]:
    return [item.item_id for item in slate.items]


def parity(item_id: str) -> int:
    return int(item_id.removeprefix("item-")) % 2


def add_item(workspace: Workspace, item_id: str, **fields: object) -> None:
    """One more line of items.jsonl."""
    with (workspace.data_dir / "items.jsonl").open("a", encoding="utf-8") as items:
        items.write(json.dumps({"item_id": item_id, **fields}) + "\n")


def post(workspace: Workspace, visits: Sequence[tuple[str, str]], at: datetime) -> None:
    """Events (user, item) as the service takes them: a minute apart, ids by time, user and item."""
    store = store_of(workspace)
    try:
        store.append(
            [
                Interaction(f"{at.isoformat()}/{user}/{item}", user, item, at + timedelta(minutes=minute))
                for minute, (user, item) in enumerate(visits)
            ]
        )
    finally:
        store.close()
