"""The `[tagging]` section of recsys.toml: which models tag the items, and when their tags count."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from recsys.config import Config

Share = Annotated[float, Field(ge=0, le=1)]
HeadName = Literal["image", "detection", "audio", "speech", "text", "fusion"]


class ImageTaggingConfig(Config):
    """The `[tagging.image]` section.

    Attributes:
        encoder: sees the pictures for tagging: any of `[encoders] image`, as `bundled@260` (its native size: better at
            1,000 classes, at twice the cost); "" takes `[encoders] image`, and so the vectors that are there already.
        head: `classifier`: the model's own classes, by the taxonomy's labels (bundled, transformers); `zero_shot`: the
            taxonomy's prompts (open_clip, CLIP, SigLIP); `trained`: what `recsys tag train --head image` made last;
            `auto` takes the first of trained, zero_shot and classifier that there is.
        templates: around a tag's name where the taxonomy gives it no prompts of its own; their mean is taken.
    """

    encoder: str = ""
    head: Literal["auto", "trained", "zero_shot", "classifier"] = "auto"
    templates: tuple[str, ...] = ("a photo of {name}.", "a picture showing {name}.", "{name}, a close-up photo.")


class DetectionConfig(Config):
    """The `[tagging.detection]` section.

    Attributes:
        model: `onnx:<YOLOX file>`, `transformers:<DETR, OWLv2 or Grounding DINO name or folder>` or `none`.
        labels: file with one label a line, for an ONNX file of other classes than COCO's 80.
        min_confidence: boxes below it are not kept, unless a tag is unsure from a lower one on.
        max_overlap: of two boxes of one class that overlap more (IoU), the less confident goes.
        max_objects: kept of one picture, the most confident.
        min_object_share: of the picture's area, for an object to be embedded by itself; 0 = all.
    """

    model: str = "none"
    labels: str = ""
    min_confidence: Share = 0.25
    max_overlap: Share = 0.45
    max_objects: Annotated[int, Field(ge=1, le=300)] = 50
    min_object_share: Share = 0.01


class AudioTaggingConfig(Config):
    """The `[tagging.audio]` section.

    Attributes:
        encoder: hears the sounds for tagging: `tflite:<YAMNet file>`, `transformers:<AST or CLAP name or folder>`; ""
            takes `[encoders] audio`; `none` switches it off.
        head: as for images.
        templates: as for images, for CLAP.
    """

    encoder: str = ""
    head: Literal["auto", "trained", "zero_shot", "classifier"] = "auto"
    templates: tuple[str, ...] = ("the sound of {name}.", "{name}.")


class SpeechConfig(Config):
    """The `[tagging.speech]` section: words that are spoken in `audio` become the item's transcript.

    Attributes:
        model: `bundled` (Whisper base), `whisper:<faster-whisper name or folder>` or `none`.
        language: as `en`; "" = the model tells.
        beam_size: 1 is fastest.
        max_minutes: longer recordings are refused.
    """

    model: str = "bundled"
    language: str = ""
    beam_size: Annotated[int, Field(ge=1, le=10)] = 1
    max_minutes: Annotated[float, Field(gt=0)] = 120.0


class TagTrainingConfig(Config):
    """The `[tagging.training]` section: `recsys tag train`.

    Attributes:
        fusion: how vectors of several kinds come together: side by side, or each weighed by a gate.
        hidden: width of a layer between vectors and tags; 0 = none: logistic regression.
        folds: of the k-fold report.
        max_epochs, patience: training stops when validation has not improved for `patience` epochs.
        learning_rate, weight_decay: of AdamW; the rate is of vectors of 1,024 numbers, shorter ones take longer steps.
            Without a hidden layer there is an L2 penalty beside them that falls from epoch to epoch, so that the best
            epoch is the best penalty.
        class_weights: whether rare tags count as much as frequent ones: it makes confidences too high, which
            calibration mends, and where thresholds are by tag it gained nothing on posters and plots.
        calibration: `auto` takes whichever of isotonic and a temperature is better on labels it was not fitted on.
        target_precision: a tag's threshold is the lowest confidence that reaches it on held-out labels.
        sureness: how sure that must be, given how few they are. .5 takes the measured precision as it is, which on
            fresh posters was up to .09 too good: of many confidences the lowest that reaches it is a lucky one.
        abstain_precision: a no below the threshold must be right so often, else the verdict is `unsure`.
        pseudo_confidence: unlabelled items above it are learned from, too, if held-out labels say that it helps; 0 =
            never.
        lora_rank, lora_blocks, lora_epochs: with `--finetune`: rank of the adapters, last blocks of the encoder that
            get them, and passes over the labelled items.
        seed: of folds, initial weights and order.
    """

    fusion: Literal["concat", "gated"] = "concat"
    hidden: Annotated[int, Field(ge=0, le=4096)] = 0
    folds: Annotated[int, Field(ge=2, le=20)] = 5
    max_epochs: Annotated[int, Field(ge=1)] = 100
    patience: Annotated[int, Field(ge=1)] = 15
    learning_rate: Annotated[float, Field(gt=0)] = 1e-2
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    class_weights: bool = False
    calibration: Literal["auto", "temperature", "isotonic", "none"] = "auto"
    target_precision: Share = 0.9
    sureness: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    abstain_precision: Share = 0.98
    pseudo_confidence: Share = 0.0
    lora_rank: Annotated[int, Field(ge=1, le=256)] = 8
    lora_blocks: Annotated[int, Field(ge=1)] = 2
    lora_epochs: Annotated[int, Field(ge=1)] = 5
    seed: int = 0


class TaggingConfig(Config):
    """The `[tagging]` section.

    Attributes:
        taxonomy: TOML file of the tags, relative to the workspace; "" = each label of a model is a tag.
        threshold: confidence from which a tag counts, where neither the taxonomy nor training says one.
        unsure_from: share of its threshold from which a tag is `unsure` instead of no, where training says nothing.
    """

    taxonomy: str = ""
    threshold: Share = 0.5
    unsure_from: Share = 0.5
    image: ImageTaggingConfig = ImageTaggingConfig()
    detection: DetectionConfig = DetectionConfig()
    audio: AudioTaggingConfig = AudioTaggingConfig()
    speech: SpeechConfig = SpeechConfig()
    training: TagTrainingConfig = TagTrainingConfig()
