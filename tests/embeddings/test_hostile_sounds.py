"""Hostile sounds through the embedding job: each is refused with its reason, and its neighbours' vectors are theirs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embeddings.embed import EmbedOptions, EmbedReport, embed_items
from embeddings.preprocess.audio_summary import AudioSummaryConfig, AudioSummaryPreprocessor
from embeddings.preprocess.waveform_frames import WaveformFramesConfig, WaveformFramesPreprocessor
from embeddings.refused import Refused
from embeddings.stored import gather
from embeddings.tflite_encoder import TfliteEncoder, load_tflite
from tests.embeddings.tiny_tflite import TinyTflite
from tests.worlds.hostile_sounds import good_sounds, hostile_sounds
from tests.worlds.in_memory_reader import InMemoryReader

HOSTILE, GOOD = hostile_sounds(), good_sounds()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TfliteEncoder:
    """It hears as YAMNet does, frame by frame."""
    path = tmp_path_factory.mktemp("tflite") / "tiny.tflite"
    path.write_bytes(TinyTflite(frame_samples=15_600).saved())
    return load_tflite(f"tflite:{path}")


def embedded(contents: dict[str, bytes], encoder: TfliteEncoder, folder: Path) -> EmbedReport:
    items = [(name, name) for name in contents]
    options = EmbedOptions(shard_size=7, decode_workers=2)
    return embed_items(items, encoder, folder, reader=InMemoryReader(contents), options=options)


def test_each_hostile_sound_is_refused_with_its_reason_and_no_neighbour_is_harmed(
    encoder: TfliteEncoder, tmp_path: Path
) -> None:
    contents = {name: content for name, (content, _) in HOSTILE.items()}
    for at, (name, content) in enumerate(GOOD.items()):  # among them, not behind
        before = dict(list(contents.items())[: 5 * at])
        contents = {**before, name: content, **contents}
    report = embedded(contents, encoder, tmp_path)
    assert set(report.content_hashes) == set(GOOD)
    assert {each.item_id for each in report.rejected} == set(HOSTILE)
    for each in report.rejected:
        assert each.reason in HOSTILE[each.item_id][1], each
        assert len(each.message) > 10
    vectors, present = gather(tmp_path, encoder.space, [report.content_hashes[name] for name in GOOD])
    assert present.all()
    np.testing.assert_allclose(vectors, encoder.encode(list(GOOD.values())), rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("name", HOSTILE)
def test_every_preprocessing_of_sounds_refuses_them_alike(name: str) -> None:
    content, reasons = HOSTILE[name]
    for preprocess in (
        WaveformFramesPreprocessor(WaveformFramesConfig()),
        AudioSummaryPreprocessor(AudioSummaryConfig()),
    ):
        with pytest.raises(Refused) as refused:
            preprocess(content)
        assert refused.value.reason in reasons


def test_a_writer_that_could_not_go_back_is_heard() -> None:
    """Programs that write a WAV into a pipe leave 0, or the largest number, where the lengths belong."""
    wav, preprocess = GOOD["good.wav"], WaveformFramesPreprocessor(WaveformFramesConfig())
    at = wav.index(b"data") + 4
    for length in (b"\xff" * 4, b"\xff\xff\xff\x7f"):
        piped = wav[:4] + length + wav[8:at] + length + wav[at + 4 :]
        assert np.array_equal(preprocess(piped), preprocess(wav))
    padded = wav + b"\x00"
    assert np.array_equal(preprocess(padded), preprocess(wav))
