"""Low-rank adapters on the last blocks of a tower, through peft: found, added, merged.

A layer W [O, I] learns B A beside it, with A [r, I] and B [O, r]; merged it is W + alpha / r B A, and no slower (Hu et
al., "LoRA", 2021).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer

from recsys.errors import ConfigError

ALPHA_PER_RANK = 2
"""alpha / r, so that another rank asks for no other learning rate."""

_ROWS = (torch.nn.Sequential, torch.nn.ModuleList)


def last_blocks(tower: torch.nn.Module, pixels: torch.Tensor, n: int) -> tuple[str, ...]:
    """Names of the last `n` blocks that `pixels` float32 [B, 3, S, S] go through, in that order.

    Blocks are the modules of the type that makes up the tower's longest row of one type (`Sequential`, `ModuleList`): a
    ViT's layers; of EfficientNet, whose stages are rows of their own, the inverted residuals of all stages. What does
    not run is not looked at, as the text tower of a CLIP.

    Raises:
        ConfigError: the tower has no such row.
    """
    with torch.no_grad(), _calls_watched(tower) as called:
        tower(pixels)
    modules = dict(tower.named_modules())
    names = {id(module): name for name, module in modules.items()}
    ran = set(called)
    rows = [
        [each for each in module.children() if names[id(each)] in ran]
        for module in modules.values()
        if isinstance(module, _ROWS)
    ]
    rows = [row for row in rows if len({type(each) for each in row}) == 1 and _has_parts(row[0])]
    longest = max(rows, key=len, default=[])
    if len(longest) < 2:
        raise ConfigError("this encoder has no row of blocks whose last ones could be trained: choose another one")
    blocks = [name for name in dict.fromkeys(called) if type(modules[name]) is type(longest[0])]
    return tuple(blocks[-n:])


def adaptable_layers(tower: torch.nn.Module, blocks: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the linear layers and plain convolutions in these blocks.

    Left out: convolutions of single channels, which have no low rank to learn; those that pad in a way of their own;
    and torch's fused attention, whose matrices are no layers.

    Raises:
        ConfigError: there are none.
    """
    fused = {
        f"{name}.{part}"
        for name, module in tower.named_modules()
        if isinstance(module, torch.nn.MultiheadAttention)
        for part, _ in module.named_modules()
        if part
    }
    layers = tuple(
        name
        for name, module in tower.named_modules()
        if any(name.startswith(f"{block}.") for block in blocks) and name not in fused and _is_adaptable(module)
    )
    if not layers:
        raise ConfigError("the last blocks of this encoder have no layer that adapters fit: choose another encoder")
    return layers


def add_adapters(
    tower: torch.nn.Module, layers: tuple[str, ...], *, rank: int, seed: int
) -> dict[str, torch.nn.Parameter]:
    """Put adapters on these layers, in place, and freeze all else: name → weights to learn.

    At first they change nothing: B is 0.
    """
    config = LoraConfig(r=rank, lora_alpha=ALPHA_PER_RANK * rank, target_modules=list(layers), lora_dropout=0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, tower)
    return {name: weight for name, weight in tower.named_parameters() if weight.requires_grad}


def merge_adapters(tower: torch.nn.Module) -> None:
    """Add what the adapters have learned to the layers' own weights, and take them off, in place."""
    adapted = [(name, module) for name, module in tower.named_modules() if isinstance(module, LoraLayer)]
    for name, module in adapted:
        layer: Any = module
        layer.merge(safe_merge=True)
        parent, _, own_name = name.rpartition(".")
        setattr(tower.get_submodule(parent), own_name, layer.get_base_layer())
    tower.requires_grad_(False)


@contextmanager
def _calls_watched(tower: torch.nn.Module) -> Iterator[list[str]]:
    """Names of the modules that are called, in order, for as long as this lasts."""
    called: list[str] = []

    def note(name: str) -> Any:
        return lambda module, inputs: called.append(name)

    hooks = [module.register_forward_pre_hook(note(name)) for name, module in tower.named_modules()]
    try:
        yield called
    finally:
        for hook in hooks:
            hook.remove()


def _has_parts(module: torch.nn.Module) -> bool:
    return not isinstance(module, _ROWS) and any(True for _ in module.children())


def _is_adaptable(module: torch.nn.Module) -> bool:
    if type(module) is torch.nn.Conv2d:
        return module.groups == 1 and module.padding_mode == "zeros"
    return isinstance(module, torch.nn.Linear)
