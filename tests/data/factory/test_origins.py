"""From a folder's own settings to the source that made it: nothing of the original command line is needed."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from m2m.data.factory.build import build
from m2m.data.factory.folder import read_build
from m2m.data.factory.origins import Places, source_opener
from m2m.data.factory.recipes import captions_recipe, open_source
from m2m.data.factory.repair import build_settings, repair
from m2m.data.factory.settings import BuildSettings, identity
from m2m.data.factory.sources import SetSource
from m2m.data.generators import GeneratorOptions
from m2m.data.real_sets import CocoOptions, CocoSets, FolderOptions, FolderSets
from m2m.types import UserError
from tests.data.factory.making import captions_folder, contents, world_recipe
from tests.data.generators.pipelines import save_stable_diffusion
from tests.data.real_sets.samples import album, cats_and_dogs, truncate, write_coco
from tests.data.shards.making import flip


def check_repaired(source: SetSource, out: Path, places: Places, **settings: object) -> None:
    """Build with the source, damage a shard, repair it with what is opened from the folder alone."""
    build(source, BuildSettings(out=out, images=(0, 3), **settings))  # type: ignore[arg-type]
    before = contents(out)
    damaged = sorted(out.glob("*.tar"))[-1]
    flip(damaged, 1200)
    again = source_opener(read_build(out)[0], places)()
    assert identity(again, build_settings(out)) == read_build(out)[0]
    assert repair(out, again, [damaged.stem]).repaired == (damaged.stem,)
    assert contents(out) == before


@pytest.mark.parametrize("format", ["webp", "png", "jpg"])
def test_a_build_of_the_tiny_world_needs_its_captions_alone(tmp_path: Path, format: str) -> None:
    """The format, the quality, the cut, the seed: forgotten options would make other shards."""
    captions = captions_folder(tmp_path / "captions", count=5)
    recipe = world_recipe(captions, images_per_set=4, seed=3, sets=4)
    moved = captions.rename(tmp_path / "moved")
    recipe["captions"] = str(moved)
    settings = {"sets_per_shard": 3, "format": format, "quality": 71}
    check_repaired(open_source(recipe), tmp_path / "out", Places(captions=moved), **settings)


def test_a_build_of_a_pipeline_needs_its_folder(tmp_path: Path) -> None:
    """Steps, guidance, scheduler and size come from the settings; only where the weights lie is not known."""
    captions = captions_folder(tmp_path / "captions", count=2)
    pipeline = save_stable_diffusion(tmp_path / "sd")
    options = GeneratorOptions(f"diffusers:{pipeline}", size=16, batch=2, steps=2, guidance_scale=3.0, device="cpu")
    source = open_source(captions_recipe(str(captions), asdict(options), images_per_set=3))
    source.settings()  # has the weights hashed, while they are there
    moved = shutil.move(pipeline, tmp_path / "elsewhere")
    places = Places(captions=captions, generator=f"diffusers:{moved}", device="cpu")
    check_repaired(source, tmp_path / "out", places, sets_per_shard=1)


def test_real_sets_need_their_pictures(tmp_path: Path) -> None:
    """A file that was left out as broken when the folder was made must not end its repair."""
    pictures = album(tmp_path / "album")
    truncate(pictures / "cats" / "cat 3.png")
    options = FolderOptions(pictures, size=16, max_images=5, skip_broken=True)
    check_repaired(FolderSets(options), tmp_path / "out", Places(pictures=pictures), sets_per_shard=1)


def test_coco_sets_need_pictures_and_annotations(tmp_path: Path) -> None:
    """The draw that put images together is in the settings."""
    annotations, images = write_coco(tmp_path / "coco", 14, cats_and_dogs())
    options = CocoOptions(annotations, images, size=16, images_per_set=3, min_area=0.01, seed=4)
    places = Places(pictures=images, annotations=annotations)
    check_repaired(CocoSets(options), tmp_path / "out", places, sets_per_shard=2)


@pytest.mark.parametrize(
    ("settings", "option"),
    [
        ({"source": "captions"}, "--captions"),
        ({"source": "folder"}, "--pictures"),
        ({"source": "coco"}, "--annotations"),
    ],
)
def test_a_place_that_is_not_given_is_asked_for_at_once(settings: dict[str, str], option: str) -> None:
    """Asked after the hours that reading terabytes takes, the option comes too late."""
    with pytest.raises(UserError, match=option):
        source_opener(settings, Places())


def test_settings_of_no_known_source_are_refused(tmp_path: Path) -> None:
    """A KeyError about a folder that another program made."""
    with pytest.raises(UserError, match="source 'toy'"):
        source_opener({"source": "toy"}, Places())
    with pytest.raises(UserError, match="generator"):
        source_opener({"source": "captions"}, Places(captions=tmp_path))
