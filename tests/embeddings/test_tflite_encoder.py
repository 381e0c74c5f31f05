"""Classifiers of waveforms from tflite files: a tiny one whose numbers are known, and YAMNet itself."""

from __future__ import annotations

import csv
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from embeddings.audio_encoders import load_audio
from embeddings.onnx_encoder import export
from embeddings.preprocess.waveform import read_sound
from embeddings.preprocess.waveform_frames import WaveformFramesPreprocessor
from embeddings.registry import load_encoders
from embeddings.tagging.audio_heads import audio_classifier_head
from embeddings.tagging.taxonomy import TagDefinition, Taxonomy
from embeddings.tflite_encoder import TfliteEncoder, load_tflite
from recsys.errors import ConfigError, WeightsUnavailable
from recsys.workspace import CONFIG_NAME, Workspace
from tests.embeddings.sounds import saved, sweep
from tests.embeddings.tiny_tflite import D, S, TinyTflite

RATE = 16_000
CLOSE = 1e-5


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.tflite"
    path.write_bytes(TinyTflite().saved())
    return path


@pytest.fixture(scope="module")
def yamnet(shared_data: Path) -> Path:
    path = shared_data.parent / "models" / "yamnet.tflite"
    if not path.exists():
        pytest.skip("YAMNet's weights are not beside the project (../shared/models/yamnet.tflite)")
    return path


@pytest.fixture(scope="module")
def clips(shared_data: Path) -> list[tuple[bytes, str]]:
    """Every sixth clip: its file, and its class."""
    folder = shared_data / "tagging" / "audio"
    with (folder / "labels.csv").open(newline="") as stream:
        return [((folder / row["file"]).read_bytes(), row["label"]) for row in list(csv.DictReader(stream))[::6]]


def test_a_vector_is_the_mean_of_what_the_last_layer_reads_over_all_frames(tiny: Path) -> None:
    encoder, written = load_tflite(f"tflite:{tiny}"), TinyTflite()
    frames = np.random.default_rng(1).standard_normal((5, S)).astype(np.float32)
    expected = np.mean([written.vector(frame) for frame in frames], axis=0)
    found = encoder.postprocess(encoder.forward([frames, frames[:1]]))
    np.testing.assert_allclose(found, [expected, written.vector(frames[0])], atol=CLOSE)
    assert (encoder.space.dim, encoder.space.normalised, encoder.space.modality) == (D, False, "audio")


def test_the_classifier_and_its_labels_are_those_of_the_file(tiny: Path) -> None:
    model, written = load_tflite(f"tflite:{tiny}").model, TinyTflite()
    np.testing.assert_allclose(model.weights, written.meant.T, rtol=1e-6)
    np.testing.assert_array_equal(model.bias, written.bias)
    assert (model.labels, model.activation) == (("Dog", "Bark", "Rain"), "sigmoid")


def test_a_tag_is_as_likely_as_the_likeliest_of_its_labels(tiny: Path) -> None:
    encoder, written = load_tflite(f"tflite:{tiny}"), TinyTflite()
    tags = {"dog": TagDefinition(labels=("bark", "dog")), "rain": TagDefinition(names={"en": "rain"})}
    head = audio_classifier_head(f"tflite:{tiny}", Taxonomy(tags=tags))
    frame = np.random.default_rng(2).standard_normal((1, S)).astype(np.float32)
    vectors = encoder.forward([frame])
    scores = 1 / (1 + np.exp(-(written.meant @ written.vector(frame[0]) + written.bias)))
    found = head.confidences({"audio": (vectors, np.ones(1, np.bool_))})
    np.testing.assert_allclose(found, [[max(scores[:2]), scores[2]]], atol=CLOSE)
    head.require({"audio": encoder.space})


def test_a_head_has_the_same_version_wherever_its_file_lies(tiny: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / tiny.name
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(tiny.read_bytes())
    here, there = (audio_classifier_head(f"tflite:{path}", None) for path in (tiny, elsewhere))
    assert here.version == there.version
    assert here.spec.model == "classifier of tflite:tiny.tflite"


def test_scores_that_exclude_each_other_are_added_up(tmp_path: Path) -> None:
    written = TinyTflite()
    written.ends = [schema.BuiltinOperator.SOFTMAX]
    (tmp_path / "one.tflite").write_bytes(written.saved())
    head = audio_classifier_head(f"tflite:{tmp_path / 'one.tflite'}", None)
    assert (head.spec.activation, head.spec.tags) == ("softmax", ("dog", "bark", "rain"))
    found = head.confidences({"audio": (np.ones((1, D), np.float32), np.ones(1, np.bool_))})
    np.testing.assert_allclose(found.sum(), 1.0, atol=CLOSE)


def _no_labels(written: TinyTflite) -> None:
    written.texts = {}


def _two_lists(written: TinyTflite) -> None:
    written.texts["more.txt"] = "Cat\n"


def _a_label_less(written: TinyTflite) -> None:
    written.texts = {"labels.txt": "Dog\nBark\n"}


def _no_activation(written: TinyTflite) -> None:
    written.ends = []


def _an_activation_inside(written: TinyTflite) -> None:
    written.fused = schema.ActivationFunctionType.RELU


def _something_else_behind(written: TinyTflite) -> None:
    written.ends = [schema.BuiltinOperator.TANH, schema.BuiltinOperator.LOGISTIC]


def _pictures(written: TinyTflite) -> None:
    written.input_shape = [2, S // 2]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_no_labels, "no list of labels"),
        (_two_lists, "2 text files"),
        (_a_label_less, "2 labels for 3 classes"),
        (_no_activation, "no single sigmoid"),
        (_an_activation_inside, "activation of its own"),
        (_something_else_behind, "no single sigmoid"),
        (_pictures, "no frame of float samples"),
    ],
)
def test_a_file_of_another_shape_is_refused_with_what_is_wrong(
    change: Callable[[TinyTflite], None], why: str, tmp_path: Path
) -> None:
    written = TinyTflite()
    change(written)
    (tmp_path / "other.tflite").write_bytes(written.saved())
    with pytest.raises(ConfigError, match=why):
        load_tflite(f"tflite:{tmp_path / 'other.tflite'}")


def test_what_is_no_tflite_file_is_refused(tmp_path: Path, tiny: Path) -> None:
    for content in (b"", b"no model", tiny.read_bytes()[:200], b"\x1c\0\0\0TFL3" + bytes(200)):
        (tmp_path / "bad.tflite").write_bytes(content)
        with pytest.raises(ConfigError, match="no tflite model"):
            load_audio(f"tflite:{tmp_path / 'bad.tflite'}")
    with pytest.raises(WeightsUnavailable, match="put a YAMNet-style"):
        load_audio(f"tflite:{tmp_path / 'absent.tflite'}")


def test_a_release_does_not_carry_it_and_the_message_says_where_it_belongs(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[tagging.audio\] encoder"):
        export(load_tflite(f"tflite:{tiny}"), tmp_path / "release")
    (tmp_path / CONFIG_NAME).write_text(f'[encoders]\naudio = "tflite:{tiny}"\n')
    with pytest.raises(ConfigError, match=r"\[tagging.audio\] encoder"):
        Workspace.open(tmp_path)


def test_other_weights_are_another_space(tiny: Path, tmp_path: Path) -> None:
    written = TinyTflite()
    written.body = written.body * 2
    (tmp_path / "other.tflite").write_bytes(written.saved())
    first, other = load_tflite(f"tflite:{tiny}"), load_tflite(f"tflite:{tmp_path / 'other.tflite'}")
    assert first.space.space_id != other.space.space_id


def test_batches_in_several_threads_give_the_same_bytes(tiny: Path) -> None:
    encoder = load_encoders("none", "none", f"tflite:{tiny}", threads=3).audio
    assert isinstance(encoder, TfliteEncoder)
    assert encoder.parallel == 3
    rng = np.random.default_rng(3)
    groups = [[rng.standard_normal((n, S)).astype(np.float32)] * 2 for n in range(1, 12)]
    threads_before = threading.active_count()
    found = list(encoder.forward_many(iter(groups)))
    assert threading.active_count() == threads_before
    for group, vectors in zip(groups, found, strict=True):
        assert np.array_equal(vectors, encoder.forward(group))


def test_yamnet_hears_as_its_own_file_says(yamnet: Path, clips: list[tuple[bytes, str]]) -> None:
    """Its scores are int8, 1/256 apart: the head's logits, of the same vectors, are finer."""
    from ai_edge_litert.interpreter import Interpreter

    encoder = load_tflite(f"tflite:{yamnet}")
    assert (encoder.space.dim, len(encoder.model.labels), encoder.compute) == (1024, 521, "litert-int8")
    assert encoder.model.labels[:2] == ("Speech", "Child speech, kid speaking")
    head = audio_classifier_head(f"tflite:{yamnet}", None)
    whole = Interpreter(model_path=str(yamnet), num_threads=1)
    whole.allocate_tensors()
    for content, _ in clips[::8]:
        for frame in encoder.preprocess(content)[:3]:
            whole.set_tensor(whole.get_input_details()[0]["index"], frame)
            whole.invoke()
            scores = whole.get_tensor(whole.get_output_details()[0]["index"])[0]
            vectors = encoder.forward([frame[None]])
            ours = head.raw_of_logits(head.logits({"audio": (vectors, np.ones(1, np.bool_))}))[0]
            assert abs(ours - scores).max() < 0.05
            assert abs(ours - scores).mean() < 1e-3
            assert scores.argmax() in np.argsort(-ours)[:3]


def test_yamnet_names_everyday_sounds(yamnet: Path, clips: list[tuple[bytes, str]]) -> None:
    """Ten classes, so chance is 10 %."""
    labels = {"dog_bark": "Dog", "rain": "Rain", "sea_waves": "Waves, surf", "baby_cry": "Baby cry, infant cry",
              "clock_tick": "Tick-tock", "person_sneeze": "Sneeze", "helicopter": "Helicopter",
              "chainsaw": "Chainsaw", "rooster": "Crowing, cock-a-doodle-doo", "fire_crackling": "Crackle"}  # fmt: skip
    tags = {tag: TagDefinition(labels=(label,)) for tag, label in labels.items()}
    head = audio_classifier_head(f"tflite:{yamnet}", Taxonomy(tags=tags))
    assert set(head.spec.tags) == set(labels)
    vectors = load_tflite(f"tflite:{yamnet}").encode([content for content, _ in clips])
    found = head.confidences({"audio": (vectors, np.ones(len(clips), np.bool_))}).argmax(axis=1)
    right = [head.spec.tags[tag] == label for tag, (_, label) in zip(found, clips, strict=True)]
    assert np.mean(right) > 0.6


def test_a_long_sound_is_heard_in_windows(yamnet: Path) -> None:
    encoder = load_tflite(f"tflite:{yamnet}")
    assert isinstance(encoder.preprocessor, WaveformFramesPreprocessor)
    config = encoder.preprocessor.config
    content = saved(sweep(3 * 60, RATE), RATE, "FLAC", "PCM_16")
    heard = encoder.preprocess(content)
    assert heard.shape == (120, 15_600)  # 6 windows of 20 frames
    windows = read_sound(content, encoder.preprocessor._listening)
    assert {len(window) for window in windows} == {config.window_samples}
    assert np.array_equal(heard[20], windows[1][:15_600])
