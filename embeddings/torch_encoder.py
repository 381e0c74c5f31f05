"""The forward pass through torch: parity's reference, the exporter's source, and the jobs' encoder in bfloat16."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from embeddings.batching import BatchLimits
from embeddings.encoder import BaseEncoder, Encoder, OnnxForm, Vectors
from embeddings.onnx_export import onnx_bytes
from embeddings.preprocess.features import Features, Preprocessor
from embeddings.preprocess.image import ImagePreprocessor
from embeddings.rounding import round_matrices
from recsys.errors import CorruptArtifact
from recsys.manifest import EmbeddingSpace, canonical_json

COMPUTE_PLAIN = "torch-fp32-cpu"


class TorchEncoder(BaseEncoder):
    """A tower: a module that takes the batch's arrays by name and gives float [B, D].

    Attributes:
        original: gives this encoder again with the weights as they were stored; a rounded encoder needs it for its
            ONNX form.
    """

    def __init__(
        self,
        tower: torch.nn.Module,
        space: EmbeddingSpace,
        preprocessor: Preprocessor,
        *,
        input_names: tuple[str, ...],
        device: str = "cpu",
        bf16: bool = False,
        rounded: Sequence[torch.nn.Module] = (),
        cuts_padding: bool = False,
    ) -> None:
        """Takes the tower over: with `bf16` its weights are rounded in place.

        Args:
            rounded: parts of the tower that become bfloat16 as a whole, and cast what they are given themselves; by
                default its matrices do, under autocast.
            cuts_padding: the tower takes texts shorter than the preprocessor pads them to.
        """
        self._device = torch.device(device)
        compute = f"torch-{'bf16' if bf16 else 'fp32'}-{self._device.type}"
        super().__init__(space, preprocessor, compute=compute, limits=_limits(space.modality, self._device.type, bf16))
        self.original: Callable[[], Encoder | None] | None = None
        self._bf16 = bf16
        self._autocast = bf16 and not rounded
        self._input_names = input_names
        self._cuts_padding = cuts_padding
        self._fixed_size = 0
        if bf16:
            for part in rounded:
                part.to(torch.bfloat16)
            if self._autocast:
                round_matrices(tower)
        self._tower = self._placed(tower.eval())
        self._call: Callable[..., torch.Tensor] = self._tower
        self._transfers: torch.cuda.Stream | None = None
        if self._device.type == "cuda":
            self._transfers = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        if isinstance(preprocessor, ImagePreprocessor):
            config = preprocessor.config
            self._mean, self._std = (
                torch.tensor(triple, dtype=torch.float32, device=self._device).view(1, 3, 1, 1)
                for triple in (config.mean, config.std)
            )

    @property
    def tower(self) -> torch.nn.Module:
        """The module that computes the vectors, on the encoder's device."""
        return self._tower

    def compile(self, *, backend: str = "inductor") -> None:
        """Let torch compile the tower: up to minutes at the first batches, then faster on a GPU.

        Batches of pictures are filled up to `limits.max_items`, so that there is one shape to compile.
        """
        if isinstance(self.preprocessor, ImagePreprocessor):
            self._fixed_size = self.limits.max_items
            mode = "reduce-overhead" if (backend, self._device.type) == ("inductor", "cuda") else None
            self._call = torch.compile(self._tower, dynamic=False, mode=mode, backend=backend)
        else:
            self._call = torch.compile(self._tower, dynamic=True, backend=backend)

    def forward(self, features: Sequence[Features]) -> Vectors:
        return self._start(features).read()

    def forward_many(self, batches: Iterable[list[Features]]) -> Iterator[Vectors]:
        if self._device.type == "cpu":
            with one_thread_a_batch():
                yield from super().forward_many(batches)
            return
        yield from self._one_ahead(batches)

    def _one_ahead(self, batches: Iterable[list[Features]]) -> Iterator[Vectors]:
        """Start a batch before waiting for the one before it."""
        running: _Running | None = None
        for features in batches:
            started = self._start(features)
            if running is not None:
                yield self.postprocess(running.read())
            running = started
        if running is not None:
            yield self.postprocess(running.read())

    def onnx_form(self) -> OnnxForm:
        """The weights as they were stored, which rounded ones are loaded again for.

        Raises:
            CorruptArtifact: other weights lie there by now.
        """
        if self._bf16:
            original = self.original() if self.original is not None else None
            if original is None:
                raise RuntimeError("a rounded encoder is exported from the one it was made from: set `original`")
            if original.space != self.space:
                raise CorruptArtifact("the encoder's weights were exchanged while it was at work: run the job again")
            return original.onnx_form()
        example = {name: torch.from_numpy(array) for name, array in self._example().items()}
        tower = self._tower.cpu().to(memory_format=torch.contiguous_format)
        model = onnx_bytes(tower, example, self._input_names)
        self._placed(tower)
        return OnnxForm(model, self.space, self.preprocessor.tokenizer_json)

    def _start(self, features: Sequence[Features]) -> _Running:
        """Queue one batch; a GPU computes it while the caller goes on."""
        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
            if isinstance(self.preprocessor, ImagePreprocessor):
                outputs = self._call(self.pixels(features))
            else:
                outputs = self._call(*self._arrays(features))
            return _Running.of(outputs[: len(features)])

    def pixels(self, features: Sequence[Features]) -> torch.Tensor:
        """uint8 [S, S, 3] each → normalised [B, 3, S, S], which lies in memory as [B, S, S, 3]: channels last."""
        n_rows = max(len(features), self._fixed_size)
        host = torch.zeros((n_rows, *features[0].shape), dtype=torch.uint8, pin_memory=self._transfers is not None)
        np.stack(features, out=host[: len(features)].numpy())
        pixels = self._on_device(host).permute(0, 3, 1, 2).to(torch.float32)
        pixels = pixels.div_(255.0).sub_(self._mean).div_(self._std)
        return pixels.to(torch.bfloat16) if self._bf16 else pixels

    def _arrays(self, features: Sequence[Features]) -> list[torch.Tensor]:
        batch = self.preprocessor.collate(features)
        if self._cuts_padding:
            longest = max(len(ids) for ids in features)
            batch = {name: np.ascontiguousarray(array[:, :longest]) for name, array in batch.items()}
        tensors = [torch.from_numpy(batch[name]) for name in self._input_names]
        return [self._on_device(tensor.pin_memory() if self._transfers else tensor) for tensor in tensors]

    def _on_device(self, host: torch.Tensor) -> torch.Tensor:
        if self._transfers is None:
            return host.to(self._device)
        # On a stream of its own, the copy does not wait for the batch that is being computed.
        with torch.cuda.stream(self._transfers):
            tensor = host.to(self._device, non_blocking=True)
        computing = torch.cuda.current_stream(self._device)
        computing.wait_stream(self._transfers)
        tensor.record_stream(computing)
        return tensor

    def _placed(self, tower: torch.nn.Module) -> torch.nn.Module:
        tower = tower.to(self._device)
        is_fast = self._bf16 or self._device.type == "cuda"
        if isinstance(self.preprocessor, ImagePreprocessor) and is_fast:
            tower = tower.to(memory_format=torch.channels_last)
        return tower

    def _example(self) -> dict[str, Any]:
        if isinstance(self.preprocessor, ImagePreprocessor):
            size = self.preprocessor.config.size
            return self.preprocessor.collate([np.zeros((size, size, 3), dtype=np.uint8)] * 2)
        ids = self.preprocessor("a short text of several words")
        return self.preprocessor.collate([ids, ids[: len(ids) // 2]])


@dataclass(frozen=True)
class _Running:
    """One batch on its way back from the device."""

    host: torch.Tensor
    arrived: torch.cuda.Event | None

    @classmethod
    def of(cls, outputs: torch.Tensor) -> _Running:
        if outputs.device.type != "cuda":
            return cls(outputs.float(), None)
        host = torch.empty(outputs.shape, dtype=torch.float32, pin_memory=True)
        host.copy_(outputs.float(), non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record(torch.cuda.current_stream(outputs.device))
        return cls(host, arrived)

    def read(self) -> Vectors:
        """float32 [B, D]; waits for it."""
        if self.arrived is not None:
            self.arrived.synchronize()
        vectors: Vectors = self.host.numpy()
        return vectors


@contextmanager
def one_thread_a_batch() -> Iterator[None]:
    """torch computes in the calling thread alone.

    Batches side by side need not wait for each other after every layer, as the threads of one batch do; and their bytes
    do not depend on how many threads there are.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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


def _limits(modality: str, device: str, bf16: bool) -> BatchLimits:
    """Measured on a CPU (AMX); on a GPU, sizes that fill it."""
    if device == "cuda":
        return BatchLimits(max_items={"text": 1024, "image": 256}.get(modality, 64), max_tokens=65_536)
    if bf16:
        return BatchLimits(max_items=256 if modality == "text" else 32, max_tokens=2048)
    return BatchLimits()
