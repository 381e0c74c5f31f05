"""`python -m serving.document [--write]`: the OpenAPI document that is committed beside this file."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serving.app import api_document

FILE = Path(__file__).with_name("openapi.json")


def written(document: dict[str, Any]) -> str:
    """As it stands in the file."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Print the document, or write it to its file."""
    text = written(api_document())
    if "--write" in arguments:
        FILE.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
