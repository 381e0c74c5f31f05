"""From an item's id vector and content to its vector.

Letters: B items, D width, P width of a modality, C categories.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

INIT_STD = 0.02


class ItemTower(nn.Module):
    """Sum of what is known of an item, scaled to length 1.

    Whatever is missing is replaced by a learned vector, so that an item may have any part of it: an id without
    content, content without an id, or nothing at all.
    """

    def __init__(self, dim: int, modality_dims: Mapping[str, int], n_categories: int) -> None:
        super().__init__()
        self.modality_names = tuple(modality_dims)
        self.unknown_id = nn.Parameter(torch.empty(dim))
        self.projections = nn.ModuleList(nn.Linear(width, dim, bias=False) for width in modality_dims.values())
        self.missing = nn.Parameter(torch.empty(len(modality_dims), dim))
        self.categories = nn.Linear(n_categories, dim, bias=False) if n_categories else None
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=INIT_STD)

    def forward(
        self,
        id_vector: Tensor,
        id_mask: Tensor,
        modalities: list[tuple[Tensor, Tensor]],
        categories: Tensor | None,
    ) -> Tensor:
        """Item vectors float32 [B, D] of length 1.

        Args:
            id_vector: float32 [B, D], rows of the id table.
            id_mask: bool [B], False = no id vector (a new item, or id dropout).
            modalities: for each modality float32 [B, P] and bool [B], in the order of `modality_names`.
            categories: float32 [B, C], multi-hot; None when the model has none.
        """
        x = torch.where(id_mask[:, None], id_vector, self.unknown_id)
        for at, (projection, (vectors, mask)) in enumerate(zip(self.projections, modalities, strict=True)):
            x = x + torch.where(mask[:, None], projection(vectors), self.missing[at])
        if self.categories is not None:
            x = x + self.categories(categories)
        return functional.normalize(x, dim=-1)
