"""Adapters on the last blocks of real architectures: the right layers, nothing else, and the same after merging."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from embeddings.registry import load_torch_image
from embeddings.tagging.adapters import adaptable_layers, add_adapters, last_blocks, merge_adapters
from embeddings.torch_encoder import TorchEncoder
from recsys.errors import ConfigError
from tests.embeddings.parity import TOLERANCE, gap

LINEAR_OF_A_VIT_LAYER = 6  # query, key, value, output, up, down


def vit(folder: Path) -> str:
    from transformers import ViTConfig, ViTForImageClassification
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
    ViTForImageClassification(ViTConfig(image_size=64, patch_size=16, **sizes)).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
    return f"transformers:{folder}"


@pytest.fixture
def spec_of(tmp_path: Path, clip_folder: Path) -> Callable[[str], str]:
    def spec(name: str) -> str:
        if name == "vit":
            return vit(tmp_path)
        return f"open_clip:{clip_folder}" if name == "clip" else "bundled"

    return spec


def example(encoder: TorchEncoder, pictures: list[bytes]) -> torch.Tensor:
    return encoder.pixels([encoder.preprocess(content) for content in pictures])


@pytest.mark.parametrize(
    ("name", "blocks", "n_layers"),
    [
        ("vit", ("layers.1", "layers.2"), 2 * LINEAR_OF_A_VIT_LAYER),
        # Its attention is torch's fused one, so the two layers behind it are left; the text tower does not run.
        ("clip", ("visual.transformer.resblocks.0", "visual.transformer.resblocks.1"), 2 * 2),
        # An inverted residual is widened and narrowed by plain convolutions, with one of single channels between.
        ("bundled", ("blocks.5.4", "blocks.6.0"), 2 * 2),
    ],
)
def test_the_last_blocks_are_adapted_and_merge_to_what_they_computed(
    name: str, blocks: tuple[str, ...], n_layers: int, spec_of: Callable[[str], str], pictures: list[bytes]
) -> None:
    encoder = load_torch_image(spec_of(name), device="cpu")
    tower, pixels = encoder.tower, example(encoder, pictures)
    found = last_blocks(tower, pixels[:1], 2)
    assert [each.endswith(wanted) for each, wanted in zip(found, blocks, strict=True)] == [True, True]
    layers = adaptable_layers(tower, found)
    assert len(layers) == n_layers

    before = {key: tensor.clone() for key, tensor in tower.state_dict().items()}
    with torch.no_grad():
        frozen = tower(pixels).numpy()
    adapters = add_adapters(tower, layers, rank=4, seed=0)
    with torch.no_grad():
        assert (tower(pixels).numpy() == frozen).all()  # an adapter begins by changing nothing
        for weight in adapters.values():
            torch.nn.init.normal_(weight, 0.0, 0.1)
        adapted = tower(pixels).numpy()
        merge_adapters(tower)
        merged = tower(pixels).numpy()
    assert gap(merged, adapted) < TOLERANCE
    assert gap(adapted, frozen) > 100 * TOLERANCE
    after: dict[str, Any] = tower.state_dict()
    assert set(after) == set(before)
    changed = {key for key, tensor in before.items() if not torch.equal(tensor, after[key])}
    assert changed == {f"{layer}.weight" for layer in layers}


def test_only_adapters_learn_and_the_seed_decides_where_they_begin(tmp_path: Path, pictures: list[bytes]) -> None:
    spec = vit(tmp_path)
    begun = []
    for seed in (0, 0, 1):
        encoder = load_torch_image(spec, device="cpu")
        blocks = last_blocks(encoder.tower, example(encoder, pictures[:1]), 1)
        adapters = add_adapters(encoder.tower, adaptable_layers(encoder.tower, blocks), rank=2, seed=seed)
        encoder.tower(example(encoder, pictures)).square().sum().backward()
        learning = {key for key, weight in encoder.tower.named_parameters() if weight.grad is not None}
        assert learning == set(adapters)
        begun.append(np.concatenate([weight.detach().numpy().ravel() for weight in adapters.values()]))
    assert (begun[0] == begun[1]).all()
    assert (begun[0] != begun[2]).any()


def test_a_tower_without_a_row_of_blocks_is_refused() -> None:
    tower = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten())
    with pytest.raises(ConfigError, match="no row of blocks"):
        last_blocks(tower, torch.zeros(1, 3, 8, 8), 2)
    grouped = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3, groups=4))
    with pytest.raises(ConfigError, match="no layer that adapters fit"):
        adaptable_layers(torch.nn.ModuleDict({"block": grouped}), ("block",))
