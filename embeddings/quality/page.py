"""The report as one HTML file: nothing is loaded, nothing runs, and titles are shown as the text they are.

Its content security policy allows pictures that are inside the file, and the one style sheet by its hash.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from html import escape
from typing import Any

from embeddings.quality.charts import histogram_svg
from embeddings.quality.page_parts import Card, card_html, count, figure, more, more_inline, safe, section, table
from embeddings.quality.page_style import STYLE

Json = Mapping[str, Any]

MAX_GROUPS, MAX_MEMBERS, MAX_CARDS = 24, 9, 24
_MAX_REFUSED = 20


def shown_items(report: Json) -> list[str]:
    """Ids of the items that the page has room for, each once: those that need a card."""
    wanted: dict[str, None] = {}
    for found in report["near_duplicates"].values():
        for group in found["groups"][:MAX_GROUPS]:
            wanted |= dict.fromkeys(each["item_id"] for each in group["items"][:MAX_MEMBERS])
    lists = [report["blank_images"]["images"], report["disagreement"]["lowest"]]
    lists += [found.get("farthest", []) for found in report["drift"].get("kinds", {}).values()]
    for items in lists:
        wanted |= dict.fromkeys(each["item_id"] for each in items[:MAX_CARDS])
    return list(wanted)


def render_page(report: Json, cards: Mapping[str, Card]) -> str:
    """The whole page. The same report and cards give the same text."""
    sections = [
        _overview(report),
        *(_duplicates(name, found, cards) for name, found in report["near_duplicates"].items()),
        _blank(report["blank_images"], cards),
        _disagreement(report["disagreement"], cards),
        _drift(report["drift"], cards),
        _presence(report["presence"]),
    ]
    style_hash = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{style_hash}'; base-uri 'none'; form-action 'none'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="robots" content="noindex">\n'
        f"<title>Quality of the embeddings</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"{_header(report)}<main>\n{''.join(sections)}</main>\n"
        f"<footer>Content <code>{safe(report['content'])}</code>. "
        "The JSON file beside this page has every item id.</footer>\n"
        "</body>\n</html>\n"
    )


def _header(report: Json) -> str:
    links = [("findings", "Findings")]
    links += [(f"near-{name}", f"Duplicates: {name}") for name in report["near_duplicates"]]
    links += [
        ("blank", "Blank pictures"),
        ("disagreement", "Picture and words"),
        ("drift", "Drift"),
        ("have", "Coverage"),
    ]
    shown = "".join(f'<a href="#{safe(anchor)}">{safe(label)}</a>' for anchor, label in links)
    return f"<header><h1>Quality of the embeddings</h1>\n<nav>{shown}</nav></header>\n"


def _overview(report: Json) -> str:
    lines = "".join(f'<li class="{each["level"]}">{safe(each["text"])}</li>' for each in report["findings"])
    return section("findings", f"{count(report['presence']['items'])} items", f'<ul class="findings">{lines}</ul>')


def _duplicates(name: str, found: Json, cards: Mapping[str, Card]) -> str:
    how = (
        f"Neighbours nearer than {found['threshold']:.3f} (dashed line) are not there by chance: among unrelated "
        f"contents, filling about {found['dimension']:.0f} dimensions as these do, fewer than one item of the whole "
        "catalogue would have one."
        if found["calibrated"]
        else f"There are too few items to tell what chance would do, so {found['threshold']:.2f} is taken as near."
    )
    compared = {"image": "pixels", "text": "words"}.get(name)
    kept = (
        f"Of {count(found['pairs_nearer_than_chance'])} such pairs, {count(found['pairs_unlike'])} were dropped "
        f"because their {compared} differ" + _unchecked(found["pairs_unchecked"]) + "."
        if compared
        else f"Contents of this kind cannot be compared, so {count(found['pairs_nearer_than_chance'])} such pairs were "
        "judged by their vectors alone."
    )
    chart = figure(
        histogram_svg(
            f"Cosine of each {name} to its nearest neighbour", found["nearest_similarities"], mark=found["threshold"]
        ),
        f"Cosine of each distinct {name} to its nearest neighbour (square-root scale). {how} {kept}",
    )
    groups = "".join(_group(group, cards, wide=name != "image") for group in found["groups"][:MAX_GROUPS])
    facts = (
        f"<p>{count(found['same_groups'])} groups with one and the same {name}, {count(found['near_groups'])} with "
        f"nearly the same; {count(found['items_in_groups'])} of {count(found['items'])} items.</p>"
    )
    groups = f'<div class="groups">{groups}</div>' + more(len(found["groups"]), MAX_GROUPS, "groups")
    return section(f"near-{name}", f"Duplicates: {name}", facts + chart + groups)


def _unchecked(n: int) -> str:
    return f", and {count(n)} could not be compared (kept only where their vectors are very near)" if n else ""


def _group(group: Json, cards: Mapping[str, Card], *, wide: bool) -> str:
    items = group["items"]
    kind = "the same" if group["kind"] == "same" else "nearly the same"
    doubt = "" if group["checked"] else ", by their vectors alone"
    shown = "".join(
        card_html(
            each["item_id"],
            cards,
            "first" if at == 0 else "the same" if each["same"] else f"cosine {each['similarity']:.3f}",
            words=wide,
        )
        for at, each in enumerate(items[:MAX_MEMBERS])
    )
    head = f"<p><strong>{count(len(items))} items</strong>, {kind}{doubt}{more_inline(len(items), MAX_MEMBERS)}</p>"
    return f'<div class="group">{head}<div class="cards{" wide" if wide else ""}">{shown}</div></div>'


def _blank(found: Json, cards: Mapping[str, Card]) -> str:
    looked = f"Looked at {count(found['looked_at'])} of {count(found['pictures'])} distinct pictures"
    looked += ": the members of groups, and a random sample of the others." if found["sampled"] else "."
    says = {"constant": "one colour", "one_colour": "{one_colour:.1%} one colour", "no_detail": "no edges at all"}
    shown = "".join(
        card_html(each["item_id"], cards, says[each["kind"]].format(**each)) for each in found["images"][:MAX_CARDS]
    )
    unreadable = (
        f"<p>{count(len(found['unreadable']))} pictures that have a vector cannot be read now; the JSON names them.</p>"
        if found["unreadable"]
        else ""
    )
    counts = f"<p>{count(len(found['images']))} items have a picture that shows nothing. {looked}</p>"
    cells = f'<div class="cards">{shown}</div>' if shown else ""
    return section(
        "blank", "Blank pictures", counts + unreadable + cells + more(len(found["images"]), MAX_CARDS, "items")
    )


def _disagreement(found: Json, cards: Mapping[str, Card]) -> str:
    if found["method"] == "none":
        return section("disagreement", "Picture and words", f"<p>Not told: {safe(found['why_not'])}.</p>")
    how = (
        "One model made both vectors; the score is their cosine."
        if found["method"] == "aligned"
        else "The two encoders are not aligned, so a linear map predicts each text from its picture, fitted without "
        f"that item; the score is the cosine of prediction and text. It explains {found['explained']:.1%} of the "
        "texts' variance."
    )
    listed = len(found["lowest"])
    facts = (
        f"<p>{how} A picture goes better with its own text than with another's in {found['own_wins']:.0%} of "
        f"{count(found['items'])} items. A wrong text would be among the lowest 1 % with a chance of "
        f"{found['power']:.0%}: look through these, but do not take them as wrong.</p>"
        f"<p>{count(found['outliers'])} items are outliers by themselves (robust z below -3.5); {count(listed)} are "
        "listed.</p>"
    )
    key = '<span class="key-bar"></span>own text &ensp; <span class="key-outline"></span>another item\'s text'
    chart = figure(
        histogram_svg(
            "Scores of pictures with their own texts and with other items' texts",
            found["own_scores"],
            outline=found["wrong_scores"],
            mark=found["cut"],
        ),
        f"{key}. Dashed: the lowest 1 %. Shares on a square-root scale.",
    )
    shown = "".join(
        card_html(each["item_id"], cards, f"score {each['score']:.3f}, z {each['z']:.1f}", words=True)
        for each in found["lowest"][:MAX_CARDS]
    )
    cells = f'<div class="cards wide">{shown}</div>'
    return section("disagreement", "Picture and words", facts + chart + cells + more(listed, MAX_CARDS, "items"))


def _drift(found: Json, cards: Mapping[str, Card]) -> str:
    if found.get("why_not"):
        return section("drift", "Drift", f"<p>Not compared: {safe(found['why_not'])}.</p>")
    facts = (
        f"<p>Against release <code>{safe(found['release'][:12])}</code>: {count(found['added'])} items added, "
        f"{count(found['changed'])} changed, {count(found['removed'])} removed.</p>"
    )
    return section(
        "drift", "Drift", facts + "".join(_drift_of(name, each, cards) for name, each in found["kinds"].items())
    )


def _drift_of(name: str, found: Json, cards: Mapping[str, Card]) -> str:
    verdict = f"alarm: {', '.join(found['alarms'])}" if found["alarms"] else "no alarm"
    head = f"<h3>{safe(name)}: {safe(verdict)}</h3>"
    missing = found["missing"]
    rows = [("Without this content", f"{missing['new']:.1%}", f"{missing['released']:.1%}", f"{missing['p']:.4f}")]
    if "energy" not in found:
        note = f'<p class="soft">{count(found["new"])} new vectors: too few to compare distributions.</p>'
        return head + table(("", "New", "Released", "p"), rows) + note
    far, energy, shift = found["far"], found["energy"], found["mean_shift"]
    rows += [
        ("Far from all released", f"{far['new']:.1%}", f"{far['released']:.1%}", f"{far['p']:.4f}"),
        ("Energy coefficient", f"{energy['coefficient']:.4f}", "0", f"{energy['p']:.4f}"),
        ("Shift of the mean", f"{shift['size']:.3f}", f"{shift['by_chance']:.3f} by chance", ""),
    ]
    key = '<span class="key-bar"></span>new &ensp; <span class="key-outline"></span>released'
    chart = figure(
        histogram_svg(
            f"Cosine of each {name} to its nearest released neighbour",
            found["nearest_released"]["new"],
            outline=found["nearest_released"]["released"],
            mark=far["limit"],
        ),
        f"{key}. Cosine to the nearest released neighbour; below the dashed line lies 1 % of the release itself. "
        "Shares on a square-root scale.",
    )
    shown = "".join(
        card_html(each["item_id"], cards, f"nearest released: {each['similarity']:.3f}", words=name != "image")
        for each in found["farthest"][:MAX_CARDS]
    )
    wide = " wide" if name != "image" else ""
    cells = f'<p class="soft">The farthest new items:</p><div class="cards{wide}">{shown}</div>' if shown else ""
    return head + table(("", "New", "Released", "p"), rows) + chart + cells


def _presence(found: Json) -> str:
    rows = [
        (
            name,
            count(each["present"]),
            f"{each['share']:.1%}",
            count(each["absent"]),
            count(each["refused"]),
            count(len(each["not_finite"])),
        )
        for name, each in found["kinds"].items()
    ]
    kinds = table(("", "With a vector", "Share", "Have none", "Refused", "Not finite"), rows)
    nothing = f"<p>{count(found['with_nothing'])} items have no vector of any kind.</p>"
    refused = "".join(_refused(name, each) for name, each in found["kinds"].items() if each["refused"])
    return section("have", "Coverage", kinds + nothing + refused)


def _refused(name: str, found: Json) -> str:
    counts = ", ".join(f"{safe(reason)} {count(n)}" for reason, n in found["refused_by_reason"].items())
    rows = [(each["item_id"], each["reason"], each["message"]) for each in found["refused_items"][:_MAX_REFUSED]]
    rest = more(len(found["refused_items"]), _MAX_REFUSED, "items")
    listed = table(("Item", "Reason", "What to do"), rows)
    return f"<h3>Refused: {safe(name)}</h3><p>{counts}</p>{listed}{rest}"
