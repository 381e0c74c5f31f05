"""What is worth knowing of a head, in sentences, the worst first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from embeddings.quality.page_parts import count
from embeddings.tagging.report_figures import Evaluation, HeadReport

Level = Literal["alarm", "look", "fine", "note"]
_ORDER: tuple[Level, ...] = ("alarm", "look", "fine", "note")
_SOME = 6
_FEW_AGREE, _FEW_WORDS = 0.8, 10
_HALVED = 0.5
_GOOD_ECE = 0.02


class Finding(NamedTuple):
    """`level`: alarm, look (somebody should), fine, note."""

    level: Level
    text: str


def findings_of(report: HeadReport) -> list[Finding]:
    """The same report gives the same findings."""
    found = [*_coverage(report), *_people(report)]
    if report.evaluation is not None:
        found += [*_calibration(report.evaluation), *_verdicts(report.evaluation), *_thresholds(report)]
    else:
        found.append(Finding("note", "It was not trained here, so there are no figures of how good it is."))
    return sorted(found, key=lambda each: _ORDER.index(each.level))


def _coverage(report: HeadReport) -> Iterator[Finding]:
    judged, absent, refused = (report.status.get(name, 0) for name in ("judged", "absent", "refused"))
    yes, unsure = sum(each.yes for each in report.counts), sum(each.unsure for each in report.counts)
    yield Finding(
        "note",
        f"Looked at {_items(judged)}; {count(absent)} without anything to look at. Given: {count(yes)} tags of "
        f"{count(sum(1 for each in report.counts if each.yes))} kinds, and {count(unsure)} unsure.",
    )
    if refused:
        yield Finding(
            "look",
            f"The content of {_items(refused)} cannot be read: tags that no other head can give them are unsure, and "
            "safety rules hide such items.",
        )
    silent = [each.name for each in report.counts if not each.yes and not each.unsure]
    if silent and judged:
        yield Finding("note", f"Given to no item ({count(len(silent))}): {_some(silent)}.")


def _people(report: HeadReport) -> Iterator[Finding]:
    agree, words = sum(each.agree for each in report.counts), sum(each.agree + each.disagree for each in report.counts)
    if words:
        share = agree / words
        level: Level = "look" if share < _FEW_AGREE and words >= _FEW_WORDS else "note"
        yield Finding(level, f"Of {count(words)} words of people on its tags, it says the same in {share:.0%}.")


def _calibration(found: Evaluation) -> Iterator[Finding]:
    before, after = found.reliability.before.ece, found.reliability.after.ece
    good = after <= max(_HALVED * before, _GOOD_ECE)
    text = f"Calibration error {before:.3f} before calibration, {after:.3f} after, on items that it did not see."
    yield Finding("fine" if good else "look", text)


def _verdicts(found: Evaluation) -> Iterator[Finding]:
    if found.verdicts is None or found.verdicts.yes.value is None:
        return
    told, target = found.verdicts, found.verdicts.target_precision
    assert told.yes.value is not None
    edges = "" if told.yes.low is None or told.yes.high is None else f" ({told.yes.low:.1%} to {told.yes.high:.1%})"
    reached = told.yes.high is None or told.yes.high >= target
    yield Finding(
        "fine" if reached else "alarm",
        f"{told.yes.value:.1%} of its yes are right{edges}, of {count(told.yes.n)}; asked for: {target:.0%}.",
    )


def _thresholds(report: HeadReport) -> Iterator[Finding]:
    assert report.evaluation is not None
    names = {each.tag: each.name for each in report.counts}
    chosen = report.evaluation.thresholds
    never = [names.get(tag, tag) for tag, each in chosen.items() if each.origin == "unreached"]
    few = [names.get(tag, tag) for tag, each in chosen.items() if each.origin == "few_labels"]
    if never:
        yield Finding(
            "look", f"No confidence reaches the precision asked for, so these are never given: {_some(never)}."
        )
    if few:
        yield Finding("look", f"Too few labels to choose a threshold: {_some(few)}. `recsys tag review` picks more.")


def _items(n: int) -> str:
    return "1 item" if n == 1 else f"{count(n)} items"


def _some(names: list[str]) -> str:
    more = f" and {count(len(names) - _SOME)} more" if len(names) > _SOME else ""
    return ", ".join(names[:_SOME]) + more
