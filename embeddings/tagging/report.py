"""The report of a tagging head as one HTML file: nothing is loaded, nothing runs, titles are shown as text.

    findings → what it gave → how good it is → calibration → confusion → examples → what was heard

Its content security policy allows pictures and sounds that are inside the file, and the style sheet by its hash.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape

from embeddings.quality.page_parts import count, figure, safe, section
from embeddings.quality.page_style import STYLE
from embeddings.tagging.report_cards import examples_html, spoken_html
from embeddings.tagging.report_charts import counts_svg, forest_svg, reliability_svg
from embeddings.tagging.report_figures import Calibrated, Evaluation, HeadReport, Interval, TagCount, TagFigures
from embeddings.tagging.report_findings import findings_of
from embeddings.tagging.report_style import REPORT_STYLE
from embeddings.tagging.report_tables import Cell, confusion_html, data_table

MAX_BARS, MAX_ROWS, MAX_SMALL = 40, 400, 12


def render_tag_report(report: HeadReport) -> str:
    """The whole page. The same report gives the same text."""
    names = {each.tag: each.name for each in report.counts}
    parts = [
        ("findings", "Findings", _findings(report)),
        ("given", "Given tags", _given(report)),
        *(_evaluated(report.evaluation, names) if report.evaluation else ()),
        (
            "examples",
            "Examples",
            "".join(examples_html(each, names.get(each.tag, each.tag)) for each in report.examples),
        ),
        ("heard", "Words heard", "".join(map(spoken_html, report.spoken))),
    ]
    shown = [each for each in parts if each[2]]
    links = "".join(f'<a href="#{anchor}">{safe(title)}</a>' for anchor, title, _ in shown)
    style = STYLE + REPORT_STYLE
    policy = (
        f"default-src 'none'; img-src data:; media-src data:; style-src '{_hash(style)}'; base-uri 'none'; "
        "form-action 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="robots" content="noindex">\n'
        f"<title>Tags: {safe(report.head)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        f"<header><h1>Tags: {safe(report.head)}</h1>\n{_facts(report)}<nav>{links}</nav></header>\n"
        f"<main>\n{''.join(section(*each) for each in shown)}</main>\n</body>\n</html>\n"
    )


def _facts(report: HeadReport) -> str:
    when = f", newest verdict {report.at:%Y-%m-%d %H:%M} UTC" if report.at else ""
    version = f", version <code>{safe(report.version[:12])}</code>" if report.version else ""
    return f'<p class="facts">{safe(report.model)}{version}{when}</p>\n'


def _findings(report: HeadReport) -> str:
    lines = "".join(f'<li class="{each.level}">{safe(each.text)}</li>' for each in findings_of(report))
    return f'<ul class="findings">{lines}</ul>'


def _given(report: HeadReport) -> str:
    ranked = sorted(report.counts, key=lambda each: (-each.yes, -each.unsure, each.name))
    given = [each for each in ranked if each.yes + each.unsure]
    if not given:
        return "<p>No item has any of its tags.</p>"
    key = '<span class="key-bar"></span>has it &ensp; <span class="key-dashed"></span>unsure'
    left = f"; {count(len(given) - MAX_BARS)} rarer ones are in the table" if len(given) > MAX_BARS else ""
    chart = figure(counts_svg("Items by tag", given[:MAX_BARS]), f"{key}{left}")
    return chart + _details(
        f"Table of all tags ({count(len(ranked))})", _counts_table(ranked, sum(report.status.values()))
    )


def _counts_table(ranked: Sequence[TagCount], n_items: int) -> str:
    def row(each: TagCount) -> tuple[str, str, str, str, str]:
        people = each.agree + each.disagree
        agreed = f"{count(each.agree)} of {count(people)}" if people else ""
        return each.name, count(each.yes), f"{each.yes / max(n_items, 1):.1%}", count(each.unsure), agreed

    head = ("Tag", "Items", "Share", "Unsure", "As people say")
    return data_table("Items by tag", head, [row(each) for each in ranked[:MAX_ROWS]]) + _rest(len(ranked))


def _evaluated(found: Evaluation, names: Mapping[str, str]) -> list[tuple[str, str, str]]:
    return [
        ("good", "How good it is", _good(found, names)),
        ("calibration", "Calibration", _calibration(found, names)),
        ("confusion", "Confusion", confusion_html(found.figures.confusion, names, exclusive=found.exclusive)),
    ]


def _good(found: Evaluation, names: Mapping[str, str]) -> str:
    figures = found.figures
    about = (
        f"<p>Of {count(figures.n_items)} labelled items, each judged by a head that has not learned from it. Below "
        "each figure: where its true value lies with 95 %, by resampling the items.</p>"
    )
    rows: list[Sequence[Cell]] = [
        (title, *(_interval(each) for each in (of.precision, of.recall, of.f1, of.ap)))
        for title, of in (("Mean over tags", figures.macro), ("Over all pairs", figures.micro))
    ]
    means = data_table("Figures over all tags", ("", "Precision", "Recall", "F1", "Average precision"), rows)
    accuracy = ""
    if figures.accuracy:
        value, edges = _interval(figures.accuracy)
        accuracy = f"<p>Its surest tag is right in <b>{value}</b> ({edges}) of the items.</p>"
    ranked = sorted(figures.by_tag, key=lambda each: -each.n_yes)[:MAX_ROWS]
    target = found.verdicts.target_precision if found.verdicts else None
    called = [names.get(each.tag, each.tag) for each in ranked]
    key = '<span class="key-dot"></span>precision &ensp; <span class="key-dot recall"></span>recall'
    dashed = f"; dashed: the precision asked for, {target:.0%}" if target is not None else ""
    chart = figure(
        forest_svg("Precision and recall by tag", ranked[:MAX_BARS], called[:MAX_BARS], target),
        f"{key}, with intervals{dashed}",
    )
    head = ("Tag", "Have it", "Precision", "Recall", "F1", "Average precision", "Yes from", "Unsure from", "Because")
    by_tag = data_table("Figures by tag", head, [_tag_row(each, found, names) for each in ranked])
    return about + accuracy + means + chart + by_tag


_BECAUSE = {
    "held_out": "reaches the precision",
    "unreached": "none reaches it: never given",
    "few_labels": "too few labels to say",
    "taxonomy": "the taxonomy says so",
}


def _tag_row(each: TagFigures, found: Evaluation, names: Mapping[str, str]) -> tuple[Cell, ...]:
    chosen = found.thresholds.get(each.tag)
    limits = ("", "", "")
    if chosen is not None:
        yes, unsure = chosen.threshold.yes, chosen.threshold.unsure
        limits = (_limit(yes), _limit(unsure) if unsure < yes else "", _BECAUSE.get(chosen.origin, chosen.origin))
    measured = (_interval(of) for of in (each.precision, each.recall, each.f1, each.ap))
    return names.get(each.tag, each.tag), f"{count(each.n_yes)} of {count(each.n_known)}", *measured, *limits


def _calibration(found: Evaluation, names: Mapping[str, str]) -> str:
    told = found.reliability
    how = {
        "none": "It was not calibrated.",
        "isotonic": "Calibrated by a rising curve for each tag (isotonic regression).",
    }
    method = how.get(found.calibration.method, f"Calibrated by a temperature of {found.calibration.temperature:.2f}.")
    about = (
        f"<p>{method} Dots on the dashed diagonal mean what they say; the line from a dot to it is the error of those "
        "confidences, and a larger dot stands for more pairs of item and tag.</p>"
    )
    pair = "".join(
        figure(
            reliability_svg(title, each),
            f"<b>{title}</b>: calibration error {each.ece:.3f}, Brier score {each.brier:.3f}, {count(each.n)} pairs",
        )
        for title, each in (("Before", told.before), ("After", told.after))
    )
    largest = sorted(told.by_tag.items(), key=lambda each: (-each[1].after.n, -each[1].before.ece))[:MAX_SMALL]
    small = "".join(_small(names.get(tag, tag), each) for tag, each in largest)
    by_tag = f'<h3>By tag, after</h3><div class="small">{small}</div>' if small else ""
    return f'{about}<div class="pair">{pair}</div>{by_tag}'


def _small(name: str, found: Calibrated) -> str:
    chart = reliability_svg(f"{name}, after calibration", found.after, small=True)
    return figure(chart, f"{safe(name)}: {found.before.ece:.3f} before, <b>{found.after.ece:.3f}</b> after")


def _interval(found: Interval) -> tuple[str, str]:
    if found.value is None:
        return "–", ""
    edges = "" if found.low is None or found.high is None else f"{found.low:.2f}–{found.high:.2f}"
    return f"{found.value:.2f}", edges


def _limit(confidence: float) -> str:
    return "never" if confidence > 1 else f"{confidence:.2f}"


def _details(title: str, body: str) -> str:
    return f"<details><summary>{safe(title)}</summary>{body}</details>"


def _rest(n: int) -> str:
    return f'<p class="soft">{count(n - MAX_ROWS)} rarer ones are left out.</p>' if n > MAX_ROWS else ""


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
