"""Captions to shards with Stable Diffusion, Euler and 7.5, 25 images a set (section 4 of the paper, in small)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from m2m.data.captions.store import CaptionStore
from m2m.data.factory.build import build
from m2m.data.factory.settings import BuildSettings
from m2m.data.factory.sources import GeneratedSets
from m2m.data.generators import Generator, GeneratorOptions, image_seed, open_generator
from m2m.data.shards import ShardReader, image_suffix, open_json, open_picture, read_manifest, read_record, shard_path
from tests.data.factory.making import captions_folder

IMAGES = 25
Pictures = dict[tuple[str, int], np.ndarray]  # (caption, number of the image) -> the picture


def stored(out: Path) -> Pictures:
    """Every picture of a finished folder."""
    pictures: Pictures = {}
    for entry in read_manifest(out).shards:
        with ShardReader(shard_path(out, entry.name), read_record(out, entry.name)) as reader:
            for number in range(len(reader)):
                entries = reader.read(number)
                caption = open_json(entries["json"], "json")["caption"]
                for image in range(*entry.images):
                    payload = entries[image_suffix(image, "png")]
                    pictures[caption, image] = np.asarray(open_picture(payload, caption))
    return pictures


def make(store: CaptionStore, generator: Generator, out: Path, *slices: tuple[int, int]) -> Pictures:
    for images in slices:
        source = GeneratedSets(store, "train", generator, images_per_set=IMAGES)
        report = build(source, BuildSettings(out, images, sets_per_shard=2, format="png"))
        assert report.complete and not report.failed
    return stored(out)


def test_shards_hold_what_the_pipeline_paints(stable_diffusion: Path, tmp_path: Path) -> None:
    """All at once, or five images now and twenty later: each picture is the one of its caption and its own seed."""
    store = CaptionStore.open(captions_folder(tmp_path / "captions", count=3))
    options = GeneratorOptions(f"diffusers:{stable_diffusion}", size=32, steps=2, device="cpu")
    generator = open_generator(options)
    made = make(store, generator, tmp_path / "whole", (0, IMAGES))
    rows = store.rows("train", 0, 3)
    assert set(made) == {(row.caption, number) for row in rows for number in range(IMAGES)}
    for row, number in ((rows[0], 0), (rows[1], 13), (rows[2], 24)):
        (wanted,) = generator.generate([row.caption], [image_seed(row.id, number)])
        assert wanted is not None
        # Alone instead of in a batch of eight: what is left is rounding, other noise would be tens of grey levels.
        assert np.abs(made[row.caption, number].astype(int) - wanted).max() <= 1
    assert len({picture.tobytes() for picture in made.values()}) == 3 * IMAGES
    parts = make(store, generator, tmp_path / "parts", (0, 5), (5, IMAGES))
    assert all(np.abs(parts[place].astype(int) - made[place]).max() <= 1 for place in made)
