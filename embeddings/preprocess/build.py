"""From a preprocessing's canonical JSON back to the preprocessing itself."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from embeddings.preprocess.audio import AudioPreprocessConfig, AudioPreprocessor
from embeddings.preprocess.audio_summary import AudioSummaryConfig, AudioSummaryPreprocessor
from embeddings.preprocess.fake import FakePreprocessConfig, FakePreprocessor
from embeddings.preprocess.features import Preprocessor
from embeddings.preprocess.image import ImagePreprocessConfig, ImagePreprocessor
from embeddings.preprocess.shown import ShownPicture, ShownPictureConfig, ShownSound, ShownSoundConfig
from embeddings.preprocess.text import TextPreprocessConfig, TextPreprocessor
from recsys.errors import CorruptArtifact, MissingArtifact

AnyConfig = Annotated[
    ImagePreprocessConfig
    | TextPreprocessConfig
    | FakePreprocessConfig
    | AudioPreprocessConfig
    | AudioSummaryConfig
    | ShownPictureConfig
    | ShownSoundConfig,
    Field(discriminator="kind"),
]


def build_preprocessor(preprocessing: str, tokenizer_json: str | None) -> Preprocessor:
    """The preprocessor that an embedding space's `preprocessing` describes.

    Raises:
        CorruptArtifact: the description is of no kind this version knows.
        MissingArtifact: it is a text's, and the tokenizer is not given.
    """
    try:
        adapter: TypeAdapter[AnyConfig] = TypeAdapter(AnyConfig)
        config = adapter.validate_json(preprocessing)
    except ValidationError as error:
        raise CorruptArtifact(f"the encoder's preprocessing is unknown to this version: {error}") from None
    if isinstance(config, ImagePreprocessConfig):
        return ImagePreprocessor(config)
    if isinstance(config, FakePreprocessConfig):
        return FakePreprocessor(config)
    if isinstance(config, AudioPreprocessConfig):
        return AudioPreprocessor(config)
    if isinstance(config, AudioSummaryConfig):
        return AudioSummaryPreprocessor(config)
    if isinstance(config, ShownPictureConfig):
        return ShownPicture(config)
    if isinstance(config, ShownSoundConfig):
        return ShownSound(config)
    if tokenizer_json is None:
        raise MissingArtifact("a text encoder needs its tokenizer.json; export the encoder again")
    return TextPreprocessor(config, tokenizer_json)
