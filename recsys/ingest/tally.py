"""What became of the rows of one file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from recsys.ingest.batches import Batch
from recsys.ingest.files import InputFile
from recsys.ingest.findings import MAX_SAMPLES, Findings
from recsys.ingest.layout import Layout
from recsys.quarantine import Quarantine, Reason, Rejection, RowRefused


@dataclass(frozen=True, slots=True)
class ReadProgress:
    """How far the reading of one file has come: rows so far, and the share of the file, 0 to 1."""

    file: str
    n_rows: int
    share: float


OnProgress = Callable[[ReadProgress], None]


@dataclass
class Tally:
    """Counts for one file while it is read; every row goes either to `accept` or to the quarantine."""

    file: InputFile
    quarantine: Quarantine
    on_progress: OnProgress | None = None
    n_rows: int = 0
    reasons: Counter[Reason] = field(default_factory=Counter)
    samples: dict[Reason, list[Any]] = field(default_factory=dict)
    names: dict[str, None] = field(default_factory=dict)
    layout: Layout | None = None

    def begin(self, batch: Batch, layout: Layout | None) -> None:
        """Count the rows of a batch; those that could not be read are quarantined."""
        self.n_rows += batch.n_rows + len(batch.rejected)
        self.names.update(dict.fromkeys(batch.names))
        self.layout = layout
        self.refuse(batch.rejected)

    def end(self, batch: Batch) -> None:
        if self.on_progress is not None:
            self.on_progress(ReadProgress(self.file.name, self.n_rows, batch.share_read))

    def refuse(self, rejections: Iterable[Rejection]) -> None:
        rejected = list(rejections)
        self.reasons.update(each.reason for each in rejected)
        self.quarantine.add(self.file.name, rejected)

    def refuse_findings(self, batch: Batch, findings: Findings) -> None:
        for reason, values in findings.samples.items():
            self.sample(reason, values)
        lines = batch.lines
        self.refuse(
            Rejection(int(lines[row]), column, reason, message, batch.raw(row))
            for row, column, reason, message in findings
        )

    def refuse_row(self, batch: Batch, row: int, refused: RowRefused) -> Rejection:
        self.sample(refused.reason, [refused.value])
        return Rejection(int(batch.lines[row]), refused.column, refused.reason, str(refused), batch.raw(row))

    def sample(self, reason: Reason, values: list[Any]) -> None:
        kept = self.samples.setdefault(reason, [])
        kept += values[: MAX_SAMPLES - len(kept)]

    @property
    def n_accepted(self) -> int:
        return self.n_rows - self.reasons.total()

    @property
    def unknown_columns(self) -> tuple[str, ...]:
        used = self.layout.used if self.layout else frozenset()
        return tuple(name for name in self.names if name not in used)
