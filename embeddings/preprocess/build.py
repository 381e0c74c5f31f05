"""From a preprocessing's canonical JSON back to the preprocessing itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from embeddings.preprocess.audio import AudioPreprocessConfig, AudioPreprocessor
from embeddings.preprocess.audio_summary import AudioSummaryConfig, AudioSummaryPreprocessor
from embeddings.preprocess.boxed import BoxedPreprocessConfig, BoxedPreprocessor
from embeddings.preprocess.crop import CropPreprocessConfig, CropPreprocessor
from embeddings.preprocess.fake import FakePreprocessConfig, FakePreprocessor
from embeddings.preprocess.features import Preprocessor
from embeddings.preprocess.image import ImagePreprocessConfig, ImagePreprocessor
from embeddings.preprocess.shown import ShownPicture, ShownPictureConfig, ShownSound, ShownSoundConfig
from embeddings.preprocess.speech import SpeechPreprocessConfig, SpeechPreprocessor
from embeddings.preprocess.text import TextPreprocessConfig, TextPreprocessor
from embeddings.preprocess.waveform_frames import WaveformFramesConfig, WaveformFramesPreprocessor
from recsys.config import Config
from recsys.errors import CorruptArtifact, MissingArtifact

AnyConfig = Annotated[
    ImagePreprocessConfig
    | TextPreprocessConfig
    | FakePreprocessConfig
    | AudioPreprocessConfig
    | AudioSummaryConfig
    | ShownPictureConfig
    | ShownSoundConfig
    | SpeechPreprocessConfig
    | WaveformFramesConfig
    | BoxedPreprocessConfig
    | CropPreprocessConfig,
    Field(discriminator="kind"),
]


_PREPROCESSORS: Mapping[type[Config], Callable[[Any], Preprocessor]] = {
    ImagePreprocessConfig: ImagePreprocessor,
    FakePreprocessConfig: FakePreprocessor,
    AudioPreprocessConfig: AudioPreprocessor,
    AudioSummaryConfig: AudioSummaryPreprocessor,
    SpeechPreprocessConfig: SpeechPreprocessor,
    WaveformFramesConfig: WaveformFramesPreprocessor,
    BoxedPreprocessConfig: BoxedPreprocessor,
    CropPreprocessConfig: CropPreprocessor,
    ShownPictureConfig: ShownPicture,
    ShownSoundConfig: ShownSound,
}
"""Of all kinds but texts, which need a tokenizer as well."""


def build_preprocessor(preprocessing: str, tokenizer_json: str | None) -> Preprocessor:
    """The preprocessor that an embedding space's `preprocessing` describes.

    Raises:
        CorruptArtifact: the description is of no kind this version knows.
        MissingArtifact: it is a text's, and the tokenizer is not given.
    """
    config = config_of(preprocessing)
    if not isinstance(config, TextPreprocessConfig):
        preprocessor: Preprocessor = _PREPROCESSORS[type(config)](config)
        return preprocessor
    if tokenizer_json is None:
        raise MissingArtifact("a text encoder needs its tokenizer.json; export the encoder again")
    return TextPreprocessor(config, tokenizer_json)


def config_of(preprocessing: str) -> AnyConfig:
    """Raises CorruptArtifact: the description is of no kind this version knows."""
    adapter: TypeAdapter[AnyConfig] = TypeAdapter(AnyConfig)
    try:
        return adapter.validate_json(preprocessing)
    except ValidationError as error:
        raise CorruptArtifact(f"the encoder's preprocessing is unknown to this version: {error}") from None
