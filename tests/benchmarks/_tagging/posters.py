"""Few-shot heads on posters and plots → genres: one kind of vector, both, and what their confidences are worth.

800 labelled movies, 18 genres of which a movie may have several, 5 folds; the other 3,000 movies judge the thresholds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from embeddings.tagging.figures import Judged, Measure, difference, estimate
from embeddings.tagging.folds import out_of_fold, stratified_folds
from embeddings.tagging.held_out import Evidence, choose_method, cross_fitted_confidences
from embeddings.tagging.labels import Labels
from embeddings.tagging.pseudo import evidence_of
from embeddings.tagging.reliability import reliability
from embeddings.tagging.thresholds import wilson
from embeddings.tagging.trained import train_on
from embeddings.tagging.training import Floats, Rows, TrainingSet
from recsys.quarantine import QUARANTINE_SCHEMA
from recsys.tagging_config import TaggingConfig, TagTrainingConfig
from tests.benchmarks._tagging.poster_vectors import Movies, movies

N_LABELLED, N_FOLDS, SEED = 800, 5, 0
TARGET_PRECISION = 0.7
"""Of a few-shot head: .9 is reached by one genre in twenty."""

KINDS = {"posters alone": ("image",), "plots alone": ("text",), "both": ("image", "text")}
Figure = dict[str, Any]


def figures(data: Path) -> list[Figure]:
    """Every figure of this part; empty where the movies are not at hand."""
    if not (data / "ml1m" / "items.jsonl").is_file():
        return []
    every = movies(data)
    order = np.random.default_rng(SEED).permutation(len(every.item_ids))
    has_both = every.vectors["image"][1][order] & every.vectors["text"][1][order]
    labelled, fresh = np.split(order[has_both], [N_LABELLED])
    return [*_together(every, labelled), *_calibration(every, labelled), *_thresholds(every, labelled, fresh)]


def _together(every: Movies, labelled: Rows) -> list[Figure]:
    """Both kinds of vectors against the better one, out of fold, on the same movies."""
    told = {what: _judged(every, labelled, kinds, TagTrainingConfig()) for what, kinds in KINDS.items()}
    found = []
    measures: tuple[tuple[Measure, str], ...] = (("macro_ap", "mean AP"), ("micro_ap", "micro AP"))
    for measure, name in measures:
        for what, judged in told.items():
            each = estimate(judged, measure, seed=SEED)
            found.append(_figure(f"posters: {name}, {what}", each.value, each.low, each.high))
        alone = max(list(KINDS)[:2], key=lambda what: estimate(told[what], measure, seed=SEED, n_bootstrap=0).value)
        gain = difference(told["both"], told[alone], measure, seed=SEED)
        note = f"paired; {N_LABELLED} labelled movies, {N_FOLDS} folds; the value is to reach it, whatever its interval"
        found.append(_figure(f"posters: {name}, both less {alone}", gain.value, gain.low, gain.high, 0.0, note=note))
    return found


def _calibration(every: Movies, labelled: Rows) -> list[Figure]:
    """Calibration error of plain and of cross-fitted confidences; class weights make the plain ones far too high."""
    found = []
    for weighted in (True, False):
        evidence = _evidence(every, labelled, KINDS["both"], TagTrainingConfig(class_weights=weighted))
        method, _ = choose_method(evidence, "auto")
        y, known = evidence.y, evidence.known
        before = reliability(evidence.confidences(evidence.calibrated_by("none"))[known], y[known])
        after = reliability(cross_fitted_confidences(evidence, method)[known], y[known])
        how = "with class weights" if weighted else "without class weights"
        note = f"{method}; equal mass {before.ece_equal_mass:.4f} and {after.ece_equal_mass:.4f}"
        found.append(_figure(f"posters: calibration error before, {how}", before.ece))
        bar = before.ece / 2 if weighted else None
        found.append(_figure(f"posters: calibration error after, {how}", after.ece, bar=bar, at_least=False, note=note))
    return found


def _thresholds(every: Movies, labelled: Rows, fresh: Rows) -> list[Figure]:
    """The whole of `recsys tag train`, and its yes's among movies that nobody labelled."""
    names = tuple(every.item_ids[row] for row in labelled)
    y = every.genres[labelled]
    labels = Labels(names, y, np.ones(y.shape, np.bool_), every.genre_names, QUARANTINE_SCHEMA.empty_table())
    config = TaggingConfig(training=TagTrainingConfig(target_precision=TARGET_PRECISION))
    trained = train_on(every.vectors, every.spaces, every.item_ids, labels, None, config, head="fusion")
    confidence = trained.head.confidences(
        {name: (x[fresh], there[fresh]) for name, (x, there) in every.vectors.items()}
    )
    chosen = trained.evaluation["thresholds"]
    tags = [tag for tag in trained.head.spec.tags if chosen[tag]["origin"] == "held_out"]
    right = n = 0
    for tag in tags:
        given = confidence[:, trained.head.spec.tags.index(tag)] >= np.float32(trained.head.spec.thresholds[tag].yes)
        right += int(every.genres[fresh][given, every.genre_names.index(tag)].sum())
        n += int(given.sum())
    low, high = wilson(right, max(n, 1))
    note = f"{n} of {len(fresh)} fresh movies' genres, {len(tags)} genres whose threshold reaches {TARGET_PRECISION}"
    share = right / max(n, 1)
    held_out = trained.evaluation["verdicts"]["yes"]
    return [
        _figure("posters: precision of the yes's on fresh movies", share, low, high, note=note),
        _figure(
            "posters: upper end of its interval",
            high if n else 0.0,
            bar=TARGET_PRECISION,
            note="the target lies within, or below",
        ),
        _figure("posters: precision of the yes's, out of fold", held_out["value"], held_out["low"], held_out["high"]),
    ]


def _judged(every: Movies, labelled: Rows, kinds: tuple[str, ...], config: TagTrainingConfig) -> Judged:
    evidence = _evidence(every, labelled, kinds, config)
    return Judged(evidence.logits, evidence.logits > 0, evidence.y, evidence.known, exclusive=False)


def _evidence(every: Movies, labelled: Rows, kinds: tuple[str, ...], config: TagTrainingConfig) -> Evidence:
    y: Floats = every.genres[labelled]
    known = np.ones(y.shape, np.bool_)
    vectors = {kind: (every.vectors[kind][0][labelled], every.vectors[kind][1][labelled]) for kind in kinds}
    data = TrainingSet(vectors, y, known, exclusive=False)
    folds = stratified_folds(y, known, N_FOLDS, seed=SEED)
    return evidence_of(data, out_of_fold(data, every.spaces, every.genre_names, config, folds), every.genre_names)


def _figure(
    what: str,
    value: float | None,
    low: float | None = None,
    high: float | None = None,
    bar: float | None = None,
    *,
    at_least: bool = True,
    note: str = "",
) -> Figure:
    return {"what": what, "value": value, "low": low, "high": high, "bar": bar, "at_least": at_least, "note": note}
