"""What the data say of each image beside its pixels: the right row for the right image, or an error that names it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from m2m.data.reading.dataset import ImageSetDataset, ReadConfig
from m2m.data.shards import ShardError
from m2m.types import UserError
from tests.data.reading.loading import load
from tests.data.reading.toy_shards import full_sets, keys, toy_conditions, write_folder
from tests.toy_shards import write_toy_shards

IMAGES = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six sets of eight images in two slices; META of every set holds the rows of all eight."""
    sets = full_sets(6, IMAGES)
    conditions = {key: toy_conditions(key, IMAGES) for key in sets}
    place = tmp_path_factory.mktemp("conditions") / "shards"
    return write_folder(place, sets, slices=[(0, 5), (5, 25)], conditions=conditions)


@pytest.mark.parametrize("kind", ["pictures", "latents"])
def test_every_image_gets_its_own_row(folder: Path, tmp_path: Path, kind: str) -> None:
    """Bug: rows in the order of the file for images in the order drawn: each view with another one's camera."""
    place = folder if kind == "pictures" else write_toy_shards(tmp_path / "latents", images=IMAGES, conditions=True)
    dataset = ImageSetDataset(place, ReadConfig(images=4))
    draws = set()
    for index in range(len(dataset)):
        one = dataset.visit(index, epoch=index)
        draws.add(one.numbers)
        assert one.conditions is not None and one.conditions.dtype == "float32"
        assert one.conditions.tolist() == [[int(one.key[3:]), number, 0.5] for number in one.numbers]
    assert len(draws) == len(dataset)


def test_a_batch_stacks_them(folder: Path) -> None:
    """Bug: conditions of sets that come in another order than their pictures, or stay behind in a worker."""
    for workers in (0, 1):
        (batch,) = load(ImageSetDataset(folder, ReadConfig(images=3)), workers=workers, epochs=1)
        assert batch.conditions is not None and batch.conditions.dtype == torch.float32
        assert torch.equal(batch.conditions[..., 1], batch.numbers.float())
        assert batch.conditions[:, 0, 0].tolist() == [int(key[3:]) for key in batch.keys]


def test_without_conditions_there_are_none(tmp_path: Path) -> None:
    """Bug: zeros, which are a camera too, where nothing is known."""
    dataset = ImageSetDataset(write_folder(tmp_path / "plain", full_sets(6, 3)))
    assert dataset[0].conditions is None
    assert load(dataset, epochs=1)[0].conditions is None


def test_sets_with_and_without_do_not_mix(tmp_path: Path) -> None:
    """Bug: a batch whose conditions are silently dropped for one set that has none."""
    sets = full_sets(6, 3)
    place = write_folder(tmp_path / "mixed", sets, conditions={"set002": toy_conditions("set002", 3)})
    with pytest.raises(UserError, match=r"has conditions of shape"):
        load(ImageSetDataset(place), epochs=1)


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ({"values": [[1.0], [2.0]]}, "have 2 rows, and none for image 2"),
        ({"values": []}, "have 0 rows, and none for image 0"),
        ({"values": [[1.0], [2.0, 3.0], [4.0]]}, "are not 'values', a list with equally many finite numbers"),
        ({"values": [[1.0], ["2"], [3.0]]}, "are not 'values'"),
        ({"values": [[1.0], [True], [3.0]]}, "are not 'values'"),
        ({"values": [[1.0], [math.nan], [3.0]]}, "are not 'values'"),
        ({"values": [[], [], []]}, "are not 'values'"),
        ({"values": [1.0, 2.0, 3.0]}, "are not 'values'"),
        ({"name": "toy"}, "are not 'values'"),
        ([[1.0], [2.0], [3.0]], "are not 'values'"),
    ],
)
def test_what_is_wrong_names_its_place(tmp_path: Path, conditions: Any, words: str) -> None:
    """Bug: an index error of numpy, or NaN that ends the run some hundred steps later."""
    place = write_folder(tmp_path / "wrong", {"set001": [0, 1, 2]}, conditions={"set001": conditions})
    with pytest.raises(ShardError) as caught:
        ImageSetDataset(place, ReadConfig(ordered=True))[0]
    assert words in str(caught.value)
    assert "shard-000000-000-025.tar', set 'set001', entry json: its conditions" in str(caught.value)


def test_rows_of_images_that_were_left_out_are_no_mistake(tmp_path: Path) -> None:
    """Bug: shards of the first five of twelve views that cannot be read, because META tells of all twelve."""
    place = write_folder(
        tmp_path / "few", full_sets(2, 5), conditions={key: toy_conditions(key, 12) for key in keys(2)}
    )
    one = ImageSetDataset(place, ReadConfig(images=2, within=(3, 5)))[0]
    assert one.conditions is not None and sorted(one.conditions[:, 1].tolist()) == [3.0, 4.0]
