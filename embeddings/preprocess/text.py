"""Token ids from a tokenizer.json, through the `tokenizers` library."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from tokenizers import Tokenizer

from embeddings.preprocess.cleaning import Cleaning, clean
from embeddings.preprocess.features import Batch, Content, Features
from embeddings.refused import Refused
from recsys.config import Config
from recsys.errors import CorruptArtifact


class TextPreprocessConfig(Config):
    """How texts become token ids.

    Attributes:
        tokenizer_sha256: of the tokenizer.json's text; another file is refused.
        max_length: tokens kept, special tokens included.
        pad_to: pad a batch to its longest text (models that mask padding, or look only backwards), or always to
            `max_length` (models trained to read the padding).
        cleaning: what happens to the string before the tokenizer sees it.
        unknown_id: the token that stands for what the vocabulary cannot spell; None where it can spell everything.
    """

    kind: Literal["text"] = "text"
    tokenizer_sha256: str
    max_length: int
    pad_id: int = 0
    pad_to: Literal["longest", "max_length"] = "longest"
    cleaning: Cleaning = "none"
    unknown_id: int | None = None


def text_sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


class TextPreprocessor:
    """Text → int64 [L], special tokens included, truncated to `max_length`, not padded."""

    def __init__(self, config: TextPreprocessConfig, tokenizer_json: str) -> None:
        """Raises CorruptArtifact: `tokenizer_json` is not the tokenizer that the configuration names."""
        if text_sha256(tokenizer_json) != config.tokenizer_sha256:
            raise CorruptArtifact("tokenizer.json differs from the one this encoder was made with; export it again")
        self.config = config
        self.tokenizer_json: str | None = tokenizer_json
        self._tokenizer = Tokenizer.from_str(tokenizer_json)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length=config.max_length)

    def __call__(self, content: Content) -> Features:
        """Raises Refused: it is no text, or an empty one."""
        refused = _refused(content)
        if refused is not None:
            raise refused
        return np.array(self._ids(str(content)), dtype=np.int64)

    def many(self, contents: Sequence[Content]) -> list[Features | Refused]:
        """The same for many at once, in the order given, on as many cores as the tokenizers library takes."""
        results: list[Features | Refused | None] = [_refused(content) for content in contents]
        places = [place for place, refused in enumerate(results) if refused is None]
        texts = [clean(str(contents[place]), self.config.cleaning) for place in places]
        # Its fast form leaves out only the tokens' places in the text.
        for place, encoding in zip(places, self._tokenizer.encode_batch_fast(texts), strict=True):
            results[place] = np.array(encoding.ids, dtype=np.int64)
        return [result for result in results if result is not None]

    def collate(self, features: Sequence[Features]) -> Batch:
        """`input_ids` int64 [B, L] and `attention_mask` int64 [B, L], 1 where there is a token."""
        fixed = self.config.pad_to == "max_length"
        longest = self.config.max_length if fixed else max(len(ids) for ids in features)
        input_ids = np.full((len(features), longest), self.config.pad_id, dtype=np.int64)
        attention_mask = np.zeros_like(input_ids)
        for row, ids in enumerate(features):
            input_ids[row, : len(ids)] = ids
            attention_mask[row, : len(ids)] = 1
        return {"input_ids": input_ids, "attention_mask": attention_mask}

    def unknown_share(self, texts: Iterable[str]) -> float:
        """Share in [0, 1] of the texts' tokens that the vocabulary cannot spell; 0.0 for no tokens at all.

        A high share (Chinese titles and an English encoder, say) asks for a multilingual model.
        """
        if self.config.unknown_id is None:
            return 0.0
        n_tokens = n_unknown = 0
        for text in texts:
            ids = self._ids(text, special_tokens=False)
            n_tokens += len(ids)
            n_unknown += ids.count(self.config.unknown_id)
        return n_unknown / n_tokens if n_tokens else 0.0

    def _ids(self, text: str, *, special_tokens: bool = True) -> list[int]:
        cleaned = clean(text, self.config.cleaning)
        ids: list[int] = self._tokenizer.encode(cleaned, add_special_tokens=special_tokens).ids
        return ids


def _refused(content: Content) -> Refused | None:
    if isinstance(content, bytes):
        return Refused("wrong_type", "a text must be given as text, not as bytes")
    return None if content.strip() else Refused("empty", "the text is empty")
