"""The documents as the tests see them: their code blocks with marks, and the commands named in them.

A block's mark is the invisible comment on the line before it: `<!-- test: run -->`, with words after the kind.

    run              bash, in the reader's folder, in the order of the document
    serve            bash that starts the service and does not end
    curl REPLY       bash against that service; every reply decodes as the struct named, and slates hold items; with
                     `curl REPLY or nothing` they may be empty
    python           a program against that service
    file NAME        what stands in that file
    config           a part of recsys.toml; `config export`: it reads the files under export/
    json REPLY       decodes as the struct named
    help             commands too long to run: their verbs, options and targets exist
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")
KINDS = frozenset({"run", "serve", "curl", "python", "file", "config", "json", "help"})
_FENCE = re.compile(r"^```(\w*)$")
_MARK = re.compile(r"^<!-- test: (.+) -->$")


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is that of its first fence, `mark` the words of its comment."""

    document: str
    line: int
    language: str
    mark: tuple[str, ...]
    text: str

    @property
    def kind(self) -> str:
        return self.mark[0] if self.mark else ""

    @property
    def where(self) -> str:
        return f"{self.document}:{self.line}"


def read(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(document: str = "README.md", kind: str | None = None) -> list[Block]:
    """The fenced blocks of a document in their order; those of one kind only when it is given."""
    found = list(_blocks(document))
    return [block for block in found if kind is None or block.kind == kind]


def _blocks(document: str) -> Iterator[Block]:
    lines = read(document).splitlines()
    opened: tuple[int, str] | None = None
    for at, line in enumerate(lines):
        fence = _FENCE.match(line)
        if fence is None:
            continue
        if opened is None:
            opened = (at, fence[1])
            continue
        start, language = opened
        mark = _MARK.match(lines[start - 1]) if start else None
        words = tuple(mark[1].split()) if mark else ()
        yield Block(document, start + 1, language, words, "\n".join(lines[start + 1 : at]) + "\n")
        opened = None


def prose(document: str) -> str:
    """The document without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", read(document), flags=re.MULTILINE | re.DOTALL)


def inline_code(document: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(document))


def commands(document: str, program: str) -> list[list[str]]:
    """Each use of a program in blocks of bash and cron and in inline code, as the words after its name."""
    lines = [
        line for block in _blocks(document) if block.language in ("bash", "cron") for line in block.text.split("\n")
    ]
    found = []
    for line in [*lines, *inline_code(document)]:
        start = re.search(rf"(?:^|[\s/|]){re.escape(program)}(?= |$)(?!\s*\[)", line)
        if start:
            words = shlex.split(re.split(r"\s(?:#|>>|&&|\|)", line[start.end() :])[0])
            found.append(words)
    return found
