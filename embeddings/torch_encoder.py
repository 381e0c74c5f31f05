"""The forward pass through torch: parity's reference, the exporter's source, and the jobs' encoder on a GPU."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from embeddings.encoder import BaseEncoder, OnnxForm, Vectors
from embeddings.onnx_export import onnx_bytes
from embeddings.preprocess.features import Features, Preprocessor
from recsys.manifest import EmbeddingSpace, canonical_json


class TorchEncoder(BaseEncoder):
    """A tower: a module that takes the batch's arrays by name and gives float [B, D]."""

    def __init__(
        self,
        tower: torch.nn.Module,
        space: EmbeddingSpace,
        preprocessor: Preprocessor,
        *,
        input_names: tuple[str, ...],
        device: str = "cpu",
        bf16: bool = False,
    ) -> None:
        super().__init__(space, preprocessor)
        self._tower = tower.eval().to(device)
        self._input_names = input_names
        self._device = device
        self._bf16 = bf16
        if "pixels" in input_names and bf16:
            self._tower.to(memory_format=torch.channels_last)

    def forward(self, features: Sequence[Features]) -> Vectors:
        batch = self.preprocessor.collate(features)
        inputs = [self._on_device(torch.from_numpy(batch[name])) for name in self._input_names]
        with torch.inference_mode(), torch.autocast(self._device, dtype=torch.bfloat16, enabled=self._bf16):
            outputs: torch.Tensor = self._tower(*inputs)
        vectors: Vectors = outputs.float().cpu().numpy().astype(np.float32, copy=False)
        return vectors

    def onnx_form(self) -> OnnxForm:
        example = {name: torch.from_numpy(array) for name, array in self._example().items()}
        tower = self._tower.cpu().to(memory_format=torch.contiguous_format)
        model = onnx_bytes(tower, example, self._input_names)
        tower.to(self._device)
        return OnnxForm(model, self.space, self.preprocessor.tokenizer_json)

    def _on_device(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.ndim == 4 and self._bf16:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        return tensor.to(self._device, non_blocking=True)

    def _example(self) -> dict[str, Any]:
        if "pixels" in self._input_names:
            size = self.preprocessor.config.model_dump()["size"]
            return self.preprocessor.collate([np.zeros((3, size, size), dtype=np.float32)] * 2)
        ids = self.preprocessor("a short text of several words")
        return self.preprocessor.collate([ids, ids[: len(ids) // 2]])


def weights_sha256(module: torch.nn.Module, facts: dict[str, Any]) -> str:
    """sha256 over the tensors by name, type, shape and bytes: the same in whatever file they were stored.

    Args:
        facts: what shapes do not tell and vectors depend on (number of heads, activation).
    """
    digest = hashlib.sha256(canonical_json(facts).encode())
    for name, tensor in sorted(module.state_dict().items()):
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
