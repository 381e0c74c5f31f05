"""What our figures are compared with: the plain loops that people write today, each on its own library's calls."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

Vectors = NDArray[np.float32]
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def open_clip_loop(model: Any, transform: Callable[[Image.Image], torch.Tensor], paths: Sequence[Path]) -> Vectors:
    """As open_clip's README does it, in batches of 32: float32, normalised."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(paths), 32):
            pixels = torch.stack([transform(Image.open(path)) for path in paths[start : start + 32]])
            features = model.encode_image(pixels)
            parts.append((features / features.norm(dim=-1, keepdim=True)).numpy())
    return np.concatenate(parts)


def sentence_transformer(folder: Path, max_length: int) -> Any:
    """all-MiniLM-L6-v2 as sentence-transformers builds it: mean pooling and normalisation, float32."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling, Transformer

    modules = [Transformer(str(folder), max_seq_length=max_length), Pooling(384, "mean"), Normalize()]
    return SentenceTransformer(modules=modules, device="cpu")


def pillow_clip(size: int) -> Callable[[bytes], torch.Tensor]:
    """CLIP's preprocessing with Pillow: decode whole, bicubic to the shortest edge, crop, normalise."""
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

    steps = Compose(
        [Resize(size, InterpolationMode.BICUBIC), CenterCrop(size), ToTensor(), Normalize(CLIP_MEAN, CLIP_STD)]
    )

    def preprocess(content: bytes) -> torch.Tensor:
        tensor: torch.Tensor = steps(Image.open(io.BytesIO(content)).convert("RGB"))
        return tensor

    return preprocess


def bundled_plain(contents: Sequence[bytes]) -> Vectors:
    """The bundled image network in torch, float32, on pixels decoded whole and resized by Pillow."""
    from embeddings.bundled_encoder import IMAGE_SIZE, image_preprocessing, load_bundled_image

    config = image_preprocessing(IMAGE_SIZE)
    encoder = load_bundled_image()
    tower = encoder._tower.float()
    parts = []
    with torch.no_grad():
        for start in range(0, len(contents), 32):
            pixels = np.stack([_plain_pixels(content, config) for content in contents[start : start + 32]])
            features = tower(torch.from_numpy(pixels))
            parts.append((features / features.norm(dim=-1, keepdim=True)).numpy())
    return np.concatenate(parts)


def _plain_pixels(content: bytes, config: Any) -> Vectors:
    """Shortest edge to `resize_to`, bicubic; centre crop; (x - mean) / std."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    short, long = sorted(image.size)
    new_long = int(config.resize_to * long / short)
    tall = image.height >= image.width
    image = image.resize(
        (config.resize_to, new_long) if tall else (new_long, config.resize_to), Image.Resampling.BICUBIC
    )
    left, top = (round((edge - config.size) / 2) for edge in image.size)
    image = image.crop((left, top, left + config.size, top + config.size))
    pixels = np.asarray(image, dtype=np.float32) / 255
    plain: Vectors = ((pixels - config.mean) / config.std).transpose(2, 0, 1).astype(np.float32)
    return plain


def cosines(a: Vectors, b: Vectors) -> Vectors:
    """float32 [N], row by row; rows need not be normalised."""
    products: Vectors = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return products


def neighbour_overlap(a: Vectors, b: Vectors, k: int = 10) -> float:
    """Mean share of the k nearest rows by `a` that are among the k nearest by `b`."""
    nearest = []
    for vectors in (a, b):
        similarities = vectors @ vectors.T
        np.fill_diagonal(similarities, -np.inf)
        nearest.append(np.argpartition(-similarities, k, axis=1)[:, :k])
    return float(np.mean([len(set(x) & set(y)) / k for x, y in zip(*nearest, strict=True)]))
