"""`recsys release`: build, publish, roll back, list."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rich.markup import escape
from rich.table import Table

from jobs.bootstrap import releases_of
from jobs.progress import console
from jobs.refresh_catalog import BuiltRelease, OnContent, current_acceptance, publish_release, refresh_catalog
from jobs.tagged_items import blocked_tags, uncovered_problem
from jobs.verify import gate_problems
from recsys.errors import ArtifactError, GateFailed, MissingArtifact
from recsys.ports import ReleaseStore
from recsys.release_loading import read_schema
from recsys.workspace import Workspace


def build_job(
    workspace: Workspace, *, now: datetime, publish: bool, on_content: OnContent = lambda dataset, content: None
) -> tuple[dict[str, Any], int]:
    """Build a release, and publish it when that is asked for and it passes its gate; exit code 1 when it does not."""
    built = refresh_catalog(workspace, now=now, publish=False, on_content=on_content)
    if publish and not built.problems:
        built = publish_release(workspace, built)
    return report(built), 1 if built.problems else 0


def report(built: BuiltRelease) -> dict[str, Any]:
    """Show a release's figures, and give them as JSON values."""
    figures = built.acceptance.as_json()
    console.print(f"  release [bold]{built.release_id[:12]}[/] {'published' if built.is_published else 'built'}")
    if built.acceptance.n_users:
        served, popular = figures["served"]["ndcg@10"], figures["popularity"]["ndcg@10"]
        console.print(
            f"  served NDCG@10 {served['value']:.4f} [{served['low']:.4f}, {served['high']:.4f}], "
            f"popularity {popular['value']:.4f}; index recall@100 {built.acceptance.index_recall:.4f}"
        )
    for problem in built.problems:
        console.print(f"  [red]gate:[/] {escape(problem)}")
    return {
        "release": built.release_id,
        "published": built.is_published,
        "acceptance": figures,
        "gate_problems": list(built.problems),
    }


def publish_job(workspace: Workspace, release_id: str) -> tuple[dict[str, Any], int]:
    """Make a release current after its gate; by its first characters, or the last of the list."""
    store = releases_of(workspace)
    chosen = _chosen(store.list(), release_id)
    manifest = store.manifest(chosen)
    for name in manifest.files:
        store.open(manifest, name)
    current, before = current_acceptance(workspace, chosen)
    problems = list(gate_problems(manifest.acceptance, before, workspace.config.gate))
    heads = read_schema(store.open(manifest, "serving.json")).tag_heads
    uncovered = uncovered_problem(blocked_tags(workspace.config), heads)
    problems += [uncovered] if uncovered else []
    if problems:
        raise GateFailed(f"release {chosen[:12]} is not published: " + "; ".join(problems))
    store.publish(chosen, expected=current)
    console.print(f"  release [bold]{chosen[:12]}[/] is current")
    return {"release": chosen, "published": True}, 0


def rollback_job(workspace: Workspace) -> tuple[dict[str, Any], int]:
    """Publish the release that was current before; its files are verified first, its gate is not asked again."""
    store = releases_of(workspace)
    current, previous = store.current(), store.previous()
    if previous is None:
        raise MissingArtifact("there is no earlier release to go back to")
    manifest = store.manifest(previous)
    for name in manifest.files:
        store.open(manifest, name)
    store.publish(previous, expected=current)
    console.print(f"  release [bold]{previous[:12]}[/] is current again")
    return {"release": previous, "published": True}, 0


def list_job(workspace: Workspace) -> tuple[dict[str, Any], int]:
    """All releases, oldest first."""
    store = releases_of(workspace)
    current, rows = _current(store), []
    table = Table("release", "items", "served NDCG@10", "popularity", "")
    for release_id in store.list():
        try:
            manifest = store.manifest(release_id)
        except ArtifactError as error:
            table.add_row(release_id[:12], "", "", "", f"[red]{escape(str(error))}[/]")
            rows.append({"release": release_id, "current": release_id == current, "error": str(error)})
            continue
        served, popular = _ndcg(manifest.acceptance, "served"), _ndcg(manifest.acceptance, "popularity")
        table.add_row(
            release_id[:12], f"{manifest.n_items:,}", served, popular, "current" if release_id == current else ""
        )
        rows.append({"release": release_id, "current": release_id == current, "acceptance": manifest.acceptance})
    console.print(table)
    return {"releases": rows}, 0


def _current(store: ReleaseStore) -> str | None:
    """The current release; None where there is none, or the pointer is damaged (publishing mends it)."""
    try:
        return store.current()
    except ArtifactError as error:
        console.print(f"  [yellow]{escape(str(error))}[/]")
        return None


def _ndcg(acceptance: dict[str, Any], who: str) -> str:
    value = acceptance.get(who, {}).get("ndcg@10", {}).get("value")
    return "" if value is None else f"{value:.4f}"


def _chosen(known: list[str], wanted: str) -> str:
    if not known:
        raise MissingArtifact("there is no release yet: run `recsys release build`")
    if not wanted:
        return known[-1]
    matches = [release_id for release_id in known if release_id.startswith(wanted)]
    if len(matches) != 1:
        raise MissingArtifact(f"{len(matches)} releases begin with {wanted!r}; `recsys release list` shows them")
    return matches[0]
