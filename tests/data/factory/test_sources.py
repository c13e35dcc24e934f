"""A source of sets: what it says of them, and that an image does not depend on what is made with it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from m2m.data.captions.store import CaptionStore
from m2m.data.factory.recipes import open_source
from m2m.data.factory.sources import GeneratedSets, SetSource
from m2m.data.generators import GeneratorOptions, image_seed, open_generator
from m2m.types import UserError
from tests.data.factory.making import captions_folder, world_recipe


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return captions_folder(tmp_path_factory.mktemp("source") / "captions", count=6)


@pytest.fixture
def source(captions: Path) -> SetSource:
    return open_source(world_recipe(captions))


def test_a_set_is_a_caption_with_the_seeds_of_all_its_images(source: SetSource, captions: Path) -> None:
    """Seeds that follow from the set's place, not from its caption, would change when the captions are split anew."""
    rows = CaptionStore.open(captions).rows("train", 2, 4)
    plans = source.sets(2, 4)
    assert [plan.key for plan in plans] == [row.id for row in rows]
    assert [plan.meta["caption"] for plan in plans] == [row.caption for row in rows]
    assert plans[0].meta["seeds"] == [image_seed(rows[0].id, number) for number in range(5)]
    assert plans[0].images == 5
    assert plans[0].meta["generator"]["fingerprint"]


def test_an_image_is_the_same_in_any_company_and_as_any_part_of_a_set(captions: Path, source: SetSource) -> None:
    """What is made again, or later, or by another worker, has another batch around it."""
    longer = open_source(world_recipe(captions, batch=7, images_per_set=25))
    plans = source.sets(0, 3)
    together = source.make([(plan, number) for plan in plans for number in range(5)])
    alone = longer.make([(longer.sets(1, 2)[0], 3)])
    assert together[5 + 3] is not None and alone[0] is not None
    assert np.array_equal(together[5 + 3], alone[0])
    assert not np.array_equal(together[5 + 3], together[5 + 2])


def test_another_seed_draws_other_images(captions: Path, source: SetSource) -> None:
    """Ignored, --seed would give the same data set twice."""
    other = open_source(world_recipe(captions, seed=1))
    assert source.sets(0, 1)[0].meta["seeds"] != other.sets(0, 1)[0].meta["seeds"]


def test_settings_name_what_shapes_the_sets_and_nothing_of_this_machine(source: SetSource, captions: Path) -> None:
    """A path or a device among them, and a folder of shards could not be continued elsewhere."""
    settings = source.settings()
    assert settings["captions"] == CaptionStore.open(captions).digest("train")
    assert (settings["split"], settings["images_per_set"], settings["seed"]) == ("train", 5, 0)
    assert str(captions.parent) not in json.dumps(settings)
    assert settings == open_source(world_recipe(captions)).settings()


def test_only_the_first_sets_on_request_and_never_more_than_there_are(captions: Path) -> None:
    """A shard short of sets without a word would be taken for a whole one."""
    assert len(open_source(world_recipe(captions))) == 6
    assert len(open_source(world_recipe(captions, sets=4))) == 4
    with pytest.raises(UserError, match="holds 6, fewer than the 7 sets"):
        open_source(world_recipe(captions, sets=7))


def test_a_recipe_of_an_unknown_kind_or_with_a_wrong_split_is_refused(captions: Path) -> None:
    """A typo must not end deep in another module."""
    with pytest.raises(UserError, match="no source of sets 'film'"):
        open_source({"source": "film"})
    with pytest.raises(UserError, match="no split 'dev'"):
        open_source(world_recipe(captions, split="dev"))
    store, generator = CaptionStore.open(captions), open_generator(GeneratorOptions("world:mini"))
    with pytest.raises(UserError, match="nothing to make"):
        GeneratedSets(store, "train", generator, images_per_set=0)
