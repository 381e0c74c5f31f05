"""THE BATCH: from the files in data/ to a published release. `refresh_catalog` is the whole flow.

    read → validate → embed → (tag) → write_shards → project (item tower) → build_index → verify → publish

It can be killed anywhere: each step leaves its output complete or not at all and is skipped when it is there, and
only the last line changes what users see.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.markup import escape

from jobs.artifacts import Content, Dataset, Model, load_model
from jobs.bootstrap import ADAPTERS, item_tower_of, ranker_of, releases_of
from jobs.embed import embed_dataset, encoders_key
from jobs.objects_of import write_objects
from jobs.progress import console, progress_bar
from jobs.tag import tag_dataset
from jobs.tag_heads import heads_to_run
from jobs.tag_runs import heads_that_ran
from jobs.tagged_items import details_by_row, require_covered
from jobs.tags_of import tagged
from jobs.validate import validate_data
from jobs.verify import Acceptance, gate_problems, verify
from recsys.catalog import ITEM_FIELDS, category_columns, category_matrix
from recsys.errors import ArtifactError, GateFailed, MissingArtifact, SpaceMismatch
from recsys.evaluation import make_split
from recsys.events import hash64
from recsys.features.blend import Blend
from recsys.features.diversity import diversity_of
from recsys.features.rank_features import require_known_features
from recsys.features.transitions import fit_transitions
from recsys.index.files import write_index
from recsys.index.planner import build_index
from recsys.live import view_of
from recsys.manifest import FileEntry, ReleaseManifest, canonical_json, release_id_of
from recsys.ports import Ranker
from recsys.release import ServingSchema
from recsys.release_loading import ENCODER_FOLDER, load_release
from recsys.storage.artifact_files import latest, read_artifact
from recsys.storage.atomic import locked_folder
from recsys.tag_details import write_tag_details
from recsys.tags import TAG_COLUMNS
from recsys.workspace import Workspace

Floats = NDArray[np.float32]
PROJECT_BATCH = 1024
OnContent = Callable[[Dataset, Content], None]


@dataclass(frozen=True)
class BuiltRelease:
    """A release that was put into the store, and whether it may be published.

    Attributes:
        instead_of: the release that was current when it was compared; "" where there was none.
    """

    release_id: str
    acceptance: Acceptance
    problems: tuple[str, ...]
    is_published: bool
    instead_of: str | None = None


def refresh_catalog(
    workspace: Workspace, *, now: datetime, publish: bool, on_content: OnContent = lambda dataset, content: None
) -> BuiltRelease:
    """Build a release of the data as it is now, with the model that was trained last.

    `on_content` is called when the content is embedded: the nightly run trains there when a new model is due.

    Raises:
        GateFailed: `publish` was asked for and the release is not good enough; the current one stays.
        MissingArtifact: a tag is blocked that no head covers.
    """
    dataset = validate_data(workspace, now=now)
    content = embed_dataset(workspace, dataset).content
    dataset = tag(workspace, dataset, now=now)
    on_content(dataset, content)
    model = model_for(workspace, content)
    with fresh_folder(workspace) as staging:
        item_vectors = project(dataset, content, model, staging)
        write_parts(workspace, dataset, content, model, item_vectors, staging)
        acceptance = verify_staged(workspace, dataset, content, staging)
        built = put_release(workspace, dataset, content, item_vectors, acceptance, staging)
    return publish_release(workspace, built) if publish else built


def tag(workspace: Workspace, dataset: Dataset, *, now: datetime) -> Dataset:
    """The items with what models and people say of them. The heads that `recsys tag` ran look at what is new: a picture
    that was replaced under its name keeps no verdict of the one before. What one said that was switched off
    since stays, and items that it has not met are unsure.

    Raises:
        MissingArtifact: a tag is blocked that no head covers, so that nobody knows which items have it.
    """
    set_up, ran = heads_to_run(workspace, dataset), heads_that_ran(workspace)
    tag_dataset(workspace, dataset, [name for name in ran if name in set_up], now=now)
    if off := ", ".join(name for name in ran if name not in set_up):
        console.print(f"  [yellow]switched off: {off}[/]; what was said stays, and nothing is said of what is new")
    dataset = tagged(workspace, dataset)
    require_covered(workspace.config, dataset.tagging)
    return dataset


def model_for(workspace: Workspace, content: Content) -> Model | None:
    """The model trained last; None before the first training: such a release serves by content and popularity.

    Raises:
        SpaceMismatch: it was trained on vectors of other encoders.
    """
    try:
        model = load_model(workspace)
    except MissingArtifact:
        console.print("  no model yet: this release will serve popular and similar items (`recsys train` makes one)")
        return None
    mine = {name: space.space_id for name, space in content.spaces.items()}
    if dict(model.space_ids) != mine:
        raise SpaceMismatch("the model was trained on vectors of other encoders: run `recsys train` again")
    return model


@contextmanager
def fresh_folder(workspace: Workspace) -> Iterator[Path]:
    """An empty folder for the release's files, gone at the end; what a killed run left in it is thrown away.

    Builds of one workspace take turns, across processes.
    """
    turn = workspace.root / "artifacts" / "staging"
    turn.mkdir(parents=True, exist_ok=True)
    with locked_folder(turn):
        staging = turn / "release"
        shutil.rmtree(staging, ignore_errors=True)
        (staging / ENCODER_FOLDER).mkdir(parents=True)
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def project(dataset: Dataset, content: Content, model: Model | None, staging: Path) -> Floats:
    """Item vectors float32 [N, D] by the item tower; an item that the model never saw is carried by its content."""
    n_items = len(dataset.vocabulary)
    if model is None:
        return np.zeros((n_items, 1), np.float32)
    for tower in ("query_tower.onnx", "item_tower.onnx"):
        shutil.copyfile(model.path / tower, staging / tower)
    tower_of_items = item_tower_of(staging / "item_tower.onnx")
    id_vectors, id_mask = _id_inputs(dataset, model)
    _save(staging, "id_vectors", id_vectors)
    _save(staging, "id_present", id_mask)
    modalities = {name: content.modality(name) for name in content.spaces}
    categories = category_columns(dataset.items, model.category_names)
    parts = [np.empty((0, tower_of_items.dim), np.float32)]
    with progress_bar("project items") as bar:
        for start in range(0, n_items, PROJECT_BATCH):
            rows = slice(start, min(start + PROJECT_BATCH, n_items))
            known = {name: (each.vectors[rows], each.present[rows]) for name, each in modalities.items()}
            parts.append(tower_of_items.encode_batch(id_vectors[rows], id_mask[rows], known, categories[rows]))
            bar(rows.stop, n_items)
    return np.concatenate(parts)


def _id_inputs(dataset: Dataset, model: Model) -> tuple[Floats, NDArray[np.bool_]]:
    """The model's id vectors in the rows of this dataset float32 [N, d], and bool [N] where it has one."""
    row_in_model = {item_id: row for row, item_id in enumerate(model.item_ids)}
    rows = np.array([row_in_model.get(item_id, -1) for item_id in dataset.vocabulary.item_ids], dtype=np.int64)
    trained = (rows >= 0) & model.id_present[np.maximum(rows, 0)] if len(model.item_ids) else rows >= 0
    vectors = np.zeros((len(rows), model.id_vectors.shape[1]), np.float32)
    vectors[trained] = model.id_vectors[rows[trained]]
    return vectors, trained


def write_parts(
    workspace: Workspace,
    dataset: Dataset,
    content: Content,
    model: Model | None,
    item_vectors: Floats,
    staging: Path,
) -> None:
    """Every file of the release but its acceptance (`recsys.release_loading` says what they are)."""
    history = make_split(dataset.sequences, workspace.config.evaluation).history
    n_items = len(dataset.vocabulary)
    neighbours = fit_transitions(history, n_items)
    with progress_bar("build the index") as bar:
        index = build_index(item_vectors, workspace.config.index, on_progress=bar)
    _write_items(dataset, staging)
    write_index(index, staging / "index.faiss")
    _save(staging, "item_vectors", item_vectors)
    _save(staging, "item_counts", history.item_counts(n_items))
    _save(staging, "neighbours_rows", neighbours.rows)
    _save(staging, "neighbours_weights", neighbours.weights)
    modalities = tuple(content.modality(name) for name in sorted(content.spaces))
    for modality in modalities:
        vectors = np.ascontiguousarray(modality.vectors, dtype=np.float32)
        _save(staging, f"content_{modality.name}", vectors)
        _save(staging, f"content_{modality.name}_present", modality.present)
        write_index(build_index(vectors, workspace.config.index), staging / f"content_{modality.name}.faiss")
    diversity = diversity_of(modalities, n_items)
    _save(staging, "diversity", diversity.vectors)
    _save(staging, "diversity_projection", diversity.projection)
    _write_profiles(dataset, content, staging)
    _copy_encoders(workspace, content, staging)
    ranker = _copy_ranker(workspace, staging)
    schema = ServingSchema(
        vocabulary_checksum=dataset.vocabulary.checksum,
        event_type_names=model.event_type_names if model else dataset.sequences.event_type_names,
        category_names=model.category_names if model else category_matrix(dataset.items)[0],
        modalities=tuple(sorted(content.spaces)),
        index=type(index).__name__,
        history_window=neighbours.history_window,
        history_decay=neighbours.history_decay,
        blend=model.blend if model else Blend(similarity_weight=0.0),
        max_history=model.max_history if model else 0,
        has_towers=model is not None,
        text_template=workspace.config.encoders.text_template,
        ranker_features=ranker.feature_names if ranker else (),
        ranker_outputs=ranker.output_names if ranker else (),
        objects_space=write_objects(workspace, dataset.items, staging),
        tag_heads=dict(dataset.tagging.heads) if dataset.tagging else {},
        tag_reads=dict(dataset.tagging.reads) if dataset.tagging else {},
    )
    (staging / "serving.json").write_text(canonical_json(schema.model_dump(mode="json")), encoding="utf-8")


def _write_items(dataset: Dataset, staging: Path) -> None:
    """The catalogue, and where it is tagged who says so."""
    names = [*ITEM_FIELDS, *(TAG_COLUMNS if dataset.tagging else ())]
    items = dataset.items.select(names).replace_schema_metadata(None)
    pq.write_table(items, staging / "items.parquet", compression="zstd")
    if dataset.tagging:
        details = details_by_row(items, dataset.tagging.tags.details)
        write_tag_details(details.replace_schema_metadata(None), staging / "tags.parquet")


def _save(staging: Path, name: str, array: NDArray[Any]) -> None:
    np.save(staging / f"{name}.npy", array, allow_pickle=False)


def _write_profiles(dataset: Dataset, content: Content, staging: Path) -> None:
    """Users who told something about themselves, by sorted hash."""
    users = content.user_content(dataset)
    hashes, vectors = np.empty(0, np.uint64), np.empty((0, 0), np.float32)
    if users is not None and users.text.present.any():
        known = np.flatnonzero(users.text.present)
        all_hashes = np.array([hash64(users.user_ids[row]) for row in known], dtype=np.uint64)
        order = np.argsort(all_hashes, kind="stable")
        hashes, vectors = all_hashes[order], users.text.vectors[known[order]]
    _save(staging, "profile_hashes", hashes)
    _save(staging, "profiles", vectors)


def _copy_encoders(workspace: Workspace, content: Content, staging: Path) -> None:
    folder, manifest = read_artifact(workspace.root, "encoders", encoders_key(content.spaces))
    for name in manifest.files:
        shutil.copyfile(folder / name, staging / ENCODER_FOLDER / name)


def _copy_ranker(workspace: Workspace, staging: Path) -> Ranker | None:
    """The ranker that was trained last; None where there is none yet and the blend ranks."""
    try:
        key = latest(workspace.root, "ranker")
    except MissingArtifact:
        return None
    folder, _ = read_artifact(workspace.root, "ranker", key)
    ranker = ranker_of(Path(shutil.copyfile(folder / "ranker.onnx", staging / "ranker.onnx")))
    require_known_features(ranker.feature_names)
    return ranker


def verify_staged(workspace: Workspace, dataset: Dataset, content: Content, staging: Path) -> Acceptance:
    """Load the release as the service would, and measure what it serves."""
    manifest = _manifest(
        dataset, content, staging, n_dim=int(np.load(staging / "item_vectors.npy", mmap_mode="r").shape[1])
    )
    release = load_release(_Staged(staging, manifest), manifest.release_id, ADAPTERS)
    with progress_bar("verify: serve test users", "slates") as bar:
        return verify(view_of(release), dataset.sequences, workspace.config, on_progress=bar)


def put_release(
    workspace: Workspace,
    dataset: Dataset,
    content: Content,
    item_vectors: Floats,
    acceptance: Acceptance,
    staging: Path,
) -> BuiltRelease:
    """Copy the files into the release store, content-addressed; the release is there, and not current yet."""
    (staging / "acceptance.json").write_text(canonical_json(acceptance.as_json()), encoding="utf-8")
    manifest = _manifest(dataset, content, staging, n_dim=item_vectors.shape[1], acceptance=acceptance.as_json())
    releases_of(workspace).put(_files(staging), manifest)
    current, figures = current_acceptance(workspace, manifest.release_id)
    problems = gate_problems(acceptance.as_json(), figures, workspace.config.gate)
    return BuiltRelease(manifest.release_id, acceptance, problems, is_published=False, instead_of=current)


def publish_release(workspace: Workspace, built: BuiltRelease) -> BuiltRelease:
    """Move the pointer.

    Raises:
        GateFailed: the release is not good enough.
        PublishedMeanwhile: it was compared with a release that is not current any more.
    """
    if built.problems:
        raise GateFailed(f"release {built.release_id[:12]} is not published: " + "; ".join(built.problems))
    releases_of(workspace).publish(built.release_id, expected=built.instead_of)
    return replace(built, is_published=True)


def current_acceptance(workspace: Workspace, release_id: str) -> tuple[str, Mapping[str, Any] | None]:
    """The release that `release_id` would replace ("" = none), and its figures; None when there is none, or it can no
    longer be read: a damaged release must not keep a good one out."""
    store = releases_of(workspace)
    current = ""
    try:
        current = store.current() or ""
        return current, None if current in ("", release_id) else store.manifest(current).acceptance
    except ArtifactError as error:
        console.print(
            f"  [yellow]the current release cannot be read, and is not compared with:[/] {escape(str(error))}"
        )
        return current, None


def _files(staging: Path) -> dict[str, Path]:
    return {path.relative_to(staging).as_posix(): path for path in sorted(staging.rglob("*")) if path.is_file()}


def _manifest(
    dataset: Dataset, content: Content, staging: Path, *, n_dim: int, acceptance: Mapping[str, Any] | None = None
) -> ReleaseManifest:
    files = {name: FileEntry.of(path) for name, path in _files(staging).items()}
    return ReleaseManifest(
        release_id=release_id_of(files),
        files=files,
        spaces=dict(content.spaces),
        n_items=len(dataset.vocabulary),
        dim=n_dim,
        acceptance=dict(acceptance or {}),
    )


class _Staged:
    """The files of a release that is not in the store yet, as `load_release` reads them."""

    def __init__(self, folder: Path, manifest: ReleaseManifest) -> None:
        self._folder = folder
        self._manifest = manifest

    def manifest(self, release_id: str) -> ReleaseManifest:
        return self._manifest

    def open(self, manifest: ReleaseManifest, name: str, *, verify: bool = True) -> Path:
        return self._folder / name
