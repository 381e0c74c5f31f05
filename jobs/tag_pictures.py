"""Items as pages about tags show them: small pictures, and the beginnings of sounds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from embeddings.isolation.pool import DecodePool
from embeddings.preprocess.shown import ShownPictureConfig, ShownSoundConfig
from embeddings.refused import Refused
from embeddings.sources.reader import CatalogueReader
from jobs.artifacts import Dataset
from jobs.embed_streams import decode_workers, reader_of
from recsys.config import Config
from recsys.manifest import canonical_json
from recsys.workspace import Workspace

_READERS, _CHUNK = 8, 64
MAX_SOUND_BYTES = 200_000


@dataclass(frozen=True)
class Shown:
    """What can be seen and heard of some items: item_id → JPEG, → Ogg Vorbis."""

    pictures: Mapping[str, bytes]
    sounds: Mapping[str, bytes]


def shown_items(
    workspace: Workspace, dataset: Dataset, item_ids: Iterable[str], *, longest_edge: int = 256, most_sounds: int = 60
) -> Shown:
    """Of items of the dataset; not what cannot be read, and no more than so many sounds."""
    rows, _ = dataset.vocabulary.rows(dict.fromkeys(item_ids))
    items = dataset.items.select(["item_id", "image", "audio"]).take(rows).to_pylist()
    reader = reader_of(workspace)
    try:
        with ThreadPoolExecutor(_READERS) as readers:
            picture = ShownPictureConfig(longest_edge=longest_edge)
            pictures = _made(workspace, reader, readers, _named(items, "image", reader), picture)
            heard = _named(items, "audio", reader)[:most_sounds]
            sounds = _made(workspace, reader, readers, heard, ShownSoundConfig())
    finally:
        reader.close()
    return Shown(pictures, {item_id: each for item_id, each in sounds.items() if len(each) <= MAX_SOUND_BYTES})


def _named(
    items: Sequence[Mapping[str, str | None]], column: Literal["image", "audio"], reader: CatalogueReader
) -> list[tuple[str, str]]:
    """(item_id, reference) of those that have one."""
    references = ((str(each["item_id"]), each[column]) for each in items)
    named = ((item_id, reader.reference_for(item_id, name, column)) for item_id, name in references)
    return [(item_id, reference) for item_id, reference in named if reference is not None]


def _made(
    workspace: Workspace,
    reader: CatalogueReader,
    readers: ThreadPoolExecutor,
    named: Sequence[tuple[str, str]],
    config: Config,
) -> dict[str, bytes]:
    if not named:
        return {}
    preprocessing = canonical_json(config.model_dump(mode="json"))
    with DecodePool(preprocessing, workers=max(1, decode_workers(workspace))) as pool:
        made = pool.map(_contents(reader, readers, [reference for _, reference in named]))
        return {named[at][0]: found.tobytes() for at, found in made if not isinstance(found, Refused)}


def _contents(
    reader: CatalogueReader, readers: ThreadPoolExecutor, references: Sequence[str]
) -> Iterator[tuple[int, bytes]]:
    """Those that can be read, some at a time, so that few are held at once."""
    for start in range(0, len(references), _CHUNK):
        part = references[start : start + _CHUNK]
        for at, content in enumerate(readers.map(lambda each: _read(reader, each), part), start=start):
            if content is not None:
                yield at, content


def _read(reader: CatalogueReader, reference: str) -> bytes | None:
    try:
        return reader.read(reference)
    except Refused:
        return None
