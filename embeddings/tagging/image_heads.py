"""Image heads that need no training: a model's own classes, and prompts of an image-text model.

Letters: L labels, C tags, D width of the image vectors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embeddings.encoder import Encoder, Vectors
from embeddings.registry import Device, load_encoders
from embeddings.tagging.heads import Head, Threshold, label_head
from embeddings.tagging.taxonomy import Taxonomy
from recsys.errors import ConfigError
from recsys.manifest import EmbeddingSpace
from recsys.tagging_config import ImageTaggingConfig, TaggingConfig

NAME = "image"
BACKGROUND = ("a photo.", "a picture.", "an image of something.", "a photo of an object.", "a photo of a scene.")
"""What a picture may be called whatever is in it."""

_BUNDLED_LENGTHS = {128: 39.94, 160: 27.90, 192: 21.04, 224: 16.67, 260: 11.46, 300: 9.72}
"""Side in pixels → mean length of the bundled vectors before they are normalised, on photographs (500 at 192, 224 and
260, else 50); one picture's is within a fifth of it, two times in three. The classifier gives the same first class on
vectors of length 1 times this constant as on the vectors as they were, at 192, 224 and 260."""


def image_head(config: TaggingConfig, taxonomy: Taxonomy | None, *, encoder: str = "", device: Device = "auto") -> Head:
    """The head that `[tagging.image] head` names; `auto` takes the prompts where there are any to compare, else the
    classes.

    Args:
        encoder: `[encoders] image`, which is meant where `[tagging.image] encoder` is empty.

    Raises:
        ConfigError: the head named cannot be had of this encoder; the message says which one can.
        WeightsUnavailable, CorruptArtifact: as `load_encoders`.
    """
    spec = image_encoder_of(config.image, encoder)
    kind = config.image.head
    if kind == "auto":
        kind = "zero_shot" if taxonomy is not None and _compares(spec) else "classifier"
    defaults = {"threshold": config.threshold, "unsure_from": config.unsure_from}
    if kind == "classifier":
        return image_classifier_head(spec, taxonomy, **defaults)
    if kind == "trained":
        raise ConfigError("a trained head is made by `recsys tag train --head image`, and not by a model alone")
    if taxonomy is None:
        raise ConfigError("zero-shot heads need tags to look for: name a file in `[tagging] taxonomy`")
    return image_zero_shot_head(spec, taxonomy, config.image.templates, device=device, **defaults)


def image_encoder_of(config: ImageTaggingConfig, encoder: str) -> str:
    """The encoder that sees the pictures for tagging. Raises ConfigError: images are switched off."""
    spec = config.encoder or encoder
    if spec in ("", "none"):
        raise ConfigError("no encoder of images is named: write one in `[tagging.image] encoder`, as bundled@260")
    return spec


def image_classifier_head(
    spec: str, taxonomy: Taxonomy | None, *, threshold: float = 0.5, unsure_from: float = 0.5
) -> Head:
    """The classes that a model was trained on: softmax over them all, a tag being the sum of its labels.

    `bundled`, `bundled@<side>`: ImageNet's 1,000, which the taxonomy may name by any of their English names ("golden
    retriever") or by synset ("n02099601"). `transformers:`: the labels in its configuration, by each of their synonyms.
    Stored vectors have length 1; a constant, the mean length, stands for what was lost, so confidences are somewhat
    too bold or too timid for single pictures, which calibration on average puts right.

    Args:
        taxonomy: None makes each class a tag.

    Raises:
        ConfigError: the encoder has no classifier over the stored vectors, or the taxonomy names none of its classes.
        WeightsUnavailable, CorruptArtifact: as `load_encoders`.
    """
    space, names, weights, bias = _classifier(spec)
    labels = _displayed(names)
    if taxonomy is None:
        ids = Taxonomy.of_labels(labels).ids
        labels_of: dict[str, tuple[int, ...]] = {tag: (place,) for place, tag in enumerate(ids)}
    else:
        labels_of = taxonomy.labels_of(NAME, names)
    if not labels_of:
        example = ", ".join(repr(label) for label in labels[:2])
        raise ConfigError(f"the taxonomy's tags mean none of the classes of {spec}: give them `labels`, as {example}")
    return label_head(
        NAME,
        "image",
        space,
        np.ascontiguousarray(weights.T),
        bias,
        model=f"classifier of {known_as(spec)}",
        origin="classifier",
        labels=labels,
        labels_of=labels_of,
        activation="softmax",
        thresholds=default_thresholds(labels_of, taxonomy, threshold=threshold, unsure_from=unsure_from),
    )


def image_zero_shot_head(
    spec: str,
    taxonomy: Taxonomy,
    templates: Sequence[str],
    *,
    threshold: float = 0.5,
    unsure_from: float = 0.5,
    device: Device = "auto",
) -> Head:
    """What an image-text model makes of the tags' prompts (Radford et al., 2021).

    A tag's vector t is the normalised mean of its normalised prompts. With the model's own factor s (and summand b):

    - SigLIP was trained to judge each pair by itself: sigmoid(s x.t + b).
    - CLIP was trained to choose. If all tags exclude each other (one group), softmax over s x.t, as in its paper.
    - Else a tag is weighed against neutral prompts that fit any picture (`BACKGROUND`), whose mean vector is g:
      sigmoid(s x.(t - g)), the choice between the tag and the backgrounds' geometric mean. It is linear, so an
      ordinary head carries it; and CLIP does not understand "not a photo of ...", so a negation would be no contrast.

    Raises:
        ConfigError: the encoder does not compare pictures with texts, no tag is for images, or a template lacks {name}.
        WeightsUnavailable: as `load_encoders`.
    """
    if not _compares(spec):
        raise ConfigError(f"{spec} does not compare pictures with texts: choose another head than `zero_shot`")
    tags = taxonomy.for_head(NAME)
    if not tags:
        raise ConfigError("the taxonomy has no tag that the image head may give: see `modalities`")
    pair = load_encoders(spec, spec, device=device, precision="fp32")
    if pair.image is None or pair.text is None:
        raise ConfigError(f"{spec} does not encode both pictures and texts")
    vectors = np.stack([class_vector(pair.text, prompts_of(taxonomy, tag, templates)) for tag in tags])
    scale, bias = _similarity(spec)
    is_choice = bias is None and exclude_each_other(taxonomy, tags)
    if bias is None and not is_choice:
        vectors = vectors - pair.text.encode(BACKGROUND).mean(axis=0)
    return label_head(
        NAME,
        "image",
        pair.image.space,
        np.ascontiguousarray((scale * vectors).T),
        np.full(len(tags), bias or 0.0, np.float32),
        model=f"zero-shot by {known_as(spec)}",
        origin="zero_shot",
        labels=tags,
        labels_of={tag: (place,) for place, tag in enumerate(tags)},
        activation="softmax" if is_choice else "sigmoid",
        thresholds=default_thresholds(tags, taxonomy, threshold=threshold, unsure_from=unsure_from),
    )


def default_thresholds(
    tags: Iterable[str], taxonomy: Taxonomy | None, *, threshold: float, unsure_from: float
) -> dict[str, Threshold]:
    """Where training says nothing: the taxonomy's threshold of a tag, else `threshold`; unsure from a share of it."""
    found = {}
    for tag in tags:
        yes = _threshold_in(taxonomy, tag)
        yes = threshold if yes is None else yes
        found[tag] = Threshold(yes=yes, unsure=yes * unsure_from)
    return found


def as_the_taxonomy_says(head: Head, taxonomy: Taxonomy | None) -> Head:
    """The head with the taxonomy's thresholds in place of its own, where it gives any."""
    thresholds: dict[str, Threshold] = {}
    for tag, own in head.spec.thresholds.items():
        yes = _threshold_in(taxonomy, tag)
        thresholds[tag] = own if yes is None else Threshold(yes=yes, unsure=min(yes, own.unsure))
    return Head(head.spec.model_copy(update={"thresholds": thresholds}), head.weights)


def known_as(spec: str) -> str:
    """The spec without a file's folder: the same head has the same version wherever its file lies."""
    kind, _, name = spec.partition(":")
    arch, _, file = name.partition("/")
    if name and Path(name).expanduser().exists():
        return f"{kind}:{Path(name).name}"
    return f"{kind}:{arch}/{Path(file).name}" if file and Path(file).expanduser().exists() else spec


def _threshold_in(taxonomy: Taxonomy | None, tag: str) -> float | None:
    definition = taxonomy.tags.get(tag) if taxonomy else None
    return definition.threshold if definition else None


def _classifier(spec: str) -> tuple[EmbeddingSpace, tuple[tuple[str, ...], ...], Vectors, Vectors]:
    """(space, names of the classes, weights float32 [L, D] for vectors of length 1, bias [L])."""
    if spec.startswith("transformers:"):
        from embeddings.transformers_image import transformers_classifier

        found = transformers_classifier(spec)
        return found.space, found.names, found.weights, found.bias
    if spec.partition("@")[0] != "bundled":
        raise ConfigError(f"{spec} has no classes of its own: name bundled@260 in `[tagging.image] encoder`")
    from embeddings.bundled_encoder import bundled_classifier, bundled_image_space, image_size

    size = image_size(spec)
    weights, bias = bundled_classifier()
    length = np.interp(size, list(_BUNDLED_LENGTHS), list(_BUNDLED_LENGTHS.values()))
    return bundled_image_space(size), imagenet_names(), weights * np.float32(length), bias


def imagenet_names() -> tuple[tuple[str, ...], ...]:
    """Of ImageNet's 1,000 classes, in their usual order: their English names, then the synset id."""
    from timm.data.imagenet_info import ImageNetInfo

    info: Any = ImageNetInfo("imagenet-1k")
    return tuple(
        (*info.index_to_description(place).split(", "), synset) for place, synset in enumerate(info.label_names())
    )


def _displayed(names: Sequence[Sequence[str]]) -> list[str]:
    """The first name of each class, with the last one behind it where two share the first: cranes fly, and lift."""
    shared = Counter(each[0].casefold() for each in names)
    return [each[0] if shared[each[0].casefold()] == 1 else f"{each[0]} ({each[-1]})" for each in names]


def prompts_of(taxonomy: Taxonomy, tag: str, templates: Sequence[str]) -> tuple[str, ...]:
    """A tag's own prompts, or the templates around its name. Raises ConfigError: a template has no place for one."""
    if own := taxonomy.tags[tag].prompts:
        return own
    lacking = [template for template in templates if "{name}" not in template]
    if lacking or not templates:
        raise ConfigError(f"a prompt template must hold {{name}}, and {lacking or 'an empty list'} does not")
    return tuple(template.replace("{name}", taxonomy.name(tag)) for template in templates)


def class_vector(text: Encoder, prompts: Sequence[str]) -> Vectors:
    """float32 [D] with L2 norm 1: the mean of the prompts' vectors (Radford et al., 2021, section 3.1.4)."""
    mean = text.encode(prompts).mean(axis=0)
    vector: Vectors = mean / np.maximum(np.linalg.norm(mean), 1e-12)
    return vector


def exclude_each_other(taxonomy: Taxonomy, tags: Sequence[str]) -> bool:
    """Whether all of them are of one group."""
    groups: Mapping[str, int] = Counter(taxonomy.tags[tag].group for tag in tags)
    return len(tags) > 1 and len(groups) == 1 and "" not in groups


def _compares(spec: str) -> bool:
    if spec.startswith("open_clip:"):
        return True
    if not spec.startswith("transformers:"):
        return False
    from embeddings.transformers_encoder import compares

    return compares(spec)


def _similarity(spec: str) -> tuple[float, float | None]:
    """(factor, summand) from a cosine to the model's own logit."""
    if spec.startswith("open_clip:"):
        from embeddings.open_clip_encoder import open_clip_similarity

        return open_clip_similarity(spec)
    from embeddings.transformers_encoder import transformers_similarity

    return transformers_similarity(spec)
