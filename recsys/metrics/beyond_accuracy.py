"""What accuracy does not tell: who gets shown, how popular it is, how alike, how new.

Letters: B lists, K places (`ranking.NO_ITEM` where a list ends early), N items, D width of a vector.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.metrics.ranking import NO_ITEM

Rows = NDArray[np.int64]
Values = NDArray[np.float64]


def exposure_counts(lists: Rows, n_items: int) -> Rows:
    """How many lists show each item: int64 [N]."""
    return np.bincount(lists[lists != NO_ITEM], minlength=n_items).astype(np.int64)


def coverage(lists: Rows, n_items: int) -> float:
    """Share of the catalogue that at least one list shows: `|union of lists| / N`.

    "Aggregate diversity" of Adomavicius and Kwon, TKDE 2012, over the catalogue's size; 0 for an empty catalogue.
    """
    return float(np.count_nonzero(exposure_counts(lists, n_items))) / max(n_items, 1)


def gini(counts: Rows) -> float:
    """How unequally exposures spread over the N items: 0 = all the same, (N - 1) / N = one item gets all.

    `sum((2 i - N - 1) c_i) / (N sum(c))` over counts `c` sorted ascending, i from 1. Fleder and Hosanagar,
    Management Science 2009. 0 where nothing was shown.
    """
    ascending = np.sort(counts).astype(np.float64)
    total = ascending.sum()
    if total == 0:
        return 0.0
    places = np.arange(1, len(ascending) + 1)
    return float(((2 * places - len(ascending) - 1) * ascending).sum() / (len(ascending) * total))


def list_popularity(lists: Rows, popularity: Values) -> Values:
    """Average recommendation popularity of each list: the mean of `popularity` over its items, float64 [B].

    Yin et al., "Challenging the long tail recommendation", VLDB 2012. Popularity bias is its mean over lists; with
    `popularity` = the share of users that chose the item, 0.1 reads "the average shown item was chosen by 10 % of
    users". 0 for an empty list.

    Args:
        lists: int64 [B, K].
        popularity: float64 [N].
    """
    return _mean_over_items(lists, popularity)


def novelty(lists: Rows, popularity: Values) -> Values:
    """Mean self-information of each list in bits: `mean(-log2 p(item))`, float64 [B].

    Zhou et al., PNAS 2010; Vargas and Castells, RecSys 2011. An item that nobody chose counts as half of the rarest
    chosen one: its true self-information is unbounded.

    Args:
        lists: int64 [B, K].
        popularity: float64 [N], the share of users that chose the item.
    """
    chosen = popularity[popularity > 0]
    floor = chosen.min() / 2 if len(chosen) else 1.0
    return _mean_over_items(lists, -np.log2(np.maximum(popularity, floor)))


def intra_list_diversity(lists: Rows, vectors: NDArray[np.float32], present: NDArray[np.bool_]) -> Values:
    """Mean of `1 - cosine` over the pairs of each list: float64 [B], 0 = all alike.

    Smyth and McClave, ICCBR 2001; Ziegler et al., WWW 2005. Items without a vector are left out; a list with fewer
    than two vectors has diversity NaN (take `np.nanmean`).

    Args:
        lists: int64 [B, K].
        vectors: float32 [N, D], L2-normalised.
        present: bool [N], False where the item has no vector.
    """
    known = (lists != NO_ITEM) & present[lists]
    of_list = np.where(known[..., None], vectors[lists], 0.0).astype(np.float64)
    n_known = known.sum(axis=1)
    # |sum of unit vectors|^2 = n + 2 * (sum of cosines of all pairs)
    of_sum = np.square(of_list.sum(axis=1)).sum(axis=1)
    of_each = np.square(of_list).sum(axis=(1, 2))
    n_pairs = n_known * (n_known - 1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(n_pairs > 0, 1.0 - (of_sum - of_each) / 2 / n_pairs, np.nan)


def _mean_over_items(lists: Rows, of_item: Values) -> Values:
    shown = lists != NO_ITEM
    total = np.where(shown, of_item[lists] if len(of_item) else 0.0, 0.0).sum(axis=1)
    return np.asarray(total / np.maximum(shown.sum(axis=1), 1))
