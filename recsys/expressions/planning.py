"""From a mask to a search under it.

The rule, which each index applies at a search (`recsys.ports.ItemIndex.search_way` says what it chose):

    unfiltered      no filter, or one that lets every row pass
    exact_subset    few rows are allowed: their vectors are gathered and compared, which finds all there is. Taken where
                    that costs less than the other ways do by `recsys.index.costs`, where those would have to fetch
                    half of all rows, and always by an exact index
    selector        an index with cells leaves out the others while it sweeps, and probes as many more cells as hold
                    about as many allowed rows as an unfiltered search looks at
    overfetch       an index without cells is asked for 1 / share as many candidates, and the others are dropped

None of them answers with fewer rows than there are allowed ones (up to k): where a sweep found too few, the allowed
ones are compared exactly after all.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.ports import AllowedRows


def plan_search(mask: NDArray[np.bool_]) -> AllowedRows:
    """The rows that pass a mask bool [N], prepared once for all searches; the mask is read-only from now on."""
    mask.setflags(write=False)
    return AllowedRows(mask, len(mask))
