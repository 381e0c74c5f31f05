"""Our token ids are the libraries' token ids, over odd strings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embeddings.preprocess.clip_bpe import clip_tokenizer_json
from embeddings.preprocess.text import TextPreprocessConfig, TextPreprocessor, text_sha256
from recsys.errors import CorruptArtifact, InputError

ODD = [
    "A dog's life",
    "  white \t space\n everywhere ",
    "Tom &amp; Jerry &lt;3 &amp;amp; &rsquo;tis",
    "“Curly” ‘quotes’ and ﬁne ligatures — dashes…",
    "肖申克的救赎 (1994)",
    "ＦＵＬＬ　ｗｉｄｔｈ ﾊﾝｶｸ",
    "emoji 👩‍👩‍👧‍👦 🏳️‍🌈 and ünïcödé é",
    "it's we're I've I'm they'll he'd CAN'T",
    "1999 2001: a 3.5/10 film!!! $$$ ###",
    "İstanbul ĲSSEL ß ſ",
    "control\x00chars\x07 and \x1b[31mred\x1b[0m",
    "Ünder_scores-and-dashes__here",
    "العربية עברית हिन्दी ไทย",
    "x" * 500,
    "many words " * 100,
    "<b>markup &eacute;</b>",
    "!",
]


@pytest.fixture(scope="module")
def clip_tokenizer() -> str:
    from open_clip.tokenizer import default_bpe

    return clip_tokenizer_json(Path(default_bpe()))


@pytest.fixture(scope="module")
def ours(clip_tokenizer: str) -> TextPreprocessor:
    config = TextPreprocessConfig(tokenizer_sha256=text_sha256(clip_tokenizer), max_length=77, cleaning="lower")
    return TextPreprocessor(config, clip_tokenizer)


def theirs(text: str) -> list[int]:
    from open_clip.tokenizer import tokenize

    padded = tokenize(text)[0].tolist()
    return padded[: padded.index(49407) + 1]


@pytest.mark.parametrize("text", ODD)
def test_ids_are_those_of_open_clip(ours: TextPreprocessor, text: str) -> None:
    assert ours(text).tolist() == theirs(text)


@settings(max_examples=150, deadline=None)
@given(text=st.text(alphabet=st.characters(codec="ascii"), min_size=1, max_size=60).filter(str.strip))
def test_any_ascii_text_gives_the_ids_of_open_clip(ours: TextPreprocessor, text: str) -> None:
    assert ours(text).tolist() == theirs(text)


@pytest.mark.parametrize("cleaning", ["canonicalize", "whitespace"])
def test_the_other_cleanings_are_those_of_open_clip(cleaning: str) -> None:
    from open_clip.tokenizer import get_clean_fn

    from embeddings.preprocess.cleaning import clean

    for text in ODD:
        assert clean(text, cleaning) == get_clean_fn(cleaning)(text)


def test_a_long_text_keeps_its_end_token(ours: TextPreprocessor) -> None:
    ids = ours("many words " * 100)
    assert len(ids) == 77
    assert ids[0] == 49406
    assert ids[-1] == 49407


def test_the_tokenizer_file_is_the_same_each_time(clip_tokenizer: str) -> None:
    from open_clip.tokenizer import default_bpe

    assert clip_tokenizer == clip_tokenizer_json(Path(default_bpe()))
    assert len(json.loads(clip_tokenizer)["model"]["vocab"]) == 49408


def test_half_a_surrogate_pair_does_not_stop_the_job(ours: TextPreprocessor) -> None:
    assert ours("broken \ud83d emoji").tolist() == ours("broken \ufffd emoji").tolist()


def test_a_batch_pads_to_its_longest_text(ours: TextPreprocessor) -> None:
    batch = ours.collate([np.array([5, 6, 7]), np.array([8])])
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_models_that_read_padding_get_all_of_it(clip_tokenizer: str) -> None:
    config = TextPreprocessConfig(
        tokenizer_sha256=text_sha256(clip_tokenizer), max_length=9, pad_id=1, pad_to="max_length", cleaning="lower"
    )
    batch = TextPreprocessor(config, clip_tokenizer).collate([np.array([5, 6, 7])])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 1, 1, 1, 1, 1, 1]]


def test_an_empty_text_is_refused(ours: TextPreprocessor) -> None:
    with pytest.raises(InputError, match="the text is empty"):
        ours("  \n ")


def test_another_tokenizer_file_is_refused(clip_tokenizer: str) -> None:
    config = TextPreprocessConfig(tokenizer_sha256="0" * 64, max_length=77)
    with pytest.raises(CorruptArtifact, match=r"tokenizer\.json differs"):
        TextPreprocessor(config, clip_tokenizer)


def test_the_unknown_share_counts_tokens_that_the_vocabulary_cannot_spell(bert_folder: Path) -> None:
    tokenizer_json = (bert_folder / "tokenizer.json").read_text()
    config = TextPreprocessConfig(tokenizer_sha256=text_sha256(tokenizer_json), max_length=20, unknown_id=1)
    preprocessor = TextPreprocessor(config, tokenizer_json)
    assert preprocessor.unknown_share(["a red film", "two zebras"]) == 1 / 5  # a red film | two [UNK]
    assert preprocessor.unknown_share(["鸟 鸟"]) == 1.0
    assert preprocessor.unknown_share([]) == 0.0


def test_a_byte_level_vocabulary_spells_everything(ours: TextPreprocessor) -> None:
    assert ours.unknown_share(["肖申克的救赎"]) == 0.0
