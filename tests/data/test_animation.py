"""Animated GIFs: every frame, in order, at its length, for ever."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m2m.data.animation import write_gif
from tests.tiny import pictures


def frames_of(path: Path) -> list[np.ndarray]:
    """All frames of a GIF as a viewer shows them."""
    with Image.open(path) as image:
        frames = []
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            frames.append(np.asarray(image.convert("RGB")))
    return frames


def test_all_frames_in_their_order(tmp_path: Path) -> None:
    """Colours of one frame's palette on another, a frame that shows through the next, or one that is missing."""
    made = pictures(5)
    write_gif(made, tmp_path / "a.gif", 250)
    found = frames_of(tmp_path / "a.gif")
    assert len(found) == 5
    for frame, picture in zip(found, made, strict=True):
        assert np.abs(frame.astype(int) - np.asarray(picture).astype(int)).mean() < 8, "256 colours, nearly the same"


@pytest.mark.parametrize(("asked", "lasting"), [(250, 250), (77, 80), (1, 20)])
def test_how_long_a_frame_lasts(tmp_path: Path, asked: int, lasting: int) -> None:
    """The format counts in 10 ms, and what is shorter than 20 ms is shown at a tenth of the speed."""
    write_gif(pictures(2), tmp_path / "a.gif", asked)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.info["duration"] == lasting
        assert image.info["loop"] == 0, "for ever"


def test_small_frames_are_enlarged_and_large_ones_are_not_shrunk(tmp_path: Path) -> None:
    """A turn-around of 64 pixels is a stamp on today's screens."""
    write_gif(pictures(2, size=64), tmp_path / "small.gif", 100, side=128)
    write_gif(pictures(2, size=200), tmp_path / "large.gif", 100, side=128)
    assert frames_of(tmp_path / "small.gif")[1].shape == (128, 128, 3)
    assert frames_of(tmp_path / "large.gif")[1].shape == (200, 200, 3)


def test_one_frame_and_none(tmp_path: Path) -> None:
    """A single view is a GIF too; none is a mistake of the caller."""
    write_gif(pictures(1), tmp_path / "one.gif", 100)
    assert len(frames_of(tmp_path / "one.gif")) == 1
    with pytest.raises(ValueError, match="at least one frame"):
        write_gif([], tmp_path / "none.gif", 100)
