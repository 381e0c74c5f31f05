"""Detectors of transformers: the DETR family, which finds the classes that it was trained for.

Boxes and scores are read by the model's own image processor (`post_process_object_detection`), on the canvas that
`embeddings.preprocess.boxed` made. In float32 everywhere: bfloat16 moves boxes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch

from embeddings.batching import BatchLimits
from embeddings.encoder import Vectors
from embeddings.preprocess.boxed import BoxedPreprocessConfig
from embeddings.preprocess.features import Features
from embeddings.tagging.detection import Detector, DetectorSpec, Found
from embeddings.torch_encoder import one_thread_a_batch, weights_sha256
from recsys.errors import ConfigError

_MULTIPLE_OF = {"yolos": 16}
_NO_FACTS = frozenset(("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures"))
_INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}


class TransformersDetector(Detector):
    """A detector in torch."""

    def __init__(
        self,
        model: Any,
        processor: Any,
        spec: DetectorSpec,
        labels: Sequence[str],
        *,
        device: str,
        threads: int,
        labels_are_tags: bool,
    ) -> None:
        kind = str(model.config.model_type)
        super().__init__(
            f"transformers:{kind}",
            weights_sha256(model, _facts(model.config)),
            boxed_preprocessing(processor, kind),
            spec,
            labels,
            compute=f"torch-fp32-{device}",
            limits=BatchLimits(max_items=16 if device == "cuda" else 4),
            parallel=threads if device == "cpu" else 1,
            labels_are_tags=labels_are_tags,
        )
        self._model = model.eval().to(device)
        self._processor = processor
        self._device = torch.device(device)
        shape = (1, 3, 1, 1)
        self._mean = torch.tensor(self._preprocessing.mean, device=device).view(shape)
        self._std = torch.tensor(self._preprocessing.std, device=device).view(shape)

    def forward_many(self, batches: Iterable[list[Features]]) -> Iterator[Vectors]:
        with one_thread_a_batch() if self._device.type == "cpu" else nullcontext():
            yield from super().forward_many(batches)

    def _pixels(self, features: Sequence[Features]) -> torch.Tensor:
        """Normalised float32 [B, 3, H, W] on the device."""
        levels = torch.from_numpy(self.preprocessor.collate(features)["pixels"]).to(self._device)
        return levels.permute(0, 3, 1, 2).float().div(255.0).sub(self._mean).div(self._std)

    def _read(self, outputs: Any, features: Sequence[Features]) -> list[Found]:
        """Everything that the model's own processor reads out of its outputs, on the canvas."""
        height, width = features[0].shape[0] - 1, features[0].shape[1]
        sizes = [(height, width)] * len(features)
        read = self._processor.post_process_object_detection(outputs, threshold=-1.0, target_sizes=sizes)
        return [Found(*(each[key].cpu().numpy() for key in ("boxes", "scores", "labels"))) for each in read]


class ClassDetector(TransformersDetector):
    """Finds the classes that it was trained for: the DETR family, YOLOS."""

    def __init__(self, model: Any, processor: Any, spec: DetectorSpec, *, device: str, threads: int) -> None:
        names = model.config.id2label
        labels = [str(names[place]) for place in range(len(names))]
        super().__init__(model, processor, spec, labels, device=device, threads=threads, labels_are_tags=False)

    def found(self, features: Sequence[Features]) -> list[Found]:
        with torch.inference_mode():
            return self._read(self._model(pixel_values=self._pixels(features)), features)


def boxed_preprocessing(processor: Any, kind: str) -> BoxedPreprocessConfig:
    """What an image processor does, as our configuration.

    OWLv2's resizes with a Gaussian blur before it; Pillow's antialiasing stands for that here.

    Raises:
        ConfigError: what is not built here.
    """
    size = dict(processor.size)
    height, width = size.get("height"), size.get("width")
    shortest, longest = size.get("shortest_edge"), size.get("longest_edge")
    resample = int(processor.resample)
    is_square = kind == "owlv2"
    is_known = (height and width) or (shortest and longest)
    if not (processor.do_resize and processor.do_rescale and is_known and resample in _INTERPOLATIONS):
        raise ConfigError(f"a {kind} that prepares pictures with size {size} and filter {resample} is not built here")
    if abs(processor.rescale_factor * 255 - 1) > 1e-6 or getattr(processor, "pad_size", None):
        raise ConfigError(f"a {kind} with factor {processor.rescale_factor} or a pad_size is not built here")
    common: dict[str, Any] = {"interpolation": _INTERPOLATIONS[resample]}
    if processor.do_normalize:
        common |= {"mean": tuple(processor.image_mean), "std": tuple(processor.image_std)}
    if height and width:
        fit = "letterbox" if is_square else "squash"
        return BoxedPreprocessConfig(fit=fit, width=width, height=height, **common)
    multiple_of = _MULTIPLE_OF.get(kind, 1)
    return BoxedPreprocessConfig(
        fit="edges", shortest_edge=shortest, longest_edge=longest, multiple_of=multiple_of, **common
    )


def _facts(config: Any) -> Any:
    """A model's configuration without what does not touch its records."""

    def cleaned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: cleaned(each) for key, each in value.items() if key not in _NO_FACTS}
        return value

    return cleaned(json.loads(config.to_json_string(use_diff=False)))
