"""Three days of a shop: people come, things are added, and every night `recsys refresh` runs once, from cron."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from jobs.artifacts import load_dataset, load_model
from jobs.bootstrap import releases_of, store_of
from jobs.cli import app
from jobs.refresh import refresh_job
from recsys.workspace import Workspace
from tests.worlds.checkerboard import item_id, next_items
from tests.worlds.workspaces import NOW, Asker, add_item, item_ids, post, write_workspace

pytestmark = pytest.mark.slow
Visits = list[tuple[str, str]]


def walks(name: str, n_users: int, n_steps: int) -> Visits:
    """New users, who go around the circle as the others did."""
    starts = [(f"{name}-{user}", item_id(user)) for user in range(n_users)]
    return [(user, item) for user, start in starts for item in [start, *next_items([start], 60, n_steps - 1)]]


class Shop:
    """The workspace, and everything that ever happened in it since the files were written."""

    def __init__(self, root: Path) -> None:
        self.workspace, self.world = write_workspace(root)
        self.visits: Visits = []

    def day(self, number: int, visits: Visits) -> None:
        post(self.workspace, visits, NOW + timedelta(days=number, hours=-9))
        self.visits += visits

    def night(self, number: int) -> dict[str, Any]:
        result, exit_code = refresh_job(self.workspace, now=NOW + timedelta(days=number))
        assert exit_code == 0, result["gate_problems"]
        assert result["published"]
        assert releases_of(self.workspace).current() == result["release"]
        return result

    def exported(self) -> Visits:
        files = sorted(self.workspace.events_dir.glob("events-*.parquet"))
        tables = [pq.read_table(path).select(["user_id", "item_id"]).to_pylist() for path in files]
        return [(row["user_id"], row["item_id"]) for table in tables for row in table]

    def history(self, user: str) -> list[str]:
        store = store_of(self.workspace)
        try:
            return [item.item_id for item in store.user_state(user).history]
        finally:
            store.close()


def test_three_days_of_events_through_refresh(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop")
    n_first = shop.world.sequences.n_events

    built = shop.night(0)
    assert (built["events"], built["retrained"]) == (0, "there is no model yet")
    assert shop.history("user-0000") == [
        item_id(row) for row in shop.world.sequences.item_rows[: shop.world.sequences.offsets[1]]
    ]
    first_model = load_model(shop.workspace).key

    # Day 1: a few events, some of them of nobody and nothing known; one new item. Too few to train again.
    add_item(shop.workspace, "new-1", title="ember flame", categories=["Fire"], image="images/item-0000.png")
    shop.day(1, [*walks("tuesday", 2, 6), ("user-0000", item_id(59)), ("tuesday-0", "not in the catalogue")])
    one = shop.night(1)
    assert (one["events"], one["retrained"]) == (14, "")
    assert one["release"] != built["release"]
    assert load_model(shop.workspace).key == first_model
    assert load_dataset(shop.workspace).sequences.n_events == n_first + 13
    asker = Asker.of(shop.workspace)
    assert "new-1" in item_ids(asker.slate("tuesday-0", limit=61))
    assert item_ids(asker.slate("tuesday-1"))[0] == next_items([shop.history("tuesday-1")[-1]], 60)[0]

    # Day 2: many events, of the new item too: the model is due, and learns an id for it.
    add_item(shop.workspace, "new-2", title="river ocean", categories=["Water"])
    shop.day(2, [*((f"wednesday-{user}", "new-1") for user in range(10)), *walks("wednesday", 10, 14)])
    two = shop.night(2)
    assert (two["events"], two["retrained"]) == (150, f"interactions have grown by {163 / n_first:.1%}")
    model = load_model(shop.workspace)
    assert model.n_interactions == n_first + 163
    known = dict(zip(model.item_ids, model.id_present.tolist(), strict=True))
    assert (known["new-1"], known["new-2"]) == (True, False)

    # Day 3: the export of the catalogue goes wrong, and hides everything. The old release stays, and cron is told.
    add_item(shop.workspace, "new-3", title="scarlet furnace", categories=["Fire"])
    shop.day(3, walks("thursday", 2, 5))
    items = shop.workspace.data_dir / "items.jsonl"
    good = items.read_text()
    items.write_text(good.replace('{"item_id"', '{"hidden": true, "item_id"'))
    failed, exit_code = by_cron(shop.workspace, tmp_path / "night.json")
    assert exit_code == 1
    assert (failed["events"], failed["published"]) == (10, False)
    assert any("served NDCG@10 0.0000 fell by more than 10%" in problem for problem in failed["gate_problems"])
    assert releases_of(shop.workspace).current() == two["release"]
    assert "new-2" in Asker.of(shop.workspace).catalog.release.vocabulary

    # It is mended, and the night runs again: nothing was lost, and nothing counts twice.
    items.write_text(good)
    three, exit_code = by_cron(shop.workspace, tmp_path / "night.json")
    assert exit_code == 0
    assert (three["events"], three["retrained"], three["published"]) == (0, "", True)
    assert releases_of(shop.workspace).previous() == two["release"]
    release = Asker.of(shop.workspace).catalog.release
    assert {"new-1", "new-2", "new-3"} <= set(release.vocabulary.item_ids)
    assert shop.exported() == shop.visits
    assert load_dataset(shop.workspace).sequences.n_events == n_first + len(shop.visits) - 1
    for user in ("tuesday-0", "wednesday-9", "thursday-1"):
        assert shop.history(user) == [item for name, item in shop.visits if name == user]
    followed = item_ids(Asker.of(shop.workspace).slate("thursday-1"))[0]
    assert followed == next_items([shop.history("thursday-1")[-1]], 60)[0]


def by_cron(workspace: Workspace, json_file: Path) -> tuple[dict[str, Any], int]:
    """The command line, which asks the clock what day it is."""
    done = CliRunner().invoke(app, ["refresh", "--workspace", str(workspace.root), "--json", str(json_file)])
    return json.loads(json_file.read_text()), done.exit_code
