"""`python -m tests.benchmarks._serving.build FOLDER SIZE`: makes the world that `world.py` describes, from seeds.

Items lie in clusters, of which some are large and some small; pictures, words and behaviour agree about them, roughly.
The towers have the shape of trained ones and seeded weights: the query tower's means start as the identity, so that
what it finds is near to the history.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import redis
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from recsys.catalog import ITEM_FIELDS, category_matrix, items_table
from recsys.dataset import Modality
from recsys.features.blend import Blend
from recsys.features.diversity import diversity_of
from recsys.features.transitions import HISTORY_DECAY, HISTORY_WINDOW
from recsys.index.files import write_index
from recsys.index.planner import build_index
from recsys.inference.towers import OnnxItemTower
from recsys.manifest import EmbeddingSpace, FileEntry, ReleaseManifest, canonical_json, release_id_of
from recsys.models.config import ModelConfig
from recsys.models.export import ITEM_TOWER_FILE, QUERY_TOWER_FILE, export_towers
from recsys.models.model import TrainedModel
from recsys.models.two_tower import TABLE, ModalitySpec, TwoTower, TwoTowerSpec
from recsys.release import ServingSchema
from recsys.storage.redis_server import PrivateRedis
from recsys.storage.release_files import LocalReleaseStore
from recsys.storage.urls import open_store
from recsys.types import HistoryItem
from recsys.vocabulary import Vocabulary
from tests.benchmarks._serving.catalogue import (
    COLOURS,
    Catalogue,
    clustered,
    make_catalogue,
    make_histories,
    make_neighbours,
)
from tests.benchmarks._serving.peer_keys import PACKED_ITEM, textbook_item, textbook_user, tuned_item, tuned_user
from tests.benchmarks._serving.world import EVENT_TYPES, WorldSize, item_id, user_id

Floats = NDArray[np.float32]

LAST_EVENT_MS, BETWEEN_EVENTS_MS = 1_767_225_600_000, 3_600_000
PROJECT_BATCH, REDIS_BATCH = 4096, 2000
# With 50 seen items, which ann and popular overshoot by: about 200 candidates after the gate.
CONFIG = """\
[recommender.retrieval]
ann = {ann_quota}
similar = 35
category = 15
trending = 10
recent = 20
popular = 0

[serving]
port = 0

[serving.cache]
histories_mib = {histories_mib}
"""
HISTORIES_MIB = 192
ANN_QUOTA = 80


def build(folder: Path, size: WorldSize) -> None:
    """Everything, and `complete` at the end."""
    rng = np.random.default_rng(20_26)
    say("items")
    catalogue = make_catalogue(size, rng)
    histories, event_types = make_histories(size, catalogue, rng)
    np.save(folder / "histories.npy", histories)
    np.save(folder / "event_types.npy", event_types)
    with TemporaryDirectory(dir=folder) as staging:
        say("towers, item vectors, index")
        model = make_model(size, catalogue, rng)
        item_vectors = write_release(Path(staging), size, catalogue, model, rng)
        put_release(folder, Path(staging), size)
        write_peers(folder / "peers", Path(staging), model, item_vectors, catalogue)
    say("users and items in Redis")
    fill_redis(folder / "redis", catalogue, histories, event_types)
    (folder / "complete").touch()


def say(what: str) -> None:
    print(f"building the benchmark's world: {what}", file=sys.stderr, flush=True)


def make_model(size: WorldSize, catalogue: Catalogue, rng: np.random.Generator) -> TrainedModel:
    """The towers with seeded weights; an item's id vector leans to its cluster."""
    modalities = tuple(
        ModalitySpec(name=name, space_id=space_of(name, width).space_id, dim=width)
        for name, width in (("image", size.image_dim), ("text", size.text_dim))
    )
    names = category_matrix(items_table(catalogue.items, list(range(size.n_items))))[0]
    spec = TwoTowerSpec(
        model=ModelConfig(dim=size.dim, n_blocks=2),
        n_items=size.n_items,
        vocabulary_checksum=Vocabulary([item.item_id for item in catalogue.items]).checksum,
        modalities=modalities,
        category_names=names,
        event_type_names=EVENT_TYPES,
    )
    torch.manual_seed(20_26)
    towers = TwoTower(spec)
    ids = 0.3 * clustered(catalogue.clusters, size.dim, rng).astype(np.float32)
    with torch.no_grad():
        towers.ids.embeddings[TABLE].weight.copy_(torch.from_numpy(ids))
        towers.query.event_types.normal_(std=0.1)
    return TrainedModel(spec, towers.eval(), np.ones(size.n_items, np.bool_))


def space_of(modality: str, dim: int) -> EmbeddingSpace:
    return EmbeddingSpace(encoder="seeded", modality=modality, weights_sha256="0" * 64, preprocessing="{}", dim=dim)


def write_release(
    staging: Path, size: WorldSize, catalogue: Catalogue, model: TrainedModel, rng: np.random.Generator
) -> Floats:
    """Every file of the release, as `jobs.refresh_catalog` writes them; its item vectors."""
    export_towers(model, staging)
    table = items_table(catalogue.items, list(range(size.n_items)))
    item_vectors = project(staging, model, catalogue, category_matrix(table)[1])
    index = build_index(item_vectors)
    write_index(index, staging / "index.faiss")
    pq.write_table(
        table.select(list(ITEM_FIELDS)).replace_schema_metadata(None), staging / "items.parquet", compression="zstd"
    )
    rows, weights = make_neighbours(size, catalogue.clusters, rng)
    everywhere = np.ones(size.n_items, np.bool_)
    image, text = catalogue.image.astype(np.float32), catalogue.text.astype(np.float32)
    diversity = diversity_of(
        (Modality("image", "", image, everywhere), Modality("text", "", text, everywhere)), size.n_items
    )
    for name, vectors in (("image", image), ("text", text)):
        write_index(build_index(vectors), staging / f"content_{name}.faiss")
    arrays: dict[str, NDArray[Any]] = {
        "item_vectors": item_vectors,
        "item_counts": catalogue.counts,
        "neighbours_rows": rows,
        "neighbours_weights": weights,
        "content_image": image,
        "content_image_present": everywhere,
        "content_text": text,
        "content_text_present": everywhere,
        "profile_hashes": np.empty(0, np.uint64),
        "profiles": np.empty((0, 0), np.float32),
        "diversity": diversity.vectors,
        "diversity_projection": diversity.projection,
    }
    for name, array in arrays.items():
        np.save(staging / f"{name}.npy", array, allow_pickle=False)
    schema = ServingSchema(
        vocabulary_checksum=model.spec.vocabulary_checksum,
        event_type_names=EVENT_TYPES,
        category_names=model.spec.category_names,
        modalities=("image", "text"),
        index=type(index).__name__,
        history_window=HISTORY_WINDOW,
        history_decay=HISTORY_DECAY,
        blend=Blend(),
        max_history=model.spec.model.max_history,
        has_towers=True,
    )
    (staging / "serving.json").write_text(canonical_json(schema.model_dump(mode="json")), encoding="utf-8")
    (staging / "acceptance.json").write_text(canonical_json({}), encoding="utf-8")
    return item_vectors


def project(staging: Path, model: TrainedModel, catalogue: Catalogue, categories: NDArray[np.bool_]) -> Floats:
    """float32 [N, D] by the exported item tower."""
    tower = OnnxItemTower(staging / ITEM_TOWER_FILE)
    ids = model.towers.ids.embeddings[TABLE].weight.detach().numpy()
    parts = []
    for start in range(0, len(ids), PROJECT_BATCH):
        rows = slice(start, start + PROJECT_BATCH)
        known = np.ones(len(ids[rows]), np.bool_)
        content = {
            "image": (catalogue.image[rows].astype(np.float32), known),
            "text": (catalogue.text[rows].astype(np.float32), known),
        }
        parts.append(tower.encode_batch(ids[rows], known, content, categories[rows]))
    return np.concatenate(parts)


def put_release(folder: Path, staging: Path, size: WorldSize) -> None:
    """Publish it in a workspace, and lay a second workspace beside it that keeps no query vectors."""
    paths = {path.name: path for path in sorted(staging.iterdir())}
    files = {name: FileEntry.of(path) for name, path in paths.items()}
    manifest = ReleaseManifest(
        release_id=release_id_of(files),
        files=files,
        spaces={"image": space_of("image", size.image_dim), "text": space_of("text", size.text_dim)},
        n_items=size.n_items,
        dim=size.dim,
        acceptance={},
    )
    workspace, cache_off = folder / "workspace", folder / "cache_off"
    store = LocalReleaseStore(workspace)
    store.put(paths, manifest)
    store.publish(manifest.release_id)
    cache_off.mkdir()
    for name in ("artifacts", "releases"):
        (cache_off / name).symlink_to(Path("..") / "workspace" / name)
    (workspace / "recsys.toml").write_text(CONFIG.format(ann_quota=ANN_QUOTA, histories_mib=HISTORIES_MIB))
    (cache_off / "recsys.toml").write_text(CONFIG.format(ann_quota=ANN_QUOTA, histories_mib=0))


def write_peers(folder: Path, staging: Path, model: TrainedModel, item_vectors: Floats, catalogue: Catalogue) -> None:
    """What the peers load: vectors, the tower in both forms, popularity."""
    folder.mkdir()
    np.save(folder / "item_vectors.npy", item_vectors)
    np.save(folder / "log_popularity.npy", np.log1p(catalogue.counts).astype(np.float32))
    (folder / QUERY_TOWER_FILE).write_bytes((staging / QUERY_TOWER_FILE).read_bytes())
    weights = {name: value.detach().contiguous() for name, value in model.towers.query.state_dict().items()}
    save_file(weights, folder / "query_tower.safetensors")
    (folder / "query_tower.json").write_text(model.spec.model.model_dump_json())


def fill_redis(
    folder: Path, catalogue: Catalogue, histories: NDArray[np.int32], event_types: NDArray[np.uint8]
) -> None:
    """The states of all users, and the peers' items, left as `dump.rdb`."""
    with PrivateRedis(folder) as server:
        store = open_store(server.url)
        store.import_histories(ours(histories, event_types))
        store.close()
        client = redis.Redis.from_url(server.url)
        pipeline = client.pipeline(transaction=False)
        for number, write in enumerate(peer_writes(catalogue, histories, event_types), start=1):
            pipeline.execute_command(*write)
            if number % REDIS_BATCH == 0:
                pipeline.execute()
        pipeline.execute()
        client.save()
        client.close()


def ours(histories: NDArray[np.int32], event_types: NDArray[np.uint8]) -> Iterator[tuple[str, list[HistoryItem]]]:
    for user, (rows, types) in enumerate(zip(histories.tolist(), event_types.tolist(), strict=True)):
        first_ms = LAST_EVENT_MS - len(rows) * BETWEEN_EVENTS_MS
        yield (
            user_id(user),
            [
                HistoryItem(item_id(row), EVENT_TYPES[kind], first_ms + at * BETWEEN_EVENTS_MS, 1 + at)
                for at, (row, kind) in enumerate(zip(rows, types, strict=True))
            ],
        )


def peer_writes(
    catalogue: Catalogue, histories: NDArray[np.int32], event_types: NDArray[np.uint8]
) -> Iterator[tuple[Any, ...]]:
    """Redis commands: a hash and a packed value for each item, JSON and a packed value for each user."""
    log_popularity = np.log1p(catalogue.counts).astype(np.float32)
    for row, item in enumerate(catalogue.items):
        fields = {
            "title": item.title,
            "price": item.price,
            "year": int(catalogue.years[row]),
            "colour": COLOURS[catalogue.colours[row]],
            "category": item.categories[0],
            "popularity": float(log_popularity[row]),
            "available": 1,
            "seller": row % 1000,
        }
        yield ("HSET", textbook_item(item.item_id), *(part for pair in fields.items() for part in pair))
        numbers = (log_popularity[row], item.price, catalogue.years[row], catalogue.colours[row])
        yield ("SET", tuned_item(row), PACKED_ITEM.pack(*map(float, numbers), 1.0, row % 1000, 0.0, 0.0))
    for user, (rows, types) in enumerate(zip(histories, event_types, strict=True)):
        entries = [
            {"item_id": item_id(row), "event_type": EVENT_TYPES[kind], "occurred_at_ms": LAST_EVENT_MS}
            for row, kind in zip(rows.tolist(), types.tolist(), strict=True)
        ]
        yield ("SET", textbook_user(user_id(user)), json.dumps(entries))
        yield ("SET", tuned_user(user_id(user)), rows.astype("<i4").tobytes() + types.tobytes())


if __name__ == "__main__":
    build(Path(sys.argv[1]), WorldSize(**json.loads(sys.argv[2])))
