"""The indexes over what is shown now, made when first asked for and shared by all snapshots that show the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recsys.live.newcomers import Newcomers
from recsys.ports import ItemIndex
from recsys.release import LoadedRelease


@dataclass(frozen=True)
class Searches:
    """`hidden` bool [N + M]: rows that no search answers with."""

    release: LoadedRelease
    newcomers: Newcomers
    hidden: NDArray[np.bool_]
    _by_content: dict[str, ItemIndex] = field(default_factory=dict)

    @cached_property
    def index(self) -> ItemIndex:
        """Over item vectors."""
        shown = ~self.hidden
        if not len(self.newcomers) and shown.all():
            return self.release.index
        # An item without a place would be as near to every query as one that is unlike it.
        shown[self.release.n_items :] &= self.newcomers.vectors.any(axis=1)
        return self.release.index.with_changes(self.newcomers.vectors, shown)

    def content_index(self, name: str) -> ItemIndex | None:
        """Over one kind of content; items without it are not found. None where the release has no such index."""
        index = self._by_content.get(name)
        of_release = self.release.content_indexes.get(name)
        if index is None and of_release is not None:
            present = next(each.present for each in self.release.modalities if each.name == name)
            live_vectors, live_present = self.newcomers.content[name]
            shown = ~self.hidden & np.concatenate([present, live_present])
            index = self._by_content[name] = of_release.with_changes(live_vectors, shown)
        return index
