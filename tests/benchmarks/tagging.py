"""`make bench-tagging`: what the tagging heads find on real pictures and sounds. Non-zero exit where one falls short.

Data and models lie in `../shared`; a part whose data are absent is not measured, and says so.
`ARGS="--only detection,audio"` picks parts; `--json FILE` writes the figures, too.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks._table import Figure, show

SHARED = Path(__file__).resolve().parents[3] / "shared"
DATA, MODELS = SHARED / "data", SHARED / "models"
Rows = Iterable[Mapping[str, Any]]


def detection() -> Rows:
    from tests.benchmarks._tagging.detection import figures

    return figures(DATA, MODELS)


def audio() -> Rows:
    from tests.benchmarks._tagging.audio import figures

    return figures(DATA, MODELS)


def photographs() -> Rows:
    from tests.benchmarks._tagging.photographs import figures

    return figures(DATA)


def posters() -> Rows:
    from tests.benchmarks._tagging.posters import figures

    return figures(DATA)


def speech() -> Rows:
    from tests.benchmarks._tagging.speech import figures

    return figures(DATA / "tagging")


def throughput() -> Rows:
    from tests.benchmarks._tagging.throughput import figures

    return figures(DATA)


# What each part needs; the rest it makes itself or finds in packages.
PARTS: dict[str, tuple[Callable[[], Rows], tuple[Path, ...]]] = {
    "detection": (detection, (DATA / "tagging" / "detection", MODELS / "yolox_nano.onnx")),
    "audio": (audio, (DATA / "tagging" / "audio", MODELS / "yamnet.tflite")),
    "photographs": (photographs, (DATA / "tagging" / "images",)),
    "posters": (posters, (DATA / "ml1m",)),
    "speech": (speech, (DATA / "tagging" / "audio",)),
    "throughput": (throughput, (DATA / "tagging" / "images",)),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="some of the parts, by comma")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    names = [name for name in options.only.split(",") if name]
    unknown = sorted(set(names) - PARTS.keys())
    if unknown:
        raise SystemExit(f"there is no part {', '.join(unknown)}; write some of {','.join(PARTS)}")
    found: list[Figure] = []
    for name in names:
        print(f"... {name}", flush=True)
        part, needed = PARTS[name]
        absent = [path.name for path in needed if not path.exists()]
        found += [Figure(name, None, note=f"{', '.join(absent)} absent")] if absent else map(figure_of, part())
    if options.json:
        options.json.write_text(json.dumps([vars(figure) for figure in found], indent=2) + "\n")
    return show(found)


def figure_of(row: Mapping[str, Any]) -> Figure:
    """A part's row: what, value, low, high, bar, at_least, note."""
    bar = "" if row["bar"] is None else f"{'>=' if row['at_least'] else '<='} {row['bar']:g}"
    interval = "" if row["low"] is None else f"{row['low']:.4g} to {row['high']:.4g}"
    return Figure(row["what"], row["value"], bar, "; ".join(filter(None, (interval, row["note"]))))


if __name__ == "__main__":
    sys.exit(main())
