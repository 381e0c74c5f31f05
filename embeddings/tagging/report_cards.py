"""Examples on a head's report: pictures with the boxes drawn in, sounds that play, and words with their times."""

from __future__ import annotations

import base64

from embeddings.quality.page_parts import count, safe, short
from embeddings.tagging.report_figures import Example, Segment, SpokenItem, TagExamples

_MAX_TITLE = 90
_MAX_BOXES, _MAX_MOMENTS, MAX_SEGMENTS = 30, 3, 40
_SMALLEST_NUMBERED = 0.12
_SPOKEN = "<tr>" + "".join(f'<th scope="col">{name}</th>' for name in ("From", "To", "Words", "Sure")) + "</tr>"


def examples_html(found: TagExamples, name: str) -> str:
    """The surest items of a tag, and those nearest to its threshold."""
    everything = (*found.sure, *found.doubtful)
    wide = " wide-examples" if any(each.sound is not None or each.boxes for each in everything) else ""
    rows = [("Surest", found.sure), ("Nearest to the threshold", found.doubtful)]
    shown = "".join(
        f'<div class="kind"><p class="soft">{title}</p><div class="examples{wide}">'
        + "".join(_card(each, name) for each in examples)
        + "</div></div>"
        for title, examples in rows
        if examples
    )
    plain = f' <span class="id">{safe(found.tag)}</span>' if name != found.tag else ""
    return f'<div class="tag"><h3>{safe(name)}{plain}</h3>{shown}</div>'


def spoken_html(item: SpokenItem) -> str:
    """The words of one item, each segment with the time at which it begins."""
    title = safe(short(item.title or item.item_id, _MAX_TITLE))
    lines = "".join(_line(each) for each in item.segments[:MAX_SEGMENTS])
    rest = len(item.segments) - MAX_SEGMENTS
    more = f'<p class="soft">{count(rest)} more segments.</p>' if rest > 0 else ""
    language = f", language <b>{safe(item.language)}</b>" if item.language else ""
    words = (
        f'<div class="scroll"><table class="spoken" aria-label="What is said">{_SPOKEN}{lines}</table></div>{more}'
        if lines
        else '<p class="soft">Nobody speaks.</p>'
    )
    return (
        f'<div class="tag"><h3>{title} <span class="id">{safe(short(item.item_id, _MAX_TITLE))}</span></h3>'
        f'<p class="soft">{moment(item.duration_s)} long{language}</p>{sound_html(item.sound, title)}{words}</div>'
    )


def moment(seconds: float) -> str:
    """As 1:02:03.4, or 2:03.4."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}:{minutes:02}" if hours else f"{minutes}") + f":{rest // 10:02}.{rest % 10}"


def percent(share: float) -> str:
    """Whole, but where that would make nearly sure quite sure."""
    return f"{share:.0%}" if 0.01 <= share < 0.99 else f"{share:.1%}"


def sound_html(sound: bytes | None, title: str) -> str:
    """`title` is safe already."""
    if sound is None:
        return ""
    source = base64.b64encode(sound).decode()
    return f'<audio controls preload="none" aria-label="Sound of {title}" src="data:audio/ogg;base64,{source}"></audio>'


def _card(each: Example, name: str) -> str:
    title = safe(short(each.title or "", _MAX_TITLE))
    label = title or safe(each.item_id)
    doubt = '<span class="doubt">unsure</span> ' if each.verdict == "unsure" else ""
    moments = ", ".join(f"{moment(start)}&ndash;{moment(end)}" for start, end in each.moments[:_MAX_MOMENTS])
    heard = f"<br>heard at {moments}" if moments else ""
    return (
        f'<div class="example">{_picture(each, label, name)}{sound_html(each.sound, label)}'
        f'<p class="title">{title or "<em>no title</em>"}</p>'
        f'<p class="says">{doubt}<b>{percent(each.confidence)}</b> '
        f'<span class="id">{safe(short(each.item_id, _MAX_TITLE))}</span>{heard}</p></div>'
    )


def _picture(each: Example, label: str, name: str) -> str:
    if each.picture is None:
        return "" if each.sound is not None else '<span class="none">no picture</span>'
    source = base64.b64encode(each.picture).decode()
    seen = f'<img alt="{label}" loading="lazy" src="data:image/jpeg;base64,{source}">'
    return f'<div class="seen">{seen}{_boxes(each, name)}</div>'


def _boxes(each: Example, name: str) -> str:
    """An SVG of the picture's own size over it, in its pixels."""
    if each.size is None or not each.boxes:
        return ""
    width, height = each.size
    edge = max(width, height)
    shapes = []
    for box in each.boxes[:_MAX_BOXES]:
        wide, tall = box.x1 - box.x0, box.y1 - box.y0
        at = f'x="{box.x0:.1f}" y="{box.y0:.1f}" width="{wide:.1f}" height="{tall:.1f}"'
        shapes.append(f'<rect class="under" {at}/><rect class="box" {at}><title>{box.confidence:.2f}</title></rect>')
        if min(wide, tall) >= _SMALLEST_NUMBERED * edge:
            # The style sheet gives letters 11 units; here a unit is a pixel of the picture.
            at = f"translate({box.x0 + 0.015 * edge:.1f} {box.y0 + 0.055 * edge:.1f}) scale({edge / 220:.3f})"
            shapes.append(f'<text class="sure" transform="{at}">{box.confidence:.2f}</text>')
    label = f"{count(len(each.boxes))} found: {name}"
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{safe(label)}">{"".join(shapes)}</svg>'


def _line(each: Segment) -> str:
    return (
        f"<tr><td>{moment(each.start_s)}</td><td>{moment(each.end_s)}</td>"
        f"<td>{safe(each.text.strip())}</td><td>{percent(each.confidence)}</td></tr>"
    )
