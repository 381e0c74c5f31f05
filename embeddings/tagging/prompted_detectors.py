"""Detectors of transformers that find what a text names: OWL-ViT, OWLv2 and Grounding DINO."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from embeddings.preprocess.features import Features
from embeddings.tagging.detection import DetectorSpec, Found
from embeddings.tagging.torch_detectors import TransformersDetector
from recsys.errors import ConfigError


@dataclass(frozen=True)
class _Text:
    """Prompts that Grounding DINO reads at once.

    Attributes:
        ids: int64 [1, T].
        spans: of each prompt, its label and where its words stand.
    """

    ids: torch.Tensor
    spans: list[tuple[int, slice]]


class PromptedDetector(TransformersDetector):
    """Finds what its prompts name; several of them may mean one label."""

    def __init__(
        self, model: Any, processor: Any, tokenizer: Any, spec: DetectorSpec, *, device: str, threads: int
    ) -> None:
        """Raises ConfigError: there is nothing to look for."""
        if not any(spec.prompts.values()):
            raise ConfigError(f"{spec.model} finds what a text names: give it tags, in [tagging] taxonomy")
        super().__init__(
            model, processor, spec, list(spec.prompts), device=device, threads=threads, labels_are_tags=True
        )
        self._tokenizer = tokenizer
        self._prompts = [prompt for prompts in spec.prompts.values() for prompt in prompts]
        self._label_of = np.repeat(np.arange(len(spec.prompts)), [len(each) for each in spec.prompts.values()])


class OwlDetector(PromptedDetector):
    """OWL-ViT and OWLv2: each patch of the picture is compared with each prompt."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        length = int(self._model.config.text_config.max_position_embeddings)
        texts = self._tokenizer(
            self._prompts, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        self._ids, self._mask = (texts[key].to(self._device) for key in ("input_ids", "attention_mask"))

    def found(self, features: Sequence[Features]) -> list[Found]:
        n = len(features)
        with torch.inference_mode():
            outputs = self._model(
                input_ids=self._ids.repeat(n, 1),
                attention_mask=self._mask.repeat(n, 1),
                pixel_values=self._pixels(features),
            )
            read = self._read(outputs, features)
        return [Found(each.boxes, each.scores, self._label_of[each.labels]) for each in read]


class GroundedDetector(PromptedDetector):
    """Grounding DINO: it reads all prompts as one text, `a dog. a red car.`, and points at words of it.

    A box is as sure of a prompt as of the surest of its words. Prompts that do not fit into one text take turns.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        most = int(self._model.config.max_text_len)
        stop = self._tokenizer.convert_tokens_to_ids(".")
        self._texts: list[_Text] = []
        ids: list[int] = []
        spans: list[tuple[int, slice]] = []
        for label, prompt in zip(self._label_of, self._prompts, strict=True):
            words = self._tokenizer(_plain(prompt), add_special_tokens=False)["input_ids"][: most - 3]
            if not words:
                raise ConfigError(f"the prompt {prompt!r} holds no word: name what can be seen, in [tagging] taxonomy")
            if len(ids) + len(words) + 3 > most:
                self._texts.append(self._text(ids, spans))
                ids, spans = [], []
            spans.append((int(label), slice(1 + len(ids), 1 + len(ids) + len(words))))
            ids += [*words, stop]
        self._texts.append(self._text(ids, spans))

    def found(self, features: Sequence[Features]) -> list[Found]:
        pixels = self._pixels(features)
        parts = [self._found(pixels, features, text) for text in self._texts]
        return [
            Found(*(np.concatenate([getattr(part[place], key) for part in parts]) for key in Found.__annotations__))
            for place in range(len(features))
        ]

    def _found(self, pixels: torch.Tensor, features: Sequence[Features], text: _Text) -> list[Found]:
        n = len(features)
        with torch.inference_mode():
            outputs = self._model(
                pixel_values=pixels,
                input_ids=text.ids.repeat(n, 1),
                token_type_ids=torch.zeros_like(text.ids).repeat(n, 1),
                attention_mask=torch.ones_like(text.ids).repeat(n, 1),
            )
            words = outputs.logits.sigmoid()  # B x Q x max_text_len
            scores = torch.stack([words[:, :, span].amax(dim=2) for _, span in text.spans], dim=2)
            best, places = scores.max(dim=2)
        labels = np.array([label for label, _ in text.spans])[places.cpu().numpy()]
        boxes = _corners(outputs.pred_boxes, features)
        return [Found(*each) for each in zip(boxes, best.cpu().numpy(), labels, strict=True)]

    def _text(self, ids: list[int], spans: list[tuple[int, slice]]) -> _Text:
        with_ends = [self._tokenizer.cls_token_id, *ids, self._tokenizer.sep_token_id]
        return _Text(torch.tensor([with_ends], device=self._device), spans)


def _plain(prompt: str) -> str:
    """A prompt without the marks that end one."""
    return " ".join(prompt.lower().replace(".", " ").replace("?", " ").split())


def _corners(boxes: torch.Tensor, features: Sequence[Features]) -> np.ndarray:
    """Centres and sizes [B, Q, 4] in [0, 1] → corners on the canvas."""
    height, width = features[0].shape[0] - 1, features[0].shape[1]
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    corners = torch.cat([centre - half, centre + half], dim=-1).cpu().numpy()
    scaled: np.ndarray = corners * np.array([width, height] * 2, np.float32)
    return scaled
