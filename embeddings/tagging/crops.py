"""Objects embedded by themselves, so that "similar to this object" works.

`crop:<image encoder>` names an encoder of objects, and `picture.jpg#xyxy=10,20,200,300` is a reference that names one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from embeddings.encoder import BaseEncoder, Encoder, OnnxForm, Vectors
from embeddings.preprocess.crop import CropPreprocessConfig, CropPreprocessor, PixelBox, crop_content
from embeddings.preprocess.fake import FakePreprocessConfig
from embeddings.preprocess.features import Features
from embeddings.preprocess.image import ImagePreprocessConfig
from embeddings.reading import ContentReader
from embeddings.refused import Refused
from recsys.errors import ConfigError
from recsys.manifest import canonical_json

PREFIX = "crop:"
_BOX = re.compile(r"(?s)(.+)#xyxy=(\d{1,6}),(\d{1,6}),(\d{1,6}),(\d{1,6})")


def crop_reference(reference: str, box: PixelBox) -> str:
    """The reference of one object of the picture that `reference` names."""
    return f"{reference}#xyxy={box[0]},{box[1]},{box[2]},{box[3]}"


class CropReader:
    """A ContentReader of objects: what `crop_reference` names, through a reader of pictures."""

    def __init__(self, pictures: ContentReader) -> None:
        self._pictures = pictures

    def stamp(self, reference: str) -> str | None:
        """Its picture's: an object changes when that does."""
        parsed = _BOX.fullmatch(reference)
        return self._pictures.stamp(parsed[1]) if parsed else None

    def read(self, reference: str) -> bytes:
        """The content for `crop:` encoders. Raises Refused."""
        parsed = _BOX.fullmatch(reference)
        if parsed is None:
            raise Refused("not_found", f"{reference} names no object: write picture.jpg#xyxy=10,20,200,300")
        x0, y0, x1, y1 = (int(edge) for edge in parsed.groups()[1:])
        return crop_content((x0, y0, x1, y1), self._pictures.read(parsed[1]))

    def close(self) -> None:
        self._pictures.close()


class CropEncoder(BaseEncoder):
    """An image encoder that is shown objects: its vectors are those of the pictures that the objects are."""

    def __init__(self, inner: Encoder) -> None:
        """Raises ConfigError: the encoder's preprocessing cannot be given a part of a picture."""
        image = inner.preprocessor.config
        if not isinstance(image, ImagePreprocessConfig | FakePreprocessConfig) or inner.space.modality != "image":
            raise ConfigError(f"{inner.space.encoder} encodes no pictures: name an image encoder behind crop:")
        preprocessor = CropPreprocessor(CropPreprocessConfig(image=image))
        space = inner.space.model_copy(
            update={
                "encoder": PREFIX + inner.space.encoder,
                "preprocessing": canonical_json(preprocessor.config.model_dump(mode="json")),
            }
        )
        super().__init__(space, preprocessor, compute=inner.compute, limits=inner.limits)
        self._inner = inner

    def forward(self, features: Sequence[Features]) -> Vectors:
        return self._inner.forward(features)

    def forward_many(self, batches: Iterable[list[Features]]) -> Iterator[Vectors]:
        return self._inner.forward_many(batches)

    def onnx_form(self) -> OnnxForm:
        return replace(self._inner.onnx_form(), space=self.space)
