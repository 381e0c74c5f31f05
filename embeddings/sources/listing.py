"""What Parquet and tar files hold: each member's place, found by going over headers and id columns once."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Literal, get_args

import msgspec

from embeddings.sources.parquet_rows import DamagedParquet, ParquetLayout, parquet_layout, parquet_rows
from embeddings.sources.places import Place, Places, PlacesBuilder
from embeddings.sources.tar_members import DamagedTar, TarMember, pread_all, tar_members
from recsys.errors import ConfigError, EnvironmentProblem

Modality = Literal["image", "audio"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)
IMAGE_EXTENSIONS = frozenset(("jpg", "jpeg", "png", "webp"))
AUDIO_EXTENSIONS = frozenset(("wav", "flac", "mp3", "ogg"))
_COMPRESSED = re.compile(
    rb"(?P<gzip>\x1f\x8b\x08)|(?P<bzip2>BZh[1-9]1AY&SY)|(?P<xz>\xfd7zXZ\x00)|(?P<zstd>\x28\xb5\x2f\xfd)"
)
_MAX_JSON_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Container:
    """One file as it was when its members were listed. `layout` is None for a tar."""

    path: Path
    size: int
    mtime_ns: int
    layout: ParquetLayout | None


@dataclass(frozen=True)
class Listing:
    """All members: by their own names, and by the items whose picture or sound they are.

    Attributes:
        damaged: one sentence for each container that could not be listed to its end.
    """

    containers: tuple[Container, ...]
    by_name: Places
    by_item: dict[Modality, Places]
    damaged: tuple[str, ...]


def matching_files(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """The files that the patterns match, each once, in the order of the patterns and then of the names.

    Raises:
        ConfigError: a pattern matches nothing.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        matches = sorted(folder / name for name in glob(pattern, root_dir=folder, recursive=True))
        if not matches:
            raise ConfigError(f"image_files: {pattern!r} matches no file in {folder}; correct it under [sources]")
        found |= dict.fromkeys(matches)
    return list(found)


def list_containers(paths: Sequence[Path]) -> Listing:
    """Go over the headers or id columns of every file once.

    Raises:
        ConfigError: a file is neither a plain tar nor Parquet with ids and bytes.
    """
    lister = _Lister()
    for number, path in enumerate(paths):
        lister.add(number, path)
    by_item: dict[Modality, Places] = {modality: builder.build() for modality, builder in lister.by_item.items()}
    return Listing(tuple(lister.containers), lister.by_name.build(), by_item, tuple(lister.damaged))


class _Lister:
    def __init__(self) -> None:
        self.containers: list[Container] = []
        self.damaged: list[str] = []
        self.by_name = PlacesBuilder()
        self.by_item: dict[Modality, PlacesBuilder] = {"image": PlacesBuilder(), "audio": PlacesBuilder()}

    def add(self, number: int, path: Path) -> None:
        try:
            with path.open("rb") as stream:
                status = os.fstat(stream.fileno())
                if packed := _COMPRESSED.match(stream.read(16)):
                    message = f"{path} is compressed with {packed.lastgroup}, and members cannot be read out of order"
                    raise ConfigError(f"{message}: unpack it to a plain .tar")
                layout = parquet_layout(path) if path.suffix == ".parquet" else None
                if layout is None and path.suffix != ".tar":
                    raise ConfigError(f"{path} is neither .tar nor .parquet: correct image_files under [sources]")
                self.containers.append(Container(path, status.st_size, status.st_mtime_ns, layout))
                if layout is None:
                    self._add_tar(number, stream.fileno())
                else:
                    self._add_parquet(number, path, layout)
        except OSError as error:
            raise EnvironmentProblem(
                f"{path} cannot be read ({error.strerror}): it must be a file you may read"
            ) from None
        except (DamagedTar, DamagedParquet) as error:
            if len(self.containers) == number:  # not even its layout
                self.containers.append(Container(path, 0, 0, None))
            self.damaged.append(f"{path.name} is damaged: {error}")

    def _add_tar(self, number: int, descriptor: int) -> None:
        contents: dict[str, list[tuple[Modality, Place]]] = defaultdict(list)
        item_ids: dict[str, str] = {}
        try:
            for member in tar_members(descriptor):
                place = (number, member.offset, member.size)
                self.by_name.add(member.name, place)
                key, _, extension = member.name.rpartition(".")
                modality = _modality(extension)
                if modality:
                    contents[key].append((modality, place))
                elif extension == "json" and (item_id := _item_id(descriptor, member)):
                    item_ids[key] = item_id
        finally:  # what lies before the damage is good
            for key, places in contents.items():
                for modality, place in places:
                    self.by_item[modality].add(item_ids.get(key, key), place)

    def _add_parquet(self, number: int, path: Path, layout: ParquetLayout) -> None:
        modality: Modality = "audio" if layout.is_audio else "image"
        for row in parquet_rows(path, layout):
            place = (number, row.row_group, row.row)
            self.by_name.add(row.name, place)
            name = os.path.splitext(row.name)[0] if layout.names_are_paths else row.name
            self.by_item[modality].add(name, place)


class _Sample(msgspec.Struct):
    item_id: str | int | None = None


_sample_decoder = msgspec.json.Decoder(_Sample)


def _item_id(descriptor: int, member: TarMember) -> str | None:
    if member.size > _MAX_JSON_BYTES:
        return None
    try:
        item_id = _sample_decoder.decode(pread_all(descriptor, member.size, member.offset)).item_id
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None  # somebody else's JSON
    return None if item_id is None else str(item_id)


def _modality(extension: str) -> Modality | None:
    extension = extension.lower()
    return "image" if extension in IMAGE_EXTENSIONS else "audio" if extension in AUDIO_EXTENSIONS else None
