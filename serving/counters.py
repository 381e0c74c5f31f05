"""Numbers that are cheap to count and exact to read: plain Python numbers, made into Prometheus' metrics at a scrape.

A family's children are found by one dictionary look-up; a count costs a fraction of a microsecond. Whoever counts holds
the lock of `Counters`, so that no count is lost between threads and no scrape sees half of one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from threading import Lock
from typing import Literal

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

Labels = tuple[str, ...]
Merge = Literal["sum", "max", "mean"]


@dataclass(frozen=True)
class Family:
    """What is counted under one name.

    Attributes:
        buckets: upper bounds; a histogram where there are any.
        merge: how the gauges of several workers become one; None: it is a counter or a histogram, whose numbers add up.
        most: children; further ones are counted as "other", so that no caller can make labels without end.
    """

    name: str
    says: str
    labels: Labels = ()
    buckets: tuple[float, ...] = ()
    merge: Merge | None = None
    most: int = 200


class Counts:
    """One number a child: a counter or a gauge."""

    def __init__(self, family: Family) -> None:
        self.family = family
        # A counter without labels is there from the start, so that its first increase shows.
        self.values: dict[Labels, float] = {} if family.labels or family.merge else {(): 0}

    def add(self, labels: Labels, n: float = 1) -> None:
        """The caller holds the lock."""
        values = self.values
        if labels in values:
            values[labels] += n
        else:
            labels = _within(labels, values, self.family.most)
            values[labels] = values.get(labels, 0) + n

    def set(self, labels: Labels, value: float) -> None:
        """The caller holds the lock."""
        self.values[_within(labels, self.values, self.family.most)] = value


class Observed:
    """A child of a histogram: how many fell into each bucket (the last has no bound), and their sum."""

    __slots__ = ("bounds", "buckets", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """The caller holds the lock."""
        self.buckets[bisect_left(self.bounds, value)] += 1
        self.total += value


class Histograms:
    """The children of one histogram."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.values: dict[Labels, Observed] = {}

    def of(self, labels: Labels) -> Observed:
        """The child, to be kept by who observes often. The caller holds the lock."""
        found = self.values.get(labels)
        if found is None:
            labels = _within(labels, self.values, self.family.most)
            found = self.values.setdefault(labels, Observed(self.family.buckets))
        return found


class Snapshot(msgspec.Struct):
    """All numbers of one worker at one time, by the names of their families; labels in pairs with their values."""

    counts: dict[str, list[tuple[Labels, float]]] = {}
    histograms: dict[str, list[tuple[Labels, list[int], float]]] = {}


@dataclass
class Counters:
    """All families of one application, and the lock that guards their numbers."""

    lock: Lock = field(default_factory=Lock)
    counts: list[Counts] = field(default_factory=list)
    histograms: list[Histograms] = field(default_factory=list)

    def counter(self, name: str, says: str, *labels: str) -> Counts:
        self.counts.append(Counts(Family(name, says, labels)))
        return self.counts[-1]

    def gauge(self, name: str, says: str, *labels: str, merge: Merge = "sum") -> Counts:
        self.counts.append(Counts(Family(name, says, labels, merge=merge)))
        return self.counts[-1]

    def histogram(self, name: str, says: str, *labels: str, buckets: tuple[float, ...]) -> Histograms:
        self.histograms.append(Histograms(Family(name, says, labels, buckets)))
        return self.histograms[-1]

    def snapshot(self) -> Snapshot:
        """A consistent copy."""
        with self.lock:
            return Snapshot(
                {each.family.name: list(each.values.items()) for each in self.counts},
                {
                    each.family.name: [(labels, list(one.buckets), one.total) for labels, one in each.values.items()]
                    for each in self.histograms
                },
            )

    def merged(self, living: Sequence[Snapshot], ended: Sequence[Snapshot] = ()) -> Iterable[Metric]:
        """The numbers of several workers as Prometheus' metrics; of those that ended, gauges say nothing more."""
        for counts in self.counts:
            snapshots = living if counts.family.merge else [*living, *ended]
            yield _of_counts(counts.family, snapshots)
        for histograms in self.histograms:
            yield _of_histograms(histograms.family, [*living, *ended])


class Scrape(Collector):
    """What a registry asks at one scrape."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _within(labels: Labels, known: dict[Labels, float] | dict[Labels, Observed], most: int) -> Labels:
    return labels if labels in known or len(known) < most else ("other",) * len(labels)


def _of_counts(family: Family, snapshots: Sequence[Snapshot]) -> Metric:
    found: dict[Labels, list[float]] = {}
    for snapshot in snapshots:
        for labels, value in snapshot.counts.get(family.name, ()):
            found.setdefault(labels, []).append(value)
    kind = GaugeMetricFamily if family.merge else CounterMetricFamily
    metric = kind(family.name, family.says, labels=family.labels)
    for labels, values in sorted(found.items()):
        metric.add_metric(labels, _one(values, family.merge))
    return metric


def _one(values: Sequence[float], merge: Merge | None) -> float:
    if merge == "max":
        return max(values)
    return fmean(values) if merge == "mean" else sum(values)


def _of_histograms(family: Family, snapshots: Sequence[Snapshot]) -> Metric:
    merged: dict[Labels, tuple[list[int], float]] = {}
    for snapshot in snapshots:
        for labels, buckets, total in snapshot.histograms.get(family.name, ()):
            counts, sum_so_far = merged.get(labels, ([0] * len(buckets), 0.0))
            merged[labels] = [a + b for a, b in zip(counts, buckets, strict=True)], sum_so_far + total
    metric = HistogramMetricFamily(family.name, family.says, labels=family.labels)
    bounds = [*(str(bound) for bound in family.buckets), "+Inf"]
    for labels, (buckets, total) in sorted(merged.items()):
        sums = [sum(buckets[: at + 1]) for at in range(len(buckets))]
        metric.add_metric(labels, list(zip(bounds, sums, strict=True)), total)
    return metric
