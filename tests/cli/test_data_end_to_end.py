"""The way of a user: captions, 25 images each, verified, encoded, read for training; one command after the other."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from m2m.cli.main import main
from m2m.data.reading.dataset import ImageSetDataset, ReadConfig
from m2m.data.reading.order import OrderConfig
from m2m.data.worlds import World


def m2m(line: str) -> int:
    return main(line.split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """captions (world:mini), mis (25 images of each) and mis-latents (by the shipped autoencoder)."""
    here = tmp_path_factory.mktemp("mis")
    assert m2m(f"data captions world:mini:train:9 --test 3 --out {here}/captions") == 0
    build = f"data build --captions {here}/captions --generator world:mini --sets-per-shard 4 --out {here}/mis"
    assert m2m(f"{build} --images 0:5") == 0
    assert m2m(build) == 0
    assert m2m(f"data encode {here}/mis --model tiny-self --threads 1 --out {here}/mis-latents") == 0
    return here


def test_a_set_is_the_worlds_25_images_of_its_caption(folder: Path) -> None:
    """Pictures that lie under another caption or number than they were drawn for would train a model on noise."""
    world = World.load("mini")
    dataset = ImageSetDataset(folder / "mis", ReadConfig(ordered=True))
    assert len(dataset) == 6
    for i in range(len(dataset)):
        image_set = dataset[i]
        assert image_set.numbers == tuple(range(25)) and image_set.images is not None
        assert len({image.tobytes() for image in image_set.images}) == 25
        # WebP at quality 90 blurs; what the caption fixes is there in the mean of 25 pictures.
        drawn = np.mean([world.render(image_set.caption, seed) for seed in range(25)], axis=0)
        others = [np.abs(np.mean(dataset[j].images, axis=0) - drawn).mean() for j in range(len(dataset))]
        assert np.argmin(others) == i


def test_encoded_sets_are_read_in_the_same_order(folder: Path) -> None:
    """Training on latents must see the sets and images that training on pictures would see."""
    config, order = ReadConfig(images=5, seed=2), OrderConfig(batch_sets=2, seed=1, epochs=1)
    pictures = ImageSetDataset(folder / "mis", config)
    latents = ImageSetDataset(folder / "mis-latents", config)
    drawn = [(pictures[plan], latents[plan]) for plan in pictures.order(order)]
    assert len(drawn) == 3
    for seen, encoded in drawn:
        assert seen.keys == encoded.keys and torch.equal(seen.numbers, encoded.numbers)
        assert encoded.latents.shape == (2, 5, 8, 8, 8) and encoded.images is None


def test_a_damaged_folder_is_found_and_mended(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a disk loses must be named, and come back the same to the byte."""
    mis = tmp_path / "mis"
    shutil.copytree(folder / "mis", mis)
    shard = mis / "shard-000001-005-025.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    assert m2m(f"data verify {mis}") == 1
    assert "shard-000001-005-025" in capsys.readouterr().out
    assert m2m(f"data verify {mis} --repair --captions {folder}/captions") == 0
    assert shard.read_bytes() == whole
    assert m2m(f"data verify {mis}") == 0
