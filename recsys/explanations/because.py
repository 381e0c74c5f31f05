"""What of the history led to an item: what the item's value would lose if one of the history's items were not there.

Letters: H items of the history looked at, B = 1 + H circumstances (first nothing is left out), C candidates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ArtifactError
from recsys.explanations.values import ValueOf
from recsys.history import History
from recsys.live import CatalogView
from recsys.ports import RankFeatures
from recsys.ranking import affinity_of

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]
LOOKED_BACK = 20  # latest interactions whose items may be named
MAX_NAMED = 3
LEAST_LOSS = 1e-6  # of value; less is rounding


def because(
    rows: Rows,
    history: History,
    profile: Floats | None,
    features: RankFeatures,
    value_of: ValueOf,
    catalog: CatalogView,
    *,
    has_query: bool,
) -> list[tuple[str, ...]]:
    """For each candidate row at most `MAX_NAMED` ids of the history, the one that it would lose most without first.

    An item is left out with all its interactions, and the others move up. One call of the query tower, none where
    `has_query` is False: then no similarity was in the value.

    Raises:
        ArtifactError: the query tower or the ranker failed, or gave what is no number.
    """
    left_out = _latest_items(history)
    if not len(left_out) or not len(rows):
        return [()] * len(rows)
    kept = [np.ones(len(history), dtype=np.bool_), *(history.rows != row for row in left_out)]
    transition = np.tile(features.transition, (len(kept), 1))
    voting = set(history.rows[-catalog.release.neighbours.history_window :].tolist())
    for at, row in enumerate(left_out.tolist(), start=1):
        if row in voting:
            transition[at] = catalog.release.neighbours.score(history.rows[kept[at]], rows)
    affinity = features.tag_affinity
    if affinity is not None:
        without = [affinity_of(history.rows[some], rows, catalog) for some in kept[1:]]
        affinity = np.stack([affinity, *without])
    similarity = np.tile(features.similarity, (len(kept), 1))
    if has_query:
        similarity = _similarity(rows, history, kept, profile, catalog)
    values = value_of(
        RankFeatures(
            similarity,
            transition,
            np.tile(features.log_popularity, (len(kept), 1)),
            None if features.is_new is None else np.tile(features.is_new, (len(kept), 1)),
            affinity,
        )
    )
    losses = values[0] - values[1:]  # H x C
    order = np.argsort(-losses, axis=0, kind="stable")[:MAX_NAMED]
    ids = [catalog.item_id(row) for row in left_out.tolist()]
    return [tuple(ids[one] for one in order[:, at].tolist() if losses[one, at] > LEAST_LOSS) for at in range(len(rows))]


def _latest_items(history: History) -> Rows:
    """int64 [H], the distinct items of the latest interactions, the latest first."""
    latest = history.rows[-LOOKED_BACK:][::-1].tolist()
    return np.array(list(dict.fromkeys(latest)), dtype=np.int64)


def _similarity(
    rows: Rows, history: History, kept: list[NDArray[np.bool_]], profile: Floats | None, catalog: CatalogView
) -> Floats:
    """float32 [B, C], the similarity to the query of what is kept of the history, bool [T] each."""
    release = catalog.release
    if release.query_encoder is None:
        raise ArtifactError("this release has no query tower; run `recsys train` and `recsys release build`")
    pasts = [np.flatnonzero(each)[max(int(each.sum()) - release.schema.max_history, 0) :] for each in kept]
    lengths = np.array([len(past) for past in pasts], dtype=np.int64)
    places = np.zeros((len(pasts), int(lengths.max())), dtype=np.int64)
    for at, past in enumerate(pasts):
        places[at, : len(past)] = past
    queries = release.query_encoder.encode_many(
        catalog.vectors(history.rows)[places], history.event_types[places], lengths, profile
    )
    if not np.isfinite(queries).all():
        raise ArtifactError("the query tower gave what is no number; run `recsys train` again")
    return np.asarray(queries @ catalog.vectors(rows).T, dtype=np.float32)
