"""Sets of the tiny world, rendered as they are read: the same pictures for ever, drawn as those of shards are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from m2m.data.reading.dataset import ImageSetDataset, ReadConfig
from m2m.data.reading.order import Cursor, OrderConfig
from m2m.data.reading.sets import open_sets
from m2m.data.reading.world_sets import WorldSets
from m2m.data.worlds import World
from m2m.data.worlds.rendering import image_seed
from m2m.types import UserError
from tests.data.reading.loading import load, same, seen
from tests.toy_shards import write_toy_shards

SPEC = "world:mini:train:11:3"
CONFIG = ReadConfig(images=3, size=16)


def test_pictures_are_those_of_the_worlds_renderer() -> None:
    """Captions, images and seeds that slipped against each other, or pictures that depend on what was read before."""
    data, other = WorldSets(SPEC, CONFIG), WorldSets(SPEC, CONFIG)
    other.visit(9, 4)
    world = World.load("mini")
    captions = world.captions("train", 11, seed=3)
    for index in (0, 10):
        one = data[index]
        assert one.caption == captions[index].text and one.key == f"world:mini:train:3:{index}"
        expected = [world.render(one.caption, image_seed(3, index, number), size=16) for number in one.numbers]
        assert one.images is not None and np.array_equal(one.images, np.stack(expected))
        assert np.array_equal(one.images, other[index].images)
    assert one.latents is None and data.encoders is None and len(data) == 11


def test_images_are_drawn_as_those_of_shards_are() -> None:
    """A second way to draw would train the tiny models on another augmentation than the large ones."""
    data = WorldSets(SPEC, CONFIG)
    drawn = {data.visit(index, epoch).numbers for index in range(4) for epoch in range(4)}
    assert len(drawn) > 12 and all(len(set(numbers)) == 3 and max(numbers) < 25 for numbers in drawn)
    one = data.visit(2, 5)
    assert one.numbers == CONFIG.draw(range(25), 5, one.key, "")
    wide = WorldSets(SPEC, ReadConfig(within=(30, 34), ordered=True, size=16))
    assert wide[0].numbers == (30, 31, 32, 33)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_reads_every_set_once_and_resumes(workers: int) -> None:
    """Sets that are never drawn, one order for ever, or a resumed run that reads something again."""
    data = WorldSets(SPEC, CONFIG)
    straight = load(data, 8, batch_sets=3)
    first = [key for key, _ in seen(straight)][:11]
    assert len(set(first)) == 11 and first != [key for key, _ in seen(straight)][11:22]
    assert straight[3].epochs == (0, 0, 1)
    middle = straight[3].cursor
    assert middle is not None
    resumed = load(WorldSets(SPEC, CONFIG), 4, workers, start=Cursor.from_json(middle.as_json()), batch_sets=3)
    assert all(same(one, other) for one, other in zip(straight[4:], resumed, strict=True))


def test_a_cursor_of_other_pictures_is_refused() -> None:
    """A resumed run that goes on in another world, or at another size, would not notice."""
    (batch,) = load(WorldSets(SPEC, CONFIG), 1)
    for other in (WorldSets("world:mini:train:11:4", CONFIG), WorldSets(SPEC, ReadConfig(images=3, size=32))):
        with pytest.raises(UserError, match="another order"):
            other.order(OrderConfig(2), batch.cursor)


@pytest.mark.parametrize(
    ("spec", "images", "message"),
    [
        ("world:mini:train", 3, "world:NAME:SPLIT:COUNT"),
        ("world:mini:train:many", 3, "world:NAME:SPLIT:COUNT"),
        ("world:maxi:train:3", 3, "no tiny world 'maxi'"),
        ("world:mini:training:3", 3, "no split 'training'"),
        ("world:mini:train:0", 3, "no sets at all"),
        ("world:mini:train:3", 26, "has 25 images, 26 are wanted"),
    ],
)
def test_mistakes_are_named(spec: str, images: int, message: str) -> None:
    """A spec that is told apart from a folder only by a missing file, or fails when the first set is read."""
    with pytest.raises(UserError, match=message):
        open_sets(spec, ReadConfig(images=images))


def test_one_call_opens_shards_and_worlds(tmp_path: Path) -> None:
    """Two ways to read would be two trainers."""
    folder = write_toy_shards(tmp_path / "toy", sets=3, images=4)
    shards, world = open_sets(str(folder), ReadConfig(images=3)), open_sets(SPEC, CONFIG)
    assert isinstance(shards, ImageSetDataset) and isinstance(world, WorldSets)
    assert shards.encoders == {"latents": "toy autoencoder", "features": "toy-encoder"}
    (batch,) = load(shards, 1, batch_sets=4)
    assert batch.latents is not None and batch.latents.shape == (4, 3, 4, 8, 8) and batch.latents.dtype == torch.float16
    assert batch.epochs == (0, 0, 0, 1)
    with pytest.raises(UserError, match="does not exist"):
        open_sets(str(tmp_path / "nothing"), CONFIG)


def test_a_run_of_neighbours_is_drawn_of_the_world_too() -> None:
    """A draw that takes a list for granted, where the world has a range of numbers."""
    data = WorldSets(SPEC, ReadConfig(images=3, size=16, consecutive=True))
    drawn = [data.visit(index, 0).numbers for index in range(6)]
    assert all(numbers == tuple(range(numbers[0], numbers[0] + 3)) for numbers in drawn) and len(set(drawn)) > 3
