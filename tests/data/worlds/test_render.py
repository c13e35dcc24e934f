"""Pictures: shape, range, and that each attribute shows."""

from __future__ import annotations

import numpy as np
import pytest

from m2m.data.worlds import World
from m2m.data.worlds.backgrounds import BACKGROUNDS, PATTERNS, paint
from m2m.data.worlds.captions import background_phrase
from m2m.data.worlds.vocabulary import STYLES
from m2m.types import UserError


@pytest.mark.parametrize("size", [32, 64, 96, 128])
@pytest.mark.parametrize("style", STYLES)
def test_size_and_type(style: str, size: int) -> None:
    """Guards against a filter that works at 64 pixels only."""
    picture = World.load("full").render(f"three cats on a blue grid, {style} style", 1, size=size)
    assert picture.shape == (size, size, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 15  # not blank


def test_default_size_and_refused_sizes() -> None:
    """Guards against a size of 0 that fails deep inside Pillow."""
    world = World.load("mini")
    assert world.render("a cat", 0).shape == (world.size, world.size, 3)
    for size in (0, 8, 100_000):
        with pytest.raises(UserError, match="pixels wide"):
            world.render("a cat", 0, size=size)


@pytest.mark.parametrize("style", ["flat", "pixel art", "watercolour", "sketch"])
def test_the_same_scene_at_two_sizes_is_the_same_picture(style: str) -> None:
    """Guards against sizes in pixels where sizes in picture widths are meant."""
    world = World.load("mini")
    for seed in range(5):
        small = world.render(f"two pandas on green stripes, {style} style", seed).astype(float)
        large = world.render(f"two pandas on green stripes, {style} style", seed, size=128).astype(float)
        reduced = large.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
        assert np.corrcoef(small.ravel(), reduced.ravel())[0, 1] > 0.75


def test_each_style_looks_like_itself() -> None:
    """Guards against a style that is not applied: the others' tell-tale signs must be missing."""
    world = World.load("mini")
    for seed in range(8):
        pictures = {style: world.render(f"a banana on plain white, {style} style", seed) for style in world.styles}
        blocks = {style: _is_made_of_squares(picture) for style, picture in pictures.items()}
        assert blocks == {"flat": False, "pixel art": True, "watercolour": False, "sketch": False}
        colour = {style: float(np.ptp(picture.astype(int), axis=2).max()) for style, picture in pictures.items()}
        assert colour["sketch"] < 30 < min(colour["flat"], colour["watercolour"], colour["pixel art"])
        assert len(np.unique(pictures["pixel art"].reshape(-1, 3), axis=0)) < 60


def _is_made_of_squares(picture: np.ndarray) -> bool:
    squares = picture.reshape(32, 2, 32, 2, 3)
    return bool((squares == squares[:, :1, :, :1]).all())


def test_backgrounds_differ_in_every_style_and_light() -> None:
    """Guards against two backgrounds that look alike after a filter: a picture is nearest to its own background."""
    world = World.load("full")
    for style in ("flat", "pixel art", "watercolour", "sketch"):
        texts = [f"an owl on {background_phrase(name)}, {style} style" for name in BACKGROUNDS]
        means = np.stack([_normal(np.mean([world.render(t, seed) for seed in range(8)], axis=0)) for t in texts])
        right = [
            int(np.abs(means - _normal(world.render(text, seed))).mean(axis=(1, 2, 3)).argmin()) == index
            for index, text in enumerate(texts)
            for seed in (100, 101)
        ]
        assert np.mean(right) > 0.9, style


def _normal(picture: np.ndarray) -> np.ndarray:
    """Take out what the light does: brightness over the whole picture, half of it, so that grey stays darker."""
    picture = picture.astype(float)
    return picture / picture.mean() ** 0.5


def test_all_patterns_are_used_and_painted_at_any_size() -> None:
    """Guards against a pattern without a background, and against blank backgrounds."""
    assert len(BACKGROUNDS) == 20
    assert {background.pattern for background in BACKGROUNDS.values()} == set(PATTERNS)
    for name, background in BACKGROUNDS.items():
        for size in (32, 96):
            picture = paint(name, size)
            assert picture.shape == (size, size, 3)
            assert 0 <= picture.min() <= picture.max() <= 1
            assert (picture.std(axis=(0, 1)).max() > 0.05) == (background.pattern != "plain")


def test_sample_set_is_one_picture_a_seed() -> None:
    """Guards against sets of copies."""
    world = World.load("mini")
    pictures = world.sample_set("three cats, flat style", range(5))
    assert len(pictures) == 5
    assert len({picture.tobytes() for picture in pictures}) == 5
    assert np.array_equal(pictures[3], world.render("three cats, flat style", 3))
