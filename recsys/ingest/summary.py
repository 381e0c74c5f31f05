"""What `recsys validate` tells: counts, reasons, ignored columns, and the lines of recsys.toml that mend a file."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import pyarrow as pa

from recsys.catalog import DataConfig
from recsys.ingest.layout import advice
from recsys.ingest.tally import Tally
from recsys.quarantine import Reason
from recsys.references import url_scheme

MOST = 0.5
# One in twelve tokens unknown: English titles stay far below it, titles in another script far above.
HIGH_UNKNOWN_TOKEN_SHARE = 0.08
MAX_SAMPLED_TEXTS = 2_000
UnknownTokenShare = Callable[[Sequence[str]], float]


@dataclass(frozen=True, slots=True)
class FileSummary:
    """One file: `n_rows = n_accepted + n_quarantined`.

    Attributes:
        dialect: whose columns they are: "recsys", "personalize" or "gorse".
        reasons: how many rows each reason refused.
        ignored_columns: names that nothing reads.
        mend: lines for recsys.toml that would read more of the file.
    """

    file: str
    kind: str
    dialect: str
    n_rows: int
    n_accepted: int
    n_quarantined: int
    reasons: Mapping[Reason, int]
    ignored_columns: tuple[str, ...]
    mend: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ValidationSummary:
    """All files.

    Attributes:
        n_users: users with an accepted interaction.
        ordered: False where interactions have neither position nor time.
        unknown_token_share: of the text encoder over the items' texts, 0 to 1; None where it was not asked.
        notes: what else one should know, in sentences.
    """

    files: tuple[FileSummary, ...]
    n_items: int
    n_interactions: int
    n_users: int
    ordered: bool
    unknown_token_share: float | None
    notes: tuple[str, ...]

    @property
    def n_quarantined(self) -> int:
        return sum(file.n_quarantined for file in self.files)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "n_quarantined": self.n_quarantined}

    def lines(self) -> list[str]:
        """The summary for people, a line each."""
        out: list[str] = []
        for file in self.files:
            whose = "" if file.dialect == "recsys" else f" (read as {file.dialect.capitalize()})"
            out.append(f"{file.file}{whose}: {file.n_accepted:,} of {file.n_rows:,} rows accepted")
            out += [f"  quarantined {count:,}: {reason}" for reason, count in file.reasons.items()]
            if file.ignored_columns:
                out.append(f"  ignored columns: {', '.join(file.ignored_columns)}")
            for line in file.mend:
                out += ["  to mend it, write in recsys.toml:", *(f"    {part}" for part in line.split("\n"))]
        return [*out, *self.notes]


def summarise_file(tally: Tally, config: DataConfig) -> FileSummary:
    """The counts of a file that has been read to its end."""
    mend: list[str] = []
    for reason, count in tally.reasons.most_common():
        if count > MOST * tally.n_rows and (line := _mending_line(reason, tally.samples.get(reason, []), config)):
            mend.append(line)
    if tally.layout is not None:
        mend += advice(tally.layout, tally.names)
    return FileSummary(
        file=tally.file.name,
        kind=tally.file.kind,
        dialect=tally.layout.dialect if tally.layout else "recsys",
        n_rows=tally.n_rows,
        n_accepted=tally.n_accepted,
        n_quarantined=tally.reasons.total(),
        reasons=dict(tally.reasons.most_common()),
        ignored_columns=tally.unknown_columns,
        mend=tuple(mend),
    )


def _mending_line(reason: Reason, samples: list[Any], config: DataConfig) -> str | None:
    if reason == "naive_time":
        return '[data]\ntimezone = "UTC"  # or the zone of your times, like "Europe/Berlin"'
    if reason in ("ambiguous_time", "future_time", "impossible_time"):
        unit = _unit_of(samples)
        return f'[data]\ntime_format = "{unit}"' if unit and unit != config.time_format else None
    if reason == "outside_folder" and not url_scheme(config.image_root):
        roots = [root for path in samples if (root := _parent_root(str(path)))]
        return f'[data]\nimage_root = "{max(roots, key=len)}"' if roots else None
    return None


def _unit_of(samples: list[Any]) -> str | None:
    """What bare numbers count, by their size: seconds from 1973 to 2286, or milliseconds for the same years."""
    numbers = []
    for sample in samples:
        try:
            numbers.append(abs(float(sample)))
        except (TypeError, ValueError, OverflowError):
            return None
    if not numbers:
        return None
    middle = median(numbers)
    return "epoch_s" if 1e8 <= middle < 1e10 else "epoch_ms" if 1e11 <= middle < 1e13 else None


def _parent_root(path: str) -> str | None:
    """The `..` part that a path begins with; None for an absolute path, which no setting allows."""
    parts = posixpath.normpath(path).split("/")
    return "/".join(part for part in parts if part == "..") or None


def sample_texts(items: pa.Table) -> list[str]:
    """Titles and descriptions of up to `MAX_SAMPLED_TEXTS` items, evenly spaced."""
    step = max(1, -(-len(items) // MAX_SAMPLED_TEXTS))
    rows = items.select(["title", "description"]).take(list(range(0, len(items), step))).to_pylist()
    return [" ".join(text for text in row.values() if text) for row in rows if any(row.values())]


def notes_on(interactions: pa.Table, tallies: Sequence[Tally], unknown_token_share: float | None) -> tuple[str, ...]:
    """Sentences about what is unusual."""
    notes = []
    if len(interactions) and not is_ordered(interactions):
        notes.append("interactions have neither occurred_at nor position: the model is trained without order")
    for tally in tallies:
        if tally.reasons["unknown_item"] > MOST * tally.n_rows:
            examples = ", ".join(repr(each) for each in tally.samples.get("unknown_item", [])[:3])
            notes.append(f"most rows of {tally.file.name} name items that the items file lacks, such as {examples}")
    if unknown_token_share is not None and unknown_token_share > HIGH_UNKNOWN_TOKEN_SHARE:
        notes.append(
            f"the text encoder does not know {unknown_token_share:.0%} of the tokens in your titles and descriptions: "
            "use a multilingual one, such as transformers:sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"
        )
    return tuple(notes)


def is_ordered(interactions: pa.Table) -> bool:
    """Whether any row has a time or a position."""
    return any(interactions[name].null_count < len(interactions) for name in ("occurred_at_ms", "position"))
