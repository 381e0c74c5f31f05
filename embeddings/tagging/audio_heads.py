"""Heads of sounds that need no training: the classifiers that models bring along, and CLAP's words.

A sound may be of many tags at once. The classifiers' own logits say how sure they are. CLAP's cosines say only which of
several words fits best, so where the tags do not exclude each other, each is asked against a sound as such:

    logit of a tag = scale * (cosine with its prompts - cosine with NEUTRAL_PROMPTS), sigmoid
    all tags of one group: logit = scale * cosine, softmax over them

Letters: T tags, D width of the vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from embeddings.encoder import Vectors
from embeddings.tagging.heads import Head, label_head
from embeddings.tagging.image_heads import class_vector, default_thresholds, exclude_each_other, known_as, prompts_of
from embeddings.tagging.taxonomy import Taxonomy
from recsys.errors import ConfigError
from recsys.manifest import EmbeddingSpace
from recsys.tagging_config import AudioTaggingConfig, TaggingConfig

HEAD = "audio"
NEUTRAL_PROMPTS = ("a sound.", "the sound of something.", "a recording.")


def ready_made_audio_head(spec: str, taxonomy: Taxonomy | None, config: TaggingConfig) -> Head:
    """The head that `[tagging.audio] head` names; `auto`: zero-shot where the model reads, else its classifier.

    Args:
        spec: of the encoder, as `tflite:<file>` or `transformers:<name or folder>`.
        taxonomy: None: each of the model's labels is a tag.

    Raises:
        ConfigError: the model brings no such head, or none of the tags.
        WeightsUnavailable: its weights cannot be had here.
    """
    thresholds = {"threshold": config.threshold, "unsure_from": config.unsure_from}
    if _is_zero_shot(spec, config.audio):
        if taxonomy is None:
            raise ConfigError("zero-shot tags need a taxonomy: name its file in [tagging] taxonomy")
        return audio_zero_shot_head(spec, taxonomy, config.audio.templates, **thresholds)
    return audio_classifier_head(spec, taxonomy, **thresholds)


def audio_classifier_head(
    spec: str, taxonomy: Taxonomy | None, *, threshold: float = 0.5, unsure_from: float = 0.5
) -> Head:
    """The classifier of a `tflite:` model or of `transformers:` AST, for vectors of the encoder of the same name.

    Args:
        threshold: where the taxonomy says none.
        unsure_from: share of its threshold from which a tag is unsure.

    Raises: as `ready_made_audio_head`.
    """
    own = _classifier_of(spec)
    taxonomy = taxonomy or Taxonomy.of_labels(own.labels)
    labels_of = taxonomy.labels_of(HEAD, own.labels)
    if not labels_of:
        raise ConfigError(
            f"none of the taxonomy's tags is a label of {spec}: give the tags `labels`, as {own.labels[0]!r} or "
            f"{own.labels[-1]!r}"
        )
    return label_head(
        HEAD,
        "audio",
        own.space,
        own.weights,
        own.bias,
        model=f"classifier of {known_as(spec)}",
        origin="classifier",
        labels=own.labels,
        labels_of=labels_of,
        activation=own.activation,
        thresholds=default_thresholds(labels_of, taxonomy, threshold=threshold, unsure_from=unsure_from),
        standardised=own.standardised,
    )


def audio_zero_shot_head(
    spec: str, taxonomy: Taxonomy, templates: Sequence[str], *, threshold: float = 0.5, unsure_from: float = 0.5
) -> Head:
    """Tags by their words, for sounds of `transformers:` CLAP.

    Args:
        templates: around the name of a tag without prompts of its own: `{name}` stands for it.

    Raises: as `ready_made_audio_head`.
    """
    if not spec.startswith("transformers:"):
        raise ConfigError(f"{spec} does not read: zero-shot tags of sounds need a CLAP model, transformers:<name>")
    from embeddings.audio_classes import load_clap_words

    tags = taxonomy.for_head(HEAD)
    if not tags:
        raise ConfigError("the taxonomy has no tags for sounds: leave their `modalities` out, or name audio")
    words = load_clap_words(spec)
    classes = np.stack([class_vector(words.text, prompts_of(taxonomy, tag, templates)) for tag in tags])
    is_one_group = exclude_each_other(taxonomy, tags)
    neutral = np.zeros_like(classes[0]) if is_one_group else class_vector(words.text, NEUTRAL_PROMPTS)
    return label_head(
        HEAD,
        "audio",
        words.space,
        np.float32(words.scale) * (classes - neutral).T,
        np.zeros(len(tags), np.float32),
        model=f"words of {known_as(spec)}",
        origin="zero_shot",
        labels=tags,
        labels_of={tag: (place,) for place, tag in enumerate(tags)},
        activation="softmax" if is_one_group else "sigmoid",
        thresholds=default_thresholds(tags, taxonomy, threshold=threshold, unsure_from=unsure_from),
    )


@dataclass(frozen=True)
class _Classifier:
    space: EmbeddingSpace
    weights: Vectors
    bias: Vectors
    labels: tuple[str, ...]
    activation: Literal["softmax", "sigmoid"]
    standardised: bool


def _classifier_of(spec: str) -> _Classifier:
    if spec.startswith("tflite:"):
        from embeddings.tflite_encoder import load_tflite

        encoder = load_tflite(spec)
        own = encoder.model
        return _Classifier(encoder.space, own.weights, own.bias, own.labels, own.activation, standardised=False)
    if spec.startswith("transformers:"):
        from embeddings.audio_classes import load_ast_classifier

        ast = load_ast_classifier(spec)
        return _Classifier(ast.space, ast.weights, ast.bias, ast.labels, ast.activation, standardised=True)
    raise ConfigError(f"{spec} brings no classifier of sounds: name a tflite or AST model, or train a head")


def _is_zero_shot(spec: str, config: AudioTaggingConfig) -> bool:
    if config.head != "auto":
        return config.head == "zero_shot"
    if not spec.startswith("transformers:"):
        return False
    from embeddings.audio_classes import has_words

    return has_words(spec)
