"""`recsys demo`: the main job from end to end on real data, with the same jobs that a user runs.

data → validate → embed → tag → train → evaluate → release → serve → recommend, move, find alike, meet a new item
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jobs.artifacts import Content, Dataset, Model
from jobs.bootstrap import catalog_of, store_of
from jobs.covers import draw_covers, read_cover_items
from jobs.demo_client import cache_hit_shares, peak_rss_bytes, running_service
from jobs.demo_data import use_images, write_demo_data
from jobs.demo_screens import new_item_ranks, show_new_item, show_recommendations, show_similar, take_requests
from jobs.demo_tags import TAXONOMY, tag_pictures
from jobs.embed import embed_dataset
from jobs.evaluate import DEFAULT, Evaluated, evaluate_models
from jobs.events import import_histories
from jobs.progress import console, progress_bar
from jobs.refresh_catalog import BuiltRelease, refresh_catalog
from jobs.release import report
from jobs.train import train_on
from jobs.validate import validate_data
from recsys.errors import InputError
from recsys.evaluation import compare
from recsys.manifest import fingerprint
from recsys.storage.redis_server import PrivateRedis, find_redis_server
from recsys.workspace import CONFIG_NAME, Workspace

COVERS = "covers"
DEMOS = Path(".demo")


@dataclass
class Clock:
    """Seconds of each job, for the last line."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def job(self, name: str, says: str) -> Iterator[None]:
        console.print(f"\n[bold]{name}[/]  [dim]{says}[/]")
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 2)
        console.print(f"  [dim]{self.seconds[name]:.1f} s[/]")


def demo_workspace(data: Path | None, images: Path | None, encoder: str | None) -> Path:
    """Where a demo lives unless it is told: each data has a folder of its own, so that no run is held against
    another's release."""
    if data is None and images is None and encoder is None:
        return DEMOS / "movielens"
    name = "movielens" if data is None else data.resolve().name
    chosen = [None if path is None else str(path.resolve()) for path in (data, images)]
    return DEMOS / f"{name}-{fingerprint([*chosen, encoder])[:8]}"


def demo_job(
    root: Path | None, *, data: Path | None, images: Path | None, encoder: str | None, keep_serving: bool
) -> tuple[dict[str, Any], int]:
    """Run it all; the JSON that is its last line is also its result. `root` defaults to `demo_workspace`."""
    root = (root or demo_workspace(data, images, encoder)).resolve()
    clock = Clock()
    with clock.job("data", "the files that the jobs read"):
        workspace = prepare(root, data, images, encoder)
    now = datetime.now(UTC)
    with clock.job("validate", "recsys validate: every row accepted, or quarantined with a reason"):
        dataset = validate_data(workspace, now=now)
    with clock.job("embed", "recsys embed: pictures and words to vectors"):
        content = embed_dataset(workspace, dataset).content
        say_encoders(content, is_drawn=data is None and images is None)
    with clock.job("tag", "recsys tag train, recsys tag: what is in the pictures, and how sure that is"):
        tags = tag_pictures(workspace, dataset, now=now)
    with clock.job("train", "recsys train: the TorchRec two-tower model"):
        model = train_on(workspace, dataset, content)
    with clock.job("evaluate", "recsys evaluate: each user's last item, ranked among the whole catalogue"):
        evaluated = evaluate_models(workspace, dataset, content, model)
    with clock.job("release", "recsys release build --publish: project, index, verify, publish"):
        built = refresh_catalog(workspace, now=now, publish=True)
        report(built)
    with clock.job("serve", "recsys serve: the API on this machine"):
        live = serve_and_show(workspace, dataset, content, model, keep_serving=keep_serving)
    result = {**last_line(dataset, evaluated, built, live, clock), "tags": tags}
    console.print()
    print(json.dumps(result, ensure_ascii=False))
    return result, 0


def prepare(root: Path, data: Path | None, images: Path | None, encoder: str | None) -> Workspace:
    """A workspace with MovieLens and drawn covers, or on the user's own files, which are left as they are."""
    root.mkdir(parents=True, exist_ok=True)
    folder = (root / "data" if data is None else data).resolve()
    if data is None:
        with progress_bar("convert MovieLens") as bar:
            counts = write_demo_data(folder, on_progress=bar)
        console.print(
            f"  MovieLens latest-small: {counts.interactions:,} ratings, {counts.users} users, {counts.items:,} movies"
        )
    elif not folder.is_dir():
        raise InputError(f"{folder} is no folder: give one with items.* and interactions.*")
    if images is not None:
        folder = with_images(root, folder, images.resolve(), owned=data is None)
    elif data is None:
        draw(folder)
    settings = {"data": {"dir": str(folder)}, "tagging": {"taxonomy": TAXONOMY}}
    if encoder is not None:
        settings["encoders"] = {"image": encoder, "text": encoder}
    write_settings(root / CONFIG_NAME, settings)
    return Workspace.open(root)


def draw(folder: Path) -> None:
    with progress_bar("draw covers", "covers") as bar:
        items = list(read_cover_items(folder / "items.jsonl"))
        done = draw_covers(items, folder / COVERS, workers=os.cpu_count() or 1, on_progress=bar)
    console.print(f"  the covers are [bold]drawn[/] from title, year and genres ({done.drawn} now, {done.kept} kept)")


def with_images(root: Path, folder: Path, images: Path, *, owned: bool) -> Path:
    """The data folder whose items point to the user's pictures; files that are not ours are linked, not changed."""
    target = folder
    if not owned:
        target = root / "data-with-images"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        for path in sorted(folder.iterdir()):
            if not path.name.startswith("items."):
                (target / path.name).symlink_to(path)
    items = next(iter(sorted(folder.glob("items.*"))), None)
    if items is None:
        raise InputError(f"{folder} holds no items.*: see README, your own data")
    used = use_images(items, images, out=None if owned else target / items.name)
    console.print(f"  pictures from {images}: {used.with_image:,} items have one, {used.without_image:,} have none")
    return target


def write_settings(path: Path, settings: dict[str, dict[str, str]]) -> None:
    """The demo's recsys.toml: what it sets; everything else stands at its default."""
    lines = ["# Written by `recsys demo`. `recsys init` in another folder shows every setting there is."]
    for section, values in settings.items():
        lines += ["", f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def say_encoders(content: Content, *, is_drawn: bool) -> None:
    for name, space in sorted(content.spaces.items()):
        console.print(f"  {name} encoder: [bold]{space.encoder}[/], {space.dim} dimensions, space {space.space_id}")
    if is_drawn:
        console.print("  [yellow]the pictures are drawn covers: they show genre and year, not artwork[/]")


def serve_and_show(
    workspace: Workspace, dataset: Dataset, content: Content, model: Model, *, keep_serving: bool
) -> dict[str, Any]:
    """Start the service on a private redis-server (else SQLite), ask it what a shop would ask, and show the answers."""
    with ExitStack() as stack:
        if find_redis_server() is not None:
            redis = stack.enter_context(PrivateRedis(workspace.root / "redis"))
            store_name, url = "redis", redis.url
        else:
            fresh = Path(stack.enter_context(TemporaryDirectory(dir=workspace.root)))  # as empty as a new Redis
            store_name, url = "sqlite", f"sqlite:///{fresh / 'store.sqlite3'}"
        console.print(f"  store: [bold]{store_name}[/]" + ("" if store_name == "redis" else " (no redis-server found)"))
        store = store_of(workspace, url)
        stack.callback(store.close)
        import_histories(dataset, store)
        client, process = stack.enter_context(running_service(workspace.root, url))
        user_id = show_recommendations(client, dataset)
        show_similar(client, dataset)
        catalog = catalog_of(workspace, client.get("/readyz")["release"])
        ranks = new_item_ranks(catalog, dataset)
        show_new_item(client, dataset, user_id, ranks)
        requests = take_requests(client, process.pid, dataset)
        shares = cache_hit_shares(client.text("/metrics"))
        for cache, share in shares.items():
            console.print(f"  cache {cache}: {share:.0%} hits")
        live = {**requests, "store": store_name, "cache_hit_share": shares, "new_item_median_rank": ranks}
        live["service_peak_rss_bytes"] = peak_rss_bytes(process.pid)
        if keep_serving:
            console.print(f"\n  serving at [bold]{client.base}[/] (docs at {client.base}/docs); Ctrl-C ends it")
            try:
                process.wait()
            except KeyboardInterrupt:
                console.print("  ended")
        return live


def last_line(
    dataset: Dataset, evaluated: Evaluated, built: BuiltRelease, live: dict[str, Any], clock: Clock
) -> dict[str, Any]:
    """The demo's result; `served` are the slates of the published release through the request's own code."""
    served = built.acceptance.evaluation
    against = {}
    if served is not None:
        against = {
            name: compare(served, evaluated.models[name]).as_json()
            for name in ("popularity", "item_knn")
            if len(evaluated.models[name].users) == len(served.users)
        }
    own_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    children_peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return {
        "items": len(dataset.vocabulary),
        "users": dataset.sequences.n_users,
        "interactions": dataset.sequences.n_events,
        "default": DEFAULT,
        "models": evaluated.as_json()["models"],
        "served": dict(built.acceptance.served),
        "served_minus": against,
        "seconds": clock.seconds,
        "request_cpu_us": live.pop("request_cpu_us"),
        "request_p50_ms": live.pop("request_p50_ms"),
        "peak_rss_bytes": max(own_peak, children_peak, live.pop("service_peak_rss_bytes")),
        "release": built.release_id,
        "store": live.pop("store"),
        **live,
    }
