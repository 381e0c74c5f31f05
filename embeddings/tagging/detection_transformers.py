"""`transformers:<name or folder>` as a detector: which class of ours is meant, and what it is loaded from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForObjectDetection,
    AutoModelForZeroShotObjectDetection,
    AutoTokenizer,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES

from embeddings.hub import quiet_loading, weights_by_name
from embeddings.tagging.detection import TRANSFORMERS, DetectorSpec
from embeddings.tagging.prompted_detectors import GroundedDetector, OwlDetector
from embeddings.tagging.torch_detectors import ClassDetector, TransformersDetector
from embeddings.transformers_encoder import BRING
from recsys.errors import ConfigError

_PROMPTED: dict[str, type[OwlDetector | GroundedDetector]] = {
    "owlvit": OwlDetector,
    "owlv2": OwlDetector,
    "grounding-dino": GroundedDetector,
    "mm-grounding-dino": GroundedDetector,
}


def load_transformers_detector(spec: DetectorSpec, *, device: str = "cpu", threads: int = 1) -> TransformersDetector:
    """Raises ConfigError: a kind that is not built here, or prompts are missing. Raises WeightsUnavailable."""
    name = spec.model.removeprefix(TRANSFORMERS)
    with weights_by_name(spec.model, bring=BRING, local=Path(name).is_dir()), quiet_loading():
        kind = str(AutoConfig.from_pretrained(name).model_type)
        if kind not in _PROMPTED and kind not in MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES:
            raise ConfigError(f"{spec.model} is a {kind}, no detector that is built here: name a DETR or OWLv2")
        auto = AutoModelForZeroShotObjectDetection if kind in _PROMPTED else AutoModelForObjectDetection
        model: Any = auto.from_pretrained(name, dtype=torch.float32)
        processor: Any = AutoImageProcessor.from_pretrained(name, backend="pil")  # type: ignore[no-untyped-call]
        tokenizer: Any = AutoTokenizer.from_pretrained(name) if kind in _PROMPTED else None
    if kind in _PROMPTED:
        return _PROMPTED[kind](model, processor, tokenizer, spec, device=device, threads=threads)
    return ClassDetector(model, processor, spec, device=device, threads=threads)
