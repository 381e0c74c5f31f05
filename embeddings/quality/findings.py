"""The report in a few sentences: what is wrong, what to look at, what is as it should be."""

from __future__ import annotations

from typing import Any, Literal

from embeddings.quality.report import Json, drift_alarms

Level = Literal["alarm", "look", "fine", "note"]


def findings_of(report: Json) -> list[dict[str, str]]:
    """`{"level", "text"}`, alarms first: the batch should not go on as it is. Notes come last: neither good nor bad."""
    found = [*_vectors(report["presence"]), *_drift(report["drift"])]
    for name, duplicates in report["near_duplicates"].items():
        found.append(_duplicates(name, duplicates))
    found += [_blank(report["blank_images"]), _disagreement(report["disagreement"])]
    order = ("alarm", "look", "fine", "note")
    return [{"level": level, "text": text} for level, text in sorted(found, key=lambda each: order.index(each[0]))]


_Finding = tuple[Level, str]


def _vectors(presence: Json) -> list[_Finding]:
    found: list[_Finding] = []
    for name, kind in presence["kinds"].items():
        if kind["not_finite"]:
            found.append(("alarm", f"{name}: {_n(kind['not_finite'])} vectors are not finite or not normalised"))
        if kind["refused"]:
            top = max(kind["refused_by_reason"].items(), key=lambda each: each[1])
            found.append(("look", f"{name}: {kind['refused']:,} refused, {top[1]:,} of them as {top[0]}"))
        if kind["absent"]:
            found.append(("look" if kind["share"] < 0.5 else "note", f"{kind['absent']:,} items have no {name}"))
    return found


def _drift(drift: Json) -> list[_Finding]:
    if drift.get("why_not"):
        return [("note", f"Drift is not told: {drift['why_not']}")]
    alarms = drift_alarms(drift)
    if alarms:
        return [("alarm", f"Drift against the current release: {each}") for each in alarms]
    return [("fine", "No drift against the current release")]


def _duplicates(name: str, found: Json) -> _Finding:
    if not found["groups"]:
        return "fine", f"{name}: no duplicates found"
    kinds = f"{found['same_groups']:,} groups with the same {name}, {found['near_groups']:,} with nearly the same"
    return "look", f"{kinds} ({found['items_in_groups']:,} items)"


def _blank(found: Json) -> _Finding:
    if not found["pictures"]:
        return "note", "There are no pictures to look at"
    if not found["images"]:
        return "fine", f"No blank picture among the {found['looked_at']:,} looked at"
    return "look", f"{_n(found['images'])} items with a picture that shows nothing"


def _disagreement(found: Json) -> _Finding:
    if found["method"] == "none":
        return "note", f"Whether pictures and words go together is not told: {found['why_not']}"
    return (
        "look" if found["outliers"] else "fine",
        f"{found['outliers']:,} outliers where picture and words disagree; the {_n(found['lowest'])} lowest are listed",
    )


def _n(values: list[Any]) -> str:
    return f"{len(values):,}"
