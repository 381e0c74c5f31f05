"""What the report of a head shows: the figures of its training, what it said of the catalogue, and examples.

`Evaluation` is read from `evaluation.json` of a trained head; what it does not know there is passed over, what it needs
and does not find is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from recsys.errors import CorruptArtifact


class Interval(msgspec.Struct, frozen=True):
    """A figure and where its true value likely lies; None where nothing can be said."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


class TagFigures(msgspec.Struct, frozen=True):
    """Of one tag, on labelled items that were held out.

    Attributes:
        n_known, n_yes: labels, and those that say yes.
        true_yes, false_yes: the head's own, right and wrong.
    """

    tag: str
    n_known: int
    n_yes: int
    true_yes: int
    false_yes: int
    precision: Interval = Interval()
    recall: Interval = Interval()
    f1: Interval = Interval()
    ap: Interval = Interval()


class Means(msgspec.Struct, frozen=True):
    """Over tags (macro) or pairs of item and tag (micro)."""

    precision: Interval = Interval()
    recall: Interval = Interval()
    f1: Interval = Interval()
    ap: Interval = Interval()


class Confusion(msgspec.Struct, frozen=True):
    """`counts` [C][C]: a row for each tag that items have, a column for each that the head gave."""

    tags: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


class Figures(msgspec.Struct, frozen=True):
    n_items: int
    by_tag: tuple[TagFigures, ...]
    macro: Means
    micro: Means
    confusion: Confusion
    accuracy: Interval | None = None


class Bin(msgspec.Struct, frozen=True):
    """Confidences from `low` to `high`: how many, their mean, and the share of them that is right."""

    low: float
    high: float
    n: int
    confidence: float
    share_yes: float


class Reliability(msgspec.Struct, frozen=True):
    """How well confidences mean what they say; `ece` is the expected calibration error."""

    n: int
    ece: float
    brier: float
    bins: tuple[Bin, ...]


class Calibrated(msgspec.Struct, frozen=True):
    before: Reliability
    after: Reliability


class Reliabilities(msgspec.Struct, frozen=True):
    before: Reliability
    after: Reliability
    by_tag: dict[str, Calibrated] = {}


class Limits(msgspec.Struct, frozen=True):
    yes: float
    unsure: float


class ChosenThreshold(msgspec.Struct, frozen=True):
    """From which confidence a tag counts, and why: held_out, unreached, few_labels or taxonomy."""

    threshold: Limits
    origin: str = ""
    precision: float | None = None
    n_above: int = 0


class Share(msgspec.Struct, frozen=True):
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0


class Verdicts(msgspec.Struct, frozen=True):
    """How often a yes and a no were right, against what was asked for."""

    target_precision: float
    abstain_precision: float
    yes: Share = Share()
    no: Share = Share()
    unsure: Share = Share()


class Calibration(msgspec.Struct, frozen=True):
    method: str = "none"
    temperature: float = 1.0


class Evaluation(msgspec.Struct, frozen=True):
    """The figures of a head's training.

    Attributes:
        exclusive: each item has one of the tags.
    """

    tags: tuple[str, ...]
    exclusive: bool
    n_labelled: int
    figures: Figures
    reliability: Reliabilities
    thresholds: dict[str, ChosenThreshold]
    verdicts: Verdicts | None = None
    calibration: Calibration = Calibration()


def read_evaluation(path: Path) -> Evaluation | None:
    """None where there is no such file. Raises CorruptArtifact: it holds something else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Evaluation)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, OSError) as error:
        raise CorruptArtifact(f"{path} is no evaluation of a head ({error}): train the head again") from None


@dataclass(frozen=True)
class Box:
    """An object, in pixels of the upright picture."""

    x0: float
    y0: float
    x1: float
    y1: float
    confidence: float


@dataclass(frozen=True)
class Example:
    """An item as it is shown beside a tag.

    Attributes:
        verdict: yes or unsure.
        size: width and height of the picture that `boxes` lie in; None without boxes.
        moments: (start, end) in seconds, where the tag can be heard.
        picture: JPEG of the whole picture.
        sound: Ogg Vorbis.
    """

    item_id: str
    title: str | None
    verdict: str
    confidence: float
    picture: bytes | None = None
    sound: bytes | None = None
    size: tuple[float, float] | None = None
    boxes: tuple[Box, ...] = ()
    moments: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class TagExamples:
    """Of one tag the surest, and those nearest to its threshold."""

    tag: str
    sure: tuple[Example, ...]
    doubtful: tuple[Example, ...]


@dataclass(frozen=True)
class Segment:
    start_s: float
    end_s: float
    text: str
    confidence: float


@dataclass(frozen=True)
class SpokenItem:
    """What was heard in an item; `sound` is its beginning as Ogg Vorbis."""

    item_id: str
    title: str | None
    language: str
    duration_s: float
    segments: tuple[Segment, ...]
    sound: bytes | None = None


@dataclass(frozen=True)
class TagCount:
    """Of one tag: items that the head gave it, and that it is unsure of; and what people said of it.

    Attributes:
        agree, disagree: people's words where the head says the same, and the contrary; where it is unsure, neither.
    """

    tag: str
    name: str
    yes: int
    unsure: int
    agree: int = 0
    disagree: int = 0


@dataclass(frozen=True)
class HeadReport:
    """All that the page shows of one head.

    Attributes:
        version: fingerprint of what decides its verdicts.
        at: of its newest verdict; None where there is none.
        status: judged, absent, refused → items.
        counts: of every tag that it can give.
    """

    head: str
    model: str
    version: str
    at: datetime | None
    status: Mapping[str, int]
    counts: tuple[TagCount, ...]
    evaluation: Evaluation | None = None
    examples: tuple[TagExamples, ...] = ()
    spoken: tuple[SpokenItem, ...] = ()
