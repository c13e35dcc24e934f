"""Stored sets: written in resumable chunks, read as a stream that is a pure function of the step."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from m2m.data.latents import LatentSets
from m2m.data.set_writer import Arrays, Images, SetsConfig, image_seeds, write_sets
from m2m.data.stored import StoredImages, to_pixels
from m2m.data.worlds import World
from m2m.types import UserError

CONFIG = SetsConfig(sets=7, images=3, size=16, arrays=("latents", "images"), encoders=(("latents", "hash"),))


def encode(images: Images) -> Arrays:
    """Means of 8x8 patches: an encoder whose result one can recompute."""
    pixels = to_pixels(images)
    return {"latents": torch.nn.functional.avg_pool2d(pixels, 8).numpy()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sets(tmp_path_factory.mktemp("sets") / "train", CONFIG, encode, chunk=3)


def test_stored_arrays_are_the_rendered_sets(folder: Path) -> None:
    """Guards against sets, captions and seeds that have slipped against each other."""
    sets, world = LatentSets(folder), World.load("mini")
    assert (len(sets), sets.images_per_set) == (7, 3)
    for s in (0, 6):
        expected = np.stack([world.render(sets.captions[s], seed, size=16) for seed in sets.seeds[s]])
        assert np.array_equal(sets.images()[s], expected)
        assert np.allclose(sets.latents[s].float(), encode(expected)["latents"], atol=1e-3)
    assert len({seed for seeds in sets.seeds for seed in seeds}) == 21


def test_seeds_do_not_depend_on_how_many(folder: Path) -> None:
    """Guards against another first image when more images a set are asked for."""
    assert image_seeds(0, 4, 5)[:3] == image_seeds(0, 4, 3) == LatentSets(folder).seeds[4]


def test_workers_render_the_same(folder: Path, tmp_path: Path) -> None:
    """Guards against results that come back from the processes in another order."""
    other = write_sets(tmp_path / "parallel", CONFIG, encode, workers=1, chunk=2)
    assert np.array_equal(LatentSets(other).images(), LatentSets(folder).images())


def test_a_cut_off_run_continues(folder: Path, tmp_path: Path) -> None:
    """Guards against a resumed run that starts over, or leaves a gap of zeros."""
    out, encoded = tmp_path / "cut", []

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    def counting(images: Images) -> Arrays:
        encoded.append(len(images))
        return encode(images)

    with pytest.raises(KeyboardInterrupt):
        write_sets(out, CONFIG, encode, chunk=3, progress=stop)
    with pytest.raises(UserError, match="unfinished"):
        LatentSets(out)
    write_sets(out, CONFIG, counting, chunk=3)
    assert encoded == [9, 3]
    assert torch.equal(LatentSets(out).latents, LatentSets(folder).latents)
    assert sorted(path.name for path in out.iterdir()) == ["images.npy", "latents.npy", "sets.json"]


def test_other_settings_are_refused(folder: Path) -> None:
    """Guards against a folder that mixes two worlds or two encoders."""
    other = SetsConfig(sets=7, images=3, size=16, seed=1, arrays=CONFIG.arrays, encoders=(("latents", "x"),))
    with pytest.raises(UserError, match="encoders is .*hash.*, seed is 0, not 1"):
        write_sets(folder, other, encode)


def test_a_batch_is_a_function_of_its_step(folder: Path) -> None:
    """Guards against a stream whose state a resumed run would not have."""
    straight = list(islice(LatentSets(folder).batches(2, 3, seed=5), 9))
    for start in (8, 3):
        resumed = next(LatentSets(folder).batches(2, 3, seed=5, start_step=start))
        assert torch.equal(resumed.set_ids, straight[start].set_ids)
        assert torch.equal(resumed.latents, straight[start].latents)
    other = LatentSets(folder).batch(2, 3, seed=6, step=0)
    assert not torch.equal(other.image_ids, straight[0].image_ids) or not torch.equal(
        other.set_ids, straight[0].set_ids
    )


def test_an_epoch_visits_every_set_once_in_new_orders(folder: Path) -> None:
    """Guards against sets that are never drawn, and against one order of the images for ever."""
    sets = LatentSets(folder)
    batches = [sets.batch(7, 3, seed=0, step=step) for step in range(6)]
    for batch in batches:
        assert sorted(batch.set_ids.tolist()) == list(range(7))
        assert all(sorted(order) == [0, 1, 2] for order in batch.image_ids.tolist())
    orders = {tuple(batch.image_ids[batch.set_ids.tolist().index(2)].tolist()) for batch in batches}
    assert len(orders) > 1
    assert torch.equal(batches[1].latents[4], sets.latents[batches[1].set_ids[4], batches[1].image_ids[4]].float())


def test_mistakes_are_named(folder: Path, tmp_path: Path) -> None:
    """Guards against index errors from inside a training step."""
    with pytest.raises(UserError, match="does not exist"):
        LatentSets(tmp_path / "nothing")
    with pytest.raises(UserError, match="has 3 images a set; images_per_set is 4"):
        LatentSets(folder).batch(2, 4, seed=0, step=0)
    with pytest.raises(UserError, match="8 sets a batch"):
        LatentSets(folder).batch(8, 2, seed=0, step=0)


def test_pictures_stream(folder: Path) -> None:
    """Guards against pictures that the autoencoder never sees, and pixels outside [-1, 1]."""
    images = StoredImages(folder)
    batch = images.batch(21, seed=0, step=3)
    assert sorted(image.tobytes() for image in batch) == sorted(
        i.tobytes() for i in LatentSets(folder).images()[:].reshape(21, 16, 16, 3)
    )
    pixels = to_pixels(batch)
    assert pixels.shape == (21, 3, 16, 16) and pixels.min() >= -1 and pixels.max() <= 1 and pixels.max() > 0
    assert np.array_equal(batch, images.batch(21, seed=0, step=3))
