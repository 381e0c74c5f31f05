"""Speech: what Whisper base makes of sentences that espeak-ng reads aloud, through the embedding job.

A robot's voice is harder for it than a person's: the error rate says that nothing is lost on the way, and not how good
the model is. The same sentences in several formats, and Spanish.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from embeddings.embed import EmbedOptions, embed_items
from embeddings.engines.spec import ReaderSpec
from embeddings.sources.reader import open_reader
from embeddings.stored import gather_records
from embeddings.tagging.speech import SpeechEncoder, load_speech
from recsys.tagging_config import SpeechConfig
from tests.benchmarks._tagging.word_errors import error_rate, word_errors
from tests.worlds.spoken import spoken_file

ENGLISH = (
    "Every morning the baker opens his shop and puts fresh bread in the window.",
    "A small boat crossed the wide lake before the storm arrived.",
    "The children found an old map under the floor of the kitchen.",
    "My sister plays the piano in a large hall near the station.",
    "Please close the door when you leave the room tonight.",
    "We walked through the forest until the path reached a river.",
    "The train to the coast leaves at seven in the morning.",
    "He wrote a long letter to his mother and forgot to send it.",
    "Rain fell on the roof all night and the garden was green again.",
    "The doctor said that I should drink more water and sleep longer.",
    "A farmer sold apples and honey at the market on Saturday.",
    "They built a wooden bridge between the two villages last summer.",
    "The museum shows paintings from more than a hundred years ago.",
    "Nobody knew why the clock in the tower had stopped.",
    "She opened the box and found a golden ring inside.",
    "The teacher asked us to read the first chapter at home.",
    "In winter the lake is frozen and people walk across the ice.",
    "Our neighbour has a black dog that barks at every car.",
    "The film was about a sailor who lost his ship in the north.",
    "Two friends opened a restaurant on the other side of the street.",
)
SPANISH = (
    "Cada mañana el panadero abre su tienda y pone pan fresco en la ventana.",
    "El tren sale de la estación a las siete de la mañana y llega por la noche.",
    "Mi hermana toca el piano en una sala muy grande cerca de la plaza.",
    "Hoy hace muy buen tiempo y vamos a caminar por la ciudad.",
)
FORMATS: dict[str, dict[str, Any]] = {
    "WAV 16 kHz": {"rate": 16_000, "file_format": "WAV", "coding": "PCM_16"},
    "MP3 44.1 kHz stereo": {"rate": 44_100, "file_format": "MP3", "n_channels": 2},
    "FLAC 8 kHz": {"rate": 8_000, "file_format": "FLAC", "coding": "PCM_16"},
    "OGG 48 kHz": {"rate": 48_000, "file_format": "OGG", "coding": "VORBIS"},
}
Records = list[dict[str, Any]]


def figures(data: Path) -> list[dict[str, Any]]:
    """Figures of speech: {"what", "value", "low", "high", "bar", "at_least", "note"}.

    `data` is the folder of tagging data, for its sounds in which nobody speaks.
    """
    if find_spec("espeakng_loader") is None:
        return [_figure("word error rate", None, note="nobody to speak: install requirements/dev.txt")]
    encoder = load_speech(SpeechConfig(), threads=2)
    assert encoder is not None
    with tempfile.TemporaryDirectory() as folder:
        return [*_figures(encoder, Path(folder)), _quiet(encoder, data)]


def _figures(encoder: SpeechEncoder, folder: Path) -> Iterator[dict[str, Any]]:
    spoken = {f"{at:02d}": spoken_file(text, **FORMATS["WAV 16 kHz"]) for at, text in enumerate(ENGLISH)}
    started = time.perf_counter()
    records = _heard(encoder, folder / "en", spoken)
    took_s = time.perf_counter() - started
    yield _errors("WAV 16 kHz", ENGLISH, records)
    yield _language("en", records)
    yield _ratio_to_bare(encoder, folder / "again", spoken)
    lasted_s = sum(record["duration_s"] for record in records)
    yield _figure("real-time factor", took_s / lasted_s, note=f"seconds of two threads a second of {lasted_s:.0f} s")
    for name, how in FORMATS.items():
        if name != "WAV 16 kHz":
            few = ENGLISH[:8]
            files = {str(at): spoken_file(text, **how) for at, text in enumerate(few)}
            yield _errors(name, few, _heard(encoder, folder / name, files))
    spanish = _heard(encoder, folder / "es", {str(at): spoken_file(text, "es") for at, text in enumerate(SPANISH)})
    yield _errors("Spanish", SPANISH, spanish)
    yield _language("es", spanish)


def _quiet(encoder: SpeechEncoder, data: Path) -> dict[str, Any]:
    """Of rain, saws and dogs (ESC-10), how many say nothing."""
    what = "sounds without speech that get no words"
    clips = sorted((data / "audio").glob("*.ogg"))
    if not clips:
        return _figure(what, None, note=f"no clips in {data / 'audio'}")
    texts = [encoder.records([encoder.preprocess(clip.read_bytes())])[0]["text"] for clip in clips]
    return _figure(what, texts.count("") / len(texts), note=f"{len(texts)} clips; else {sorted(filter(None, texts))}")


def _heard(encoder: SpeechEncoder, folder: Path, files: dict[str, bytes]) -> Records:
    """Through the embedding job, decoded in an isolated process."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    spec = ReaderSpec(items_folder=folder, cache_folder=folder / "fetched")
    reader = open_reader(spec.sources, items_folder=folder, image_root="", cache_folder=spec.cache_folder)
    try:
        items = [(name, name) for name in files]
        store = folder / "store"
        report = embed_items(items, encoder, store, reader=reader, options=EmbedOptions(decode_workers=1))
        records = gather_records(store, encoder.space, [report.content_hashes[name] for name in files])
    finally:
        reader.close()
    return [record for record in records if record is not None]


def _errors(name: str, said: tuple[str, ...] | list[str], records: Records) -> dict[str, Any]:
    counts = [word_errors(text, record["text"]) for text, record in zip(said, records, strict=True)]
    value, low, high = error_rate(counts)
    note = f"{sum(n for n, _ in counts)} of {sum(n for _, n in counts)} words"
    return _figure(f"word error rate, {name}", value, low, high, note=note)


def _language(language: str, records: Records) -> dict[str, Any]:
    told = [record["language"] == language for record in records]
    sure = np.mean([record["language_confidence"] for record in records])
    return _figure(
        f"language told, {language}", float(np.mean(told)), note=f"{len(told)} files, mean confidence {sure:.2f}"
    )


def _ratio_to_bare(encoder: SpeechEncoder, folder: Path, files: dict[str, bytes]) -> dict[str, Any]:
    """Bare seconds / the job's, of reading, decoding, recognising and writing; medians of three rounds in turn."""
    few = dict(list(files.items())[:4])
    samples = [encoder.preprocess(content) for content in few.values()]
    rounds = []
    for number in range(3):
        job = _seconds(lambda at=number: _heard(encoder, folder.with_name(f"{folder.name}{at}"), few))  # type: ignore[misc]
        bare = _seconds(lambda: [encoder.records([each]) for each in samples])
        rounds.append(bare / job)
    return _figure("throughput, of the bare model loop", float(np.median(rounds)), min(rounds), max(rounds), bar=0.85)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _figure(
    what: str,
    value: float | None,
    low: float | None = None,
    high: float | None = None,
    *,
    bar: float | None = None,
    note: str = "",
) -> dict[str, Any]:
    return {"what": what, "value": value, "low": low, "high": high, "bar": bar, "at_least": True, "note": note}
