"""Boxes drawn into a picture."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from embeddings.refused import Refused
from embeddings.tagging.drawing import drawn_boxes
from tests.embeddings.conftest import saved
from tests.embeddings.preprocess.test_boxed import turned

BOX = {"label": "dog", "confidence": 0.9, "box": [100.0, 100.0, 300.0, 200.0]}


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_box_is_drawn_where_the_object_is_seen(orientation: int) -> None:
    grey = Image.new("RGB", (800, 400), (128, 128, 128))
    drawn = Image.open(io.BytesIO(drawn_boxes(turned(grey, orientation, "PNG"), [BOX], longest_edge=400)))
    assert drawn.size == (400, 200)
    changed = np.abs(np.asarray(drawn, int) - 128).max(axis=2) > 40
    assert changed[75, 50:52].any()
    assert changed[99, 60:140].mean() > 0.9
    assert not changed[65:95, 60:140].any()
    assert not changed[110:].any()


def test_labels_at_the_edge_stay_in_the_picture() -> None:
    white = Image.new("RGB", (200, 100), "white")
    box = {"label": "a rather long label", "confidence": 0.5, "box": [195.0, 0.0, 200.0, 5.0]}
    drawn = np.asarray(Image.open(io.BytesIO(drawn_boxes(saved(white), [box]))), int)
    assert (drawn[4:10, 60:190].min(axis=2) < 150).mean() > 0.3


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(Refused):
        drawn_boxes(b"nothing", [BOX])
