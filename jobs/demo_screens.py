"""What the demo shows of the running service: a user's slate, how it moves, similar items, a brand-new item."""

from __future__ import annotations

import base64
import statistics
import time
from datetime import UTC, datetime
from typing import Any

import numpy as np
from rich.table import Table

from jobs.artifacts import Dataset
from jobs.covers import draw_cover
from jobs.demo_client import Client, cpu_seconds
from jobs.progress import console
from recsys.dataset import leave_last_out
from recsys.live import CatalogView

SLATE = 10
MAX_PROBED_USERS = 300
N_REQUESTS = 400


def show_recommendations(client: Client, dataset: Dataset) -> str:
    """A user's slate, then again after new events of theirs: the answer moves. Returns the user."""
    user_id = _a_typical_user(dataset)
    before = client.post("/v1/recommendations", {"user_id": user_id, "limit": SLATE})
    _slate(f"for user {user_id}", before, dataset)
    taken = _a_different_taste(dataset, user_id)
    now = datetime.now(UTC)
    events = [
        {
            "event_id": f"demo-{user_id}-{now.timestamp()}-{at}",
            "user_id": user_id,
            "item_id": dataset.vocabulary.item_ids[row],
            "event_type": dataset.sequences.event_type_names[-1],
            "occurred_at": now.isoformat(),
        }
        for at, row in enumerate(taken)
    ]
    client.post("/v1/events:batch", {"events": events})
    titles = ", ".join(_title(dataset, row) for row in taken)
    after = client.post("/v1/recommendations", {"user_id": user_id, "limit": SLATE})
    _slate(f"for user {user_id}, right after they took {titles}", after, dataset)
    moved = SLATE - len({item["item_id"] for item in before["items"]} & {item["item_id"] for item in after["items"]})
    console.print(f"  {moved} of {SLATE} places changed with the next answer")
    return user_id


def show_similar(client: Client, dataset: Dataset) -> None:
    """Items like the one that most people took."""
    row = int(dataset.sequences.item_counts(len(dataset.vocabulary)).argmax())
    reply = client.get(f"/v1/similar?item_id={_quoted(dataset.vocabulary.item_ids[row])}&limit=5")
    _slate(f"similar to {_title(dataset, row)}", reply, dataset)


def new_item_ranks(catalog: CatalogView, dataset: Dataset) -> dict[str, float]:
    """Where an item that nobody has touched stands for the people who took it next: median rank over test users,
    its content known and unknown. The item's id is hidden from the tower, as that of a new item is."""
    release = catalog.release
    if release.query_encoder is None or release.item_encoder is None:
        return {}
    split = leave_last_out(dataset.sequences, part="test")
    probed = np.random.default_rng(0).permutation(len(split.target_users))[:MAX_PROBED_USERS]
    ranks: dict[str, list[int]] = {"with_content": [], "without_content": []}
    for user, target in zip(split.target_users[probed], split.target_items[probed], strict=True):
        mine = split.history.of(int(user))
        latest = slice(max(mine.start, mine.stop - release.schema.max_history), mine.stop)
        query = release.query_encoder.encode(
            release.item_vectors[split.history.item_rows[latest]], split.history.event_types[latest]
        )
        others = release.item_vectors @ query
        categories = release.categories_of(catalog.fields(int(target)))
        content = {each.name: each.vectors[target] for each in release.modalities if each.present[target]}
        for name, vectors, mine_of in (
            ("with_content", content, categories),
            ("without_content", {}, np.zeros_like(categories)),
        ):
            similarity = release.item_encoder.encode_new(vectors, mine_of) @ query
            ranks[name].append(1 + int((others > similarity).sum()))
    return {name: float(statistics.median(found)) for name, found in ranks.items() if found}


def show_new_item(client: Client, dataset: Dataset, user_id: str, ranks: dict[str, float]) -> None:
    """Upsert an item that the release has never seen, and find it in an answer right away."""
    if ranks:
        console.print(
            f"  a brand-new item, median rank among {len(dataset.vocabulary):,} for those who took it next: "
            f"[bold]{ranks['with_content']:,.0f}[/] with its content, {ranks['without_content']:,.0f} without"
        )
    row = int(dataset.sequences.item_rows[dataset.sequences.of(dataset.sequences.user_ids.index(user_id))][-1])
    like = {name: dataset.items[name][row].as_py() for name in ("title", "categories", "description")}
    item: dict[str, Any] = {
        "item_id": "brand-new-item",
        "title": f"{like['title'] or 'Untitled'}: the sequel",
        "categories": like["categories"] or [],
    }
    if like["description"]:
        item["description"] = like["description"]
    cover = draw_cover(item["item_id"], item["title"], None, item["categories"])
    started = time.monotonic()
    client.post("/v1/items", {**item, "image_base64": base64.b64encode(cover).decode()})
    history = [{"item_id": dataset.vocabulary.item_ids[row]}]
    slate = client.post("/v1/recommendations", {"history": history, "limit": 500})["items"]
    place = next((each["position"] + 1 for each in slate if each["item_id"] == item["item_id"]), None)
    seconds = time.monotonic() - started
    where = f"place {place} of {len(slate)}" if place else "not among the first 500"
    console.print(f"  “{item['title']}”, upserted {seconds:.2f} s ago, for someone who just took its original: {where}")


def take_requests(client: Client, process_id: int, dataset: Dataset) -> dict[str, float]:
    """Median latency seen by a client, and CPU time of the service a request, over a few hundred requests."""
    users = dataset.sequences.user_ids
    picked = [users[at] for at in np.random.default_rng(1).integers(0, min(len(users), N_REQUESTS // 2), N_REQUESTS)]
    for user_id in picked[:20]:
        client.post("/v1/recommendations", {"user_id": user_id, "limit": 20})
    cpu_before, latencies_ms = cpu_seconds(process_id), []
    for user_id in picked:
        started = time.perf_counter()
        client.post("/v1/recommendations", {"user_id": user_id, "limit": 20})
        latencies_ms.append((time.perf_counter() - started) * 1e3)
    cpu_us = (cpu_seconds(process_id) - cpu_before) / len(picked) * 1e6
    p50 = statistics.median(latencies_ms)
    console.print(f"  {len(picked)} requests, one after another: p50 {p50:.1f} ms, {cpu_us:,.0f} CPU-µs each")
    return {"request_cpu_us": round(cpu_us, 1), "request_p50_ms": round(p50, 3)}


def _slate(caption: str, reply: dict[str, Any], dataset: Dataset) -> None:
    table = Table(title=caption, title_justify="left", show_edge=False)
    for name in ("", "title", "categories", "value", "source", "why"):
        table.add_column(
            name, overflow="fold" if name in ("title", "why") else "ellipsis", no_wrap=name == "categories"
        )
    for item in reply["items"]:
        row = dataset.vocabulary.row(item["item_id"])
        categories = "" if row is None else ", ".join((dataset.items["categories"][row].as_py() or [])[:2])
        title = item["item_id"] if row is None else _title(dataset, row)
        place, value = str(item["position"] + 1), f"{item['value']:.2f}"
        table.add_row(place, title, categories, value, item["source"], "; ".join(item["reasons"]))
    console.print(table)
    if reply.get("degraded"):
        console.print(f"  [yellow]degraded: {', '.join(reply['degraded'])}[/]")


def _title(dataset: Dataset, row: int) -> str:
    return dataset.items["title"][row].as_py() or dataset.vocabulary.item_ids[row]


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")


def _a_typical_user(dataset: Dataset) -> str:
    """The first user with a history of median length."""
    lengths = dataset.sequences.lengths
    return dataset.sequences.user_ids[int(np.argmin(np.abs(lengths - np.median(lengths))))]


def _a_different_taste(dataset: Dataset, user_id: str, n_items: int = 3) -> list[int]:
    """The most taken items of the category that the user takes least, compared with everybody."""
    from recsys.catalog import category_matrix

    _, matrix = category_matrix(dataset.items)
    counts = dataset.sequences.item_counts(len(dataset.vocabulary))
    mine = dataset.sequences.item_rows[dataset.sequences.of(dataset.sequences.user_ids.index(user_id))]
    if not matrix.shape[1]:
        by_count = np.argsort(-counts, kind="stable")
        return [int(row) for row in by_count[~np.isin(by_count, mine)][:n_items]]
    usual = (matrix * counts[:, None]).sum(axis=0) / max(counts.sum(), 1)
    own = matrix[mine].mean(axis=0)
    common = usual > 0.02
    category = int(np.flatnonzero(common)[(own - usual)[common].argmin()]) if common.any() else int(usual.argmax())
    order = np.argsort(-(counts * matrix[:, category]), kind="stable")
    return [int(row) for row in order if row not in set(mine.tolist())][:n_items]
