"""Heads of sounds against what the models themselves say: transformers' AST and CLAP, tiny and seeded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import ASTFeatureExtractor, ASTForAudioClassification, AutoTokenizer, ClapFeatureExtractor, ClapModel

from embeddings.audio_encoders import load_audio
from embeddings.tagging.audio_heads import (
    NEUTRAL_PROMPTS,
    audio_classifier_head,
    audio_zero_shot_head,
    ready_made_audio_head,
)
from embeddings.tagging.heads import Head, Threshold
from embeddings.tagging.taxonomy import TagDefinition, Taxonomy
from recsys.errors import ConfigError
from recsys.tagging_config import AudioTaggingConfig, TaggingConfig
from tests.embeddings.sounds import saved, sweep
from tests.embeddings.tiny_audio import CLAP_HZ, save_ast, save_clap

LABELS = ("Dog", "Bark", "Rain")
DOG = TagDefinition(names={"en": "dog"}, labels=("dog", "BARK"), threshold=0.8)
TAXONOMY = Taxonomy(tags={"dog": DOG, "rain": TagDefinition(), "film": TagDefinition(modalities=("image",))})
WAVEFORMS = [sweep(n / CLAP_HZ, CLAP_HZ, seed=n).astype(np.float32) for n in (500, 3_000, 7_999, 8_000)]
# Of the tiny model's vocabulary, and with words that none knows.
WORDS = {"dog": ("a dog", "two dogs", "a red dog"), "film": ("a blue film",), "rain": ()}
TEMPLATES = ("about {name}", "{name}, a film")
STORED = 4e-3  # logits of vectors in float16


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def vectors_of(spec: str, contents: list[bytes]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """As a store gives them back."""
    encoder = load_audio(spec)
    assert encoder is not None
    stored = encoder.encode(contents).astype(np.float16).astype(np.float32)
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    return {"audio": (stored, np.ones(len(contents), np.bool_))}


@pytest.fixture(scope="module")
def ast_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ast") / "classifier"
    save_ast(folder, LABELS)
    return folder


@pytest.fixture(scope="module")
def clap_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clap") / "tiny"
    save_clap(folder)
    return folder


def test_the_head_of_ast_says_what_its_own_classifier_says(ast_folder: Path) -> None:
    spec = f"transformers:{ast_folder}"
    head = audio_classifier_head(spec, TAXONOMY, unsure_from=0.5)
    waveforms = [sweep(n / 16_000, 16_000, seed=n).astype(np.float32) for n in (400, 5_000, 10_480)]
    model = ASTForAudioClassification.from_pretrained(ast_folder).eval()
    extractor = ASTFeatureExtractor.from_pretrained(ast_folder)
    with torch.inference_mode():
        inputs = extractor(waveforms, sampling_rate=16_000, return_tensors="pt")["input_values"]
        theirs = model(inputs).logits.numpy()
    vectors = vectors_of(spec, [saved(waveform, 16_000) for waveform in waveforms])
    assert np.ptp(theirs, axis=0).min() > 10 * STORED
    np.testing.assert_allclose(head.logits(vectors), theirs, atol=STORED)
    ours = head.confidences(vectors)
    np.testing.assert_allclose(ours[:, 0], sigmoid(theirs[:, :2]).max(axis=1), atol=STORED)  # a dog or a bark
    np.testing.assert_allclose(ours[:, 1], sigmoid(theirs[:, 2]), atol=STORED)
    assert head.spec.tags == ("dog", "rain")
    assert head.spec.thresholds == {"dog": Threshold(yes=0.8, unsure=0.4), "rain": Threshold(yes=0.5, unsure=0.25)}


def test_labels_of_which_there_is_one_exclude_each_other(tmp_path: Path) -> None:
    save_ast(tmp_path, LABELS, problem_type="single_label_classification")
    head = audio_classifier_head(f"transformers:{tmp_path}", None)
    assert head.spec.tags == ("dog", "bark", "rain")
    vectors = vectors_of(f"transformers:{tmp_path}", [saved(sweep(0.5, 16_000), 16_000)])
    np.testing.assert_allclose(head.confidences(vectors).sum(), 1.0, atol=1e-5)


def test_a_head_that_brings_its_vectors_to_variance_one_does_so_after_it_was_saved(
    ast_folder: Path, tmp_path: Path
) -> None:
    spec = f"transformers:{ast_folder}"
    head = audio_classifier_head(spec, TAXONOMY)
    head.save(tmp_path)
    vectors = vectors_of(spec, [saved(sweep(0.5, 16_000), 16_000)])
    again = Head.load(tmp_path)
    assert again.version == head.version
    longer = {"audio": (3 * vectors["audio"][0] + 7, vectors["audio"][1])}
    np.testing.assert_allclose(again.logits(longer), head.logits(vectors), atol=1e-4)


def clap_similarities(folder: Path, texts: list[str]) -> np.ndarray:
    """transformers' own logits, float32 [N sounds, M texts], of each sound alone."""
    model, tokenizer = ClapModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    extractor = ClapFeatureExtractor.from_pretrained(folder)
    inputs = extractor(WAVEFORMS, sampling_rate=CLAP_HZ, return_tensors="pt")["input_features"]
    words = tokenizer(texts, return_tensors="pt", padding=True)
    with torch.inference_mode():
        short = torch.zeros(len(WAVEFORMS), 1, dtype=torch.bool)
        return model(input_features=inputs, is_longer=short, **words).logits_per_audio.numpy()


def test_one_prompt_a_tag_gives_claps_own_similarities(clap_folder: Path) -> None:
    spec, texts = f"transformers:{clap_folder}", ["a dog", "a blue film", "about two red dogs ."]
    tags = {f"t{at}": TagDefinition(prompts=(text,), group="all") for at, text in enumerate(texts)}
    head = audio_zero_shot_head(spec, Taxonomy(tags=tags), ())
    theirs = clap_similarities(clap_folder, texts)
    vectors = vectors_of(spec, [saved(waveform, CLAP_HZ) for waveform in WAVEFORMS])
    np.testing.assert_allclose(head.logits(vectors), theirs, atol=STORED * head_scale(clap_folder))
    in_all = np.exp(theirs) / np.exp(theirs).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(head.confidences(vectors), in_all, atol=STORED)
    assert head.spec.activation == "softmax"


def head_scale(folder: Path) -> float:
    return float(ClapModel.from_pretrained(folder).logit_scale_a.detach().exp())


def test_several_prompts_are_one_direction_asked_against_a_sound_as_such(clap_folder: Path) -> None:
    spec = f"transformers:{clap_folder}"
    tags = {tag: TagDefinition(prompts=prompts) for tag, prompts in WORDS.items()}
    head = audio_zero_shot_head(spec, Taxonomy(tags=tags), TEMPLATES)
    expected = {**WORDS, "rain": ("about rain", "rain, a film"), "": NEUTRAL_PROMPTS}
    vectors = vectors_of(spec, [saved(waveform, CLAP_HZ) for waveform in WAVEFORMS])
    model, tokenizer = ClapModel.from_pretrained(clap_folder).eval(), AutoTokenizer.from_pretrained(clap_folder)
    directions = []
    for prompts in expected.values():
        with torch.inference_mode():
            outputs = model.get_text_features(**tokenizer(list(prompts), return_tensors="pt", padding=True))
        each = torch.nn.functional.normalize(outputs.pooler_output, dim=-1).mean(dim=0)
        directions.append((each / each.norm()).numpy())
    cosines = vectors["audio"][0] @ np.stack(directions).T
    logits = head_scale(clap_folder) * (cosines[:, :-1] - cosines[:, -1:])
    np.testing.assert_allclose(head.logits(vectors), logits, atol=1e-4)
    np.testing.assert_allclose(head.confidences(vectors), sigmoid(logits), atol=1e-5)
    assert head.spec.tags == tuple(WORDS)


def test_tags_of_two_groups_do_not_exclude_each_other(clap_folder: Path) -> None:
    tags = {"dog": TagDefinition(group="animal"), "film": TagDefinition(group="thing")}
    head = audio_zero_shot_head(f"transformers:{clap_folder}", Taxonomy(tags=tags), TEMPLATES)
    assert head.spec.activation == "sigmoid"


def test_the_model_and_the_settings_choose_the_head(ast_folder: Path, clap_folder: Path) -> None:
    ast, clap = f"transformers:{ast_folder}", f"transformers:{clap_folder}"
    config = TaggingConfig(threshold=0.4, unsure_from=0.25, audio=AudioTaggingConfig(templates=TEMPLATES))
    heard, read = (ready_made_audio_head(spec, TAXONOMY, config) for spec in (ast, clap))
    assert (heard.spec.origin, read.spec.origin) == ("classifier", "zero_shot")
    assert heard.spec.thresholds["rain"] == read.spec.thresholds["rain"] == Threshold(yes=0.4, unsure=0.1)
    for spec, chosen in ((ast, "zero_shot"), (clap, "classifier")):
        with pytest.raises(ConfigError):
            ready_made_audio_head(spec, TAXONOMY, TaggingConfig(audio=AudioTaggingConfig(head=chosen)))
    with pytest.raises(ConfigError, match="taxonomy"):
        ready_made_audio_head(clap, None, config)


def test_what_brings_no_head_says_so(ast_folder: Path, tmp_path: Path) -> None:
    save_ast(tmp_path)
    with pytest.raises(ConfigError, match="without its classifier"):
        audio_classifier_head(f"transformers:{tmp_path}", TAXONOMY)
    with pytest.raises(ConfigError, match="'Dog' or 'Rain'"):
        audio_classifier_head(f"transformers:{ast_folder}", Taxonomy(tags={"violin": TagDefinition()}))
    for build in (audio_classifier_head, lambda spec, taxonomy: audio_zero_shot_head(spec, taxonomy, TEMPLATES)):
        with pytest.raises(ConfigError, match="logmel"):
            build("logmel", TAXONOMY)
    only_pictures = Taxonomy(tags={"film": TagDefinition(modalities=("image",))})
    with pytest.raises(ConfigError, match="no tags for sounds"):
        audio_zero_shot_head(f"transformers:{ast_folder}", only_pictures, TEMPLATES)
