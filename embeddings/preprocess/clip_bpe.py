"""CLIP's byte-pair vocabulary as a tokenizer.json, so that `tokenizers` alone reads CLIP's text.

The vocabulary file is OpenAI's `bpe_simple_vocab_16e6.txt.gz` (Radford et al. 2021), which open_clip carries: one
merge a line. Ids: 256 bytes, the same 256 at a word's end, the merges in order, then the special tokens.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

START, END = "<start_of_text>", "<end_of_text>"
WORD_END = "</w>"

_N_IDS = 49_152
_WORDS = rf"(?i){START}|{END}|'s|'t|'re|'ve|'m|'ll|'d|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}]+"


def clip_tokenizer_json(merges_file: Path) -> str:
    """The tokenizer.json of the merges in `merges_file` (gzipped text, a header line first)."""
    lines = gzip.decompress(merges_file.read_bytes()).decode("utf-8").split("\n")
    return tokenizer_json_of([tuple(line.split()) for line in lines[1 : _N_IDS - 256 - 2 + 1]])


def tokenizer_json_of(merges: list[tuple[str, ...]]) -> str:
    """The same from merges at hand; the text is the same for the same merges, whatever library version writes it."""
    letters = byte_letters()
    tokens = [*letters, *(letter + WORD_END for letter in letters), *("".join(merge) for merge in merges), START, END]
    vocabulary = {token: token_id for token_id, token in enumerate(tokens)}
    specials = [_added_token(token, vocabulary[token]) for token in (START, END)]
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": specials,
            "normalizer": None,
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "Split", "pattern": {"Regex": _WORDS}, "behavior": "Removed", "invert": True},
                    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
                ],
            },
            "post_processor": _start_and_end(vocabulary),
            "decoder": None,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": "",
                "end_of_word_suffix": WORD_END,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": False,
                "vocab": vocabulary,
                "merges": [list(merge) for merge in merges],
            },
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def byte_letters() -> list[str]:
    """256 printable characters that stand for bytes: first the bytes printable in Latin-1, then the others."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    n_others = 256 - len(printable)
    return [chr(code) for code in (*printable, *range(256, 256 + n_others))]


def _added_token(content: str, token_id: int) -> dict[str, object]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": token_id, "content": content, "special": True, **flags}


def _start_and_end(vocabulary: dict[str, int]) -> dict[str, object]:
    start, end = ({"SpecialToken": {"id": token, "type_id": 0}} for token in (START, END))
    text, pair = ({"Sequence": {"id": name, "type_id": 0}} for name in ("A", "B"))
    return {
        "type": "TemplateProcessing",
        "single": [start, text, end],
        "pair": [start, text, end, pair, end],
        "special_tokens": {
            token: {"id": token, "ids": [vocabulary[token]], "tokens": [token]} for token in (START, END)
        },
    }
