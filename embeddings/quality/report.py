"""The findings as JSON values: every item id, not only those that a page has room for. No times, no paths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embeddings.quality.blank import FIGURES, blank_kind
from embeddings.quality.disagreement import Disagreement
from embeddings.quality.drift import ALPHA, Drift
from embeddings.quality.near_duplicates import Candidates, Duplicates, Member
from embeddings.quality.pictures import Looks

Json = dict[str, Any]
Rows = NDArray[np.int64]

_BINS = 60
_DIGITS = 4


class Refusal(NamedTuple):
    """A content that has no vector, and why; `reason` is a code (`embeddings.refused.Reason`)."""

    item_id: str
    reason: str
    message: str


def presence_json(
    ids: Sequence[str],
    present: Mapping[str, NDArray[np.bool_]],
    refused: Mapping[str, Sequence[Refusal]],
    not_finite: Mapping[str, Rows],
) -> Json:
    """Who has what, by kind of content. `refused` are all that the embedding job quarantined."""
    found = {}
    for name, mask in present.items():
        mine = refused.get(name, ())
        found[name] = {
            "present": int(mask.sum()),
            "share": _round(float(mask.mean()) if len(mask) else 0.0),
            "refused": len(mine),
            "absent": max(0, int((~mask).sum()) - len(mine) - len(not_finite.get(name, ()))),
            "not_finite": [ids[row] for row in not_finite.get(name, np.empty(0, np.int64)).tolist()],
            "refused_by_reason": dict(sorted(Counter(each.reason for each in mine).items())),
            "refused_items": [each._asdict() for each in mine],
        }
    nothing = ~np.any(list(present.values()), axis=0) if present else np.ones(len(ids), dtype=np.bool_)
    return {"items": len(ids), "with_nothing": int(nothing.sum()), "kinds": found}


def duplicates_json(found: Duplicates, ids: Sequence[str]) -> Json:
    candidates = found.candidates
    first = candidates.neighbours.similarities[:, :1].ravel()
    return {
        "items": candidates.n_items,
        "contents": len(candidates.firsts),
        "threshold": _round(candidates.chance.similarity),
        "calibrated": candidates.chance.calibrated,
        "dimension": _round(candidates.chance.dimension, 1),
        "pairs_nearer_than_chance": len(candidates.pairs),
        "pairs_unlike": found.n_pairs_unlike,
        "pairs_unchecked": found.n_pairs_unchecked,
        "same_groups": found.n_same_groups,
        "near_groups": len(found.groups) - found.n_same_groups,
        "items_in_groups": sum(len(group) for group in found.groups),
        "groups": [_group_json(group, ids) for group in found.groups],
        "nearest_similarities": histogram(first, float(np.floor(first.min(initial=1.0) * 10) / 10), 1.0),
    }


def _group_json(group: Sequence[Member], ids: Sequence[str]) -> Json:
    return {
        "kind": "same" if all(member.same for member in group) else "near",
        "checked": all(member.checked for member in group),
        "items": [
            {"item_id": ids[member.row], "similarity": _round(member.similarity), "same": member.same}
            for member in group
        ],
    }


def blank_json(looks: Looks, candidates: Candidates, ids: Sequence[str]) -> Json:
    """What was looked at, and the blank pictures with all items that have the same one."""
    images = []
    for row, figures in zip(looks.rows.tolist(), looks.figures, strict=True):
        kind = blank_kind(figures)
        if kind is not None:
            measured = {name: _round(float(value)) for name, value in zip(FIGURES, figures, strict=True)}
            images += [{"item_id": ids[each], "kind": kind, **measured} for each in candidates.copies.get(row, [row])]
    return {
        "pictures": len(candidates.firsts),
        "looked_at": len(looks.rows),
        "sampled": len(looks.rows) + len(looks.refused) < len(candidates.firsts),
        "unreadable": [{"item_id": ids[row], "reason": why.reason, "message": str(why)} for row, why in looks.refused],
        "by_kind": dict(sorted(Counter(str(each["kind"]) for each in images).items())),
        "images": images,
    }


def disagreement_json(found: Disagreement, rows: Rows, ids: Sequence[str]) -> Json:
    """`rows` int64 [R] are the item rows that `found` judged."""
    told: Json = {
        "items": len(rows),
        "method": found.method,
        "why_not": found.why,
        "power": _round(found.power),
        "own_wins": _round(found.own_wins),
        "explained": None if found.explained is None else _round(found.explained),
        "outliers": found.n_outliers,
        "lowest": [],
    }
    if found.scores is None or found.wrong is None or found.z is None or found.order is None:
        return told
    n_listed = max(found.n_lowest, found.n_outliers)
    low = float(min(found.scores.min(), found.wrong.min()))
    high = float(max(found.scores.max(), found.wrong.max()))
    return told | {
        "cut": _round(float(found.scores[found.order[found.n_lowest - 1]])),
        "lowest": [
            {"item_id": ids[int(rows[at])], "score": _round(float(found.scores[at])), "z": _round(float(found.z[at]))}
            for at in found.order[:n_listed].tolist()
        ],
        "own_scores": histogram(found.scores, low, high),
        "wrong_scores": histogram(found.wrong, low, high),
    }


def drift_json(found: Drift, new_ids: Sequence[str]) -> Json:
    """`new_ids` are the ids of the new items, in the order in which `found` saw them."""
    told: Json = {
        "new": found.n_new,
        "released": found.n_released,
        "alarms": list(found.alarms),
        "missing": {
            "new": _round(found.missing_new),
            "released": _round(found.missing_released),
            "p": _round(found.missing_p, 6),
        },
    }
    if found.shift is None or found.energy is None or found.far is None:
        return told
    far = found.far
    low = float(np.floor(min(far.new.min(), far.released.min()) * 10) / 10)
    return told | {
        "mean_shift": {"size": _round(found.shift.size), "by_chance": _round(found.shift.by_chance)},
        "energy": {"coefficient": _round(found.energy.coefficient, 5), "p": _round(found.energy.p, 6)},
        "far": {
            "limit": _round(far.limit),
            "new": _round(far.new_share),
            "released": _round(far.released_share),
            "p": _round(far.p, 6),
        },
        "farthest": [
            {"item_id": new_ids[row], "similarity": _round(similarity)}
            for row, similarity in zip(far.farthest.tolist(), far.farthest_similarities.tolist(), strict=True)
        ],
        "nearest_released": {
            "new": histogram(far.new, low, 1.0),
            "released": histogram(far.released, low, 1.0),
        },
    }


def drift_alarms(drift: Json) -> list[str]:
    """The alarms of `{"kinds": {name: drift_json}}` in words."""
    says = {
        "missing": "more of the new items have none",
        "energy": "the new items are distributed differently",
        "far": "more of the new items than usual are unlike anything released",
    }
    kinds = drift.get("kinds", {})
    return [f"{name}: {says[alarm]} (p < {ALPHA / 3:.4f})" for name in kinds for alarm in kinds[name]["alarms"]]


_NARROWEST = 0.01
"""Of a histogram: all of a catalogue's similarities may be the same, or there may be none."""


def histogram(values: NDArray[np.float32], low: float, high: float) -> Json:
    """Counts in equal bins from `low` to `high`; what lies outside counts in the outermost."""
    high = max(high, low + _NARROWEST)
    counts, _ = np.histogram(np.clip(values, low, high), bins=_BINS, range=(low, high))
    return {"low": _round(low), "high": _round(high), "counts": counts.tolist()}


def _round(value: float, digits: int = _DIGITS) -> float:
    return round(float(value), digits) + 0.0
