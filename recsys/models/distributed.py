"""The same training at any number of ranks: process group, sharding, optimizers, and state that reshards.

gloo on CPU and nccl on GPU. A single process needs no launcher; under `torchrun` its environment is read by torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from torch import Tensor
from torch._C._distributed_c10d import HashStore
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.embedding import EmbeddingCollectionSharder
from torchrec.distributed.planner import EmbeddingShardingPlanner, ParameterConstraints, Topology

from recsys.models.config import TrainingConfig
from recsys.models.two_tower import TABLE, Batch, TwoTower


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """A process group for the time of the block: the one there is, torchrun's, or one of this process alone."""
    if dist.is_initialized():
        yield
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    if dist.is_torchelastic_launched():
        dist.init_process_group(backend)
    else:
        dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def training_device() -> torch.device:
    """The GPU of this rank where there is one, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local_rank = dist.get_node_local_rank(fallback_rank=0)
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


@dataclass
class Learner:
    """A sharded model and what updates it.

    Attributes:
        wrapped: call it for the loss.
        towers: the same model inside, for item and query vectors.
        dense: AdamW over everything that has no fused optimizer.
        fused_learning_rate: at its peak; the fused optimizer updates the table inside `backward`.
    """

    wrapped: DistributedModelParallel
    towers: TwoTower
    dense: torch.optim.AdamW
    learning_rate: float
    fused_learning_rate: float

    def step(self, batch: Batch, share: float) -> Tensor:
        """One update at a share (0..1) of the peak learning rates; the loss before it, float32 []."""
        fused = self.wrapped.fused_optimizer
        for group in self.dense.param_groups:
            group["lr"] = self.learning_rate * share
        for group in fused.param_groups:
            group["lr"] = self.fused_learning_rate * share
        fused.step()  # hands its learning rate to the table, which reads it in the forward pass
        self.dense.zero_grad()
        loss: Tensor = self.wrapped(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        self.dense.step()
        return loss.detach()

    def weights(self) -> dict[str, Tensor]:
        """Name → tensor that shares memory with the model; a table split over ranks is a DTensor."""
        return {name: _as_dtensor(value) for name, value in self.wrapped.state_dict().items()}

    def optimizer_state(self) -> dict[str, Tensor]:
        """Name → the optimizers' tensors in the same form. AdamW's step counts are not here: see `set_step`."""
        state: dict[str, Tensor] = {}
        for name, parameter in self.wrapped.named_parameters():
            moments = self.dense.state.get(parameter, {})
            state |= {f"{name}.{key}": moments[key] for key in ("exp_avg", "exp_avg_sq") if key in moments}
        for name, moments in self.wrapped.fused_optimizer.state_dict()["state"].items():
            state |= {f"{name}.{key}": _as_dtensor(value) for key, value in moments.items()}
        return state

    def set_step(self, step: int) -> None:
        """Set AdamW's step counts, which all equal the number of steps done."""
        for moments in self.dense.state.values():
            moments["step"].fill_(step)


def make_learner(towers: TwoTower, n_items: int, config: TrainingConfig, device: torch.device) -> Learner:
    """Shard the id table, wrap the rest in DistributedDataParallel, and make the optimizers."""
    fused = config.table_optimizer_for(n_items) == "rowwise_adagrad"
    fused_params = {
        "optimizer": EmbOptimType.EXACT_ROWWISE_ADAGRAD,
        "learning_rate": config.fused_learning_rate,
        "eps": 1e-8,
    }
    sharder = EmbeddingCollectionSharder(fused_params=fused_params if fused else None)
    constraint = ParameterConstraints(
        sharding_types=["row_wise" if fused else "data_parallel"], compute_kernels=["fused" if fused else "dense"]
    )
    topology = Topology(world_size=dist.get_world_size(), compute_device=device.type)
    planner = EmbeddingShardingPlanner(topology=topology, constraints={TABLE: constraint})
    plan = planner.collective_plan(towers, [sharder], dist.GroupMember.WORLD)
    wrapped = DistributedModelParallel(towers, device=device, plan=plan, sharders=[sharder])
    fused_names = set(wrapped.fused_optimizer.params)
    dense = [parameter for name, parameter in wrapped.named_parameters() if name not in fused_names]
    optimizer = torch.optim.AdamW(dense, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay)
    for parameter in dense:  # AdamW makes its state at the first step; a checkpoint must find it before
        optimizer.state[parameter] = {
            "step": torch.tensor(0.0),
            "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
        }
    return Learner(wrapped, wrapped.module, optimizer, config.learning_rate, config.fused_learning_rate)


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of all tensors in full, on the CPU. Every rank must call it at once."""
    full = {name: value.full_tensor() if isinstance(value, DTensor) else value for name, value in tensors.items()}
    return {name: value.detach().cpu().clone().contiguous() for name, value in full.items()}


def _as_dtensor(value: Tensor) -> Tensor:
    """TorchRec's ShardedTensor as a DTensor, which torch's checkpoints can split anew."""
    if not hasattr(value, "local_shards"):
        return value.detach()
    shards = value.local_shards()
    size = value.size()
    local = shards[0].tensor if shards else torch.empty((0, *size[1:]))
    mesh = init_device_mesh(local.device.type, (dist.get_world_size(),))
    stride = torch.empty(size, device="meta").stride()
    return DTensor.from_local(local.detach(), mesh, [Shard(0)], run_check=False, shape=size, stride=stride)
