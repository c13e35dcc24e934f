"""The tiny world as a generator."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from m2m.data.generators import GeneratorOptions, open_generator
from m2m.data.generators.world import WorldGenerator
from m2m.data.worlds import World, renderer, styles, vocabulary
from m2m.types import UserError


def test_pictures_are_the_worlds_own() -> None:
    """Captions and seeds that are paired wrongly, or a size that is lost on the way."""
    generator = open_generator(GeneratorOptions("world:mini", size=32, batch=3))
    captions, seeds = ["two cats, flat style", "a thing on a blue grid", "two cats, flat style"], [2**63 - 1, 5, 6]
    made = generator.generate(captions, seeds)
    world = World.load("mini")
    for picture, caption, seed in zip(made, captions, seeds, strict=True):
        assert picture is not None and picture.shape == (32, 32, 3)
        assert np.array_equal(picture, world.render(caption, seed, size=32))
    assert generator.batch == 3


def test_settings_are_json_and_tell_worlds_and_sizes_apart() -> None:
    """They decide whether a folder of shards may be continued."""
    settings = [
        WorldGenerator("mini").settings(),
        WorldGenerator("full").settings(),
        WorldGenerator("mini", 32).settings(),
    ]
    assert len({json.dumps(entry) for entry in settings}) == 3
    assert settings[0]["size"] == 64
    assert WorldGenerator("mini").settings() == settings[0]


def test_a_change_of_the_renderer_changes_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a data set in the old look and half in the new one, under the same settings."""
    before = WorldGenerator("mini").fingerprint
    render = renderer.render
    monkeypatch.setattr(renderer, "render", lambda *arguments: render(*arguments) ^ np.uint8(1))
    assert WorldGenerator("mini").fingerprint != before


@pytest.mark.parametrize("style", ["pixel art", "watercolour", "sketch"])
def test_a_change_of_one_style_changes_the_fingerprint(monkeypatch: pytest.MonkeyPatch, style: str) -> None:
    """References that miss a style would let its change pass."""
    before = WorldGenerator("mini").fingerprint
    painted = styles.FILTERS[style]
    monkeypatch.setitem(styles.FILTERS, style, lambda *arguments: painted(*arguments) * 0.9)
    assert WorldGenerator("mini").fingerprint != before


def test_a_change_of_the_drawings_changes_the_fingerprint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of a thousand subjects the reference pictures show only some; the archives count as a whole."""
    before = WorldGenerator("mini").fingerprint
    assets = tmp_path / "assets"
    assets.mkdir()
    for path in vocabulary.ASSETS.iterdir():
        (assets / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr("m2m.data.generators.world.ASSETS", assets)
    assert WorldGenerator("mini").fingerprint == before
    with open(assets / "noto.zip", "ab") as file:
        file.write(b"\0")
    assert WorldGenerator("mini").fingerprint != before


@pytest.mark.parametrize(
    "caption", ["an unknown animal", "three tiger", "two cats, oil style", "a cat on a plain tartan"]
)
def test_a_caption_that_cannot_be_drawn_is_named(caption: str) -> None:
    """Among twelve million captions the message must say which one is wrong."""
    with pytest.raises(UserError) as error:
        WorldGenerator("mini").generate(["a cat", caption], [1, 2])
    assert f"'{caption}'" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("size", [8, 1024])
def test_sizes_that_the_world_cannot_paint(size: int) -> None:
    """Asked at once, not at the first picture."""
    with pytest.raises(UserError, match="16 to 512 pixels"):
        WorldGenerator("mini", size)
