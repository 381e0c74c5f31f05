from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from PIL import Image

from embeddings.isolation.pool import DecodePool
from embeddings.preprocess.shown import ShownPicture, ShownPictureConfig, ShownSound, ShownSoundConfig
from embeddings.refused import Refused
from recsys.manifest import canonical_json
from tests.embeddings.sounds import saved, sweep


def png(image: Image.Image) -> bytes:
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return sink.getvalue()


def shown(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(ShownPicture(ShownPictureConfig(longest_edge=64))(content).tobytes()))


def test_the_whole_picture_is_shown_in_its_own_shape() -> None:
    found = shown(png(Image.new("RGB", (200, 400), "red")))
    assert (found.format, found.size) == ("JPEG", (32, 64))


def test_what_is_transparent_is_shown_white_and_a_small_picture_is_not_blown_up() -> None:
    image = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 10, 20))
    found = np.asarray(shown(png(image)).convert("RGB")).astype(int)
    assert found.shape == (20, 20, 3)
    assert found[10, 16:].min() > 225
    assert found[10, 2, 0] - found[10, 2, 1] > 150


def test_the_beginning_of_a_sound_is_shown_as_a_small_ogg_file() -> None:
    content = saved(0.1 * sweep(12.0, 44_100), 44_100, n_channels=2)
    ogg = ShownSound(ShownSoundConfig(seconds=5))(content).tobytes()
    samples, rate = soundfile.read(io.BytesIO(ogg))
    assert ogg.startswith(b"OggS")
    assert len(samples) / rate == pytest.approx(5, abs=0.1)
    assert 0.7 < np.abs(samples).max() <= 1
    assert len(ogg) < 60_000


def test_both_are_made_in_isolated_processes_and_refuse_what_is_neither() -> None:
    for config in (ShownPictureConfig(), ShownSoundConfig()):
        with DecodePool(canonical_json(config.model_dump(mode="json")), workers=1) as pool:
            [(_, found)] = pool.map([(0, b"<script>alert(1)</script>")])
            assert isinstance(found, Refused)
