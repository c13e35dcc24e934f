"""The sets of an evaluation: which ones, which of their images, and that no more is read than is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from m2m.data.shards import ShardError
from m2m.data.worlds import Caption, World
from m2m.data.worlds.rendering import image_seed
from m2m.evaluation import sets as module
from m2m.evaluation.sets import EvaluationSets, compared_pixels
from m2m.evaluation.truth.held_out import closest_pair
from m2m.types import UserError
from tests.data.reading.test_dataset_damage import damage
from tests.data.reading.toy_shards import SIZE, full_sets, write_folder
from tests.toy_shards import write_toy_shards

WORLD = "world:mini:test:4:3"


def test_given_images_are_the_first_and_real_ones_those_behind_them(tmp_path: Path) -> None:
    """Guards against images that are drawn, as training draws them: given and real could be the same ones."""
    folder = write_folder(tmp_path / "shards", {"set000": range(6), "set001": [0, 2, 3, 4], "set002": range(3)})
    first, second, third = EvaluationSets(folder, given=2, real=3)
    assert first.given[:, 0, 0, 1].tolist() == [0, 1] and first.real[:, 0, 0, 1].tolist() == [2, 3, 4]
    assert second.given[:, 0, 0, 1].tolist() == [0, 2] and second.real[:, 0, 0, 1].tolist() == [3, 4]
    assert third.real[:, 0, 0, 1].tolist() == [2]
    assert first.given.dtype == torch.uint8 and first.given.shape == (2, SIZE, SIZE, 3)
    assert (first.key, first.caption) == ("set000", "caption of set000")


def test_sets_with_too_few_images_are_left_out_and_counted(tmp_path: Path) -> None:
    """Guards against sets that lack a given image, and a ceiling that asks for more real ones than there are."""
    folder = write_folder(tmp_path / "shards", {"set000": range(6), "set001": range(2), "set002": range(5)})
    sets = EvaluationSets(folder, given=3, real=4)
    assert [own.key for own in sets] == ["set000", "set002"] == [sets.key(0), sets.key(1)]
    assert (sets.left_out, sets.fewest_real) == (1, 2)
    assert sets.captions == ["caption of set000", "caption of set002"]


def test_a_choice_of_sets_is_random_and_the_same_every_time(tmp_path: Path) -> None:
    """Guards against the first sets of the data, which may all be of one kind, and another choice every run."""
    folder = write_folder(tmp_path / "shards", full_sets(30, 2), per_shard=10)
    chosen = {seed: [sets.key(i) for i in range(5)] for seed in range(3) for sets in [_few(folder, seed)]}
    again = _few(folder, seed=1)
    assert [own.key for own in again] == chosen[1] == sorted(chosen[1])
    assert len({tuple(keys) for keys in chosen.values()}) == 3
    assert again.identity != _few(folder, seed=2).identity


def _few(folder: Path, seed: int) -> EvaluationSets:
    return EvaluationSets(folder, count=5, given=1, real=1, seed=seed)


def test_sets_of_a_world_are_its_first_captions_painted() -> None:
    """Guards against given images that the renderer gives another seed than it says, and against two that are one."""
    sets = EvaluationSets(WORLD, count=2, given=2, real=30)
    world = World.load("mini")
    assert sets.captions == [own.text for own in world.captions("test", 2, seed=3)] and len(sets) == 2
    painted = [world.render(sets.captions[1], image_seed(3, 1, number)) for number in (0, 1, 31)]
    own = sets[1]
    shown = torch.stack([*own.given, own.real[29]])
    assert torch.equal(shown, torch.stack([torch.from_numpy(picture) for picture in painted]))
    assert own.closest_pair == closest_pair(compared_pixels(torch.cat([own.given, own.real])))
    assert own.closest_pair > 0 and sets.fewest_real == 30


def test_one_object_sets_alone() -> None:
    """Guards against a law of counting that is measured on sets whose count is free."""
    sets = EvaluationSets("world:mini:test:40", count=3, given=1, real=0, only="one-object")
    assert [Caption.parse(own.caption).count for own in sets] == [1, 1, 1]
    assert sets[0].closest_pair is None
    wanted = EvaluationSets("world:mini:test:40", given=1, real=0, only=lambda caption: "style" in caption)
    assert 0 < len(wanted) < 40 and all("style" in caption for caption in wanted.captions)
    with pytest.raises(UserError, match="only is 'two-objects'; there is one-object"):
        EvaluationSets(WORLD, only="two-objects")


def test_a_set_is_read_when_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against 10,000 sets in memory at once, and against painting the tiny world anew for every source."""
    folder = write_folder(tmp_path / "shards", full_sets(4, 5))
    sample = json.loads((folder / "shard-000000-000-025.json").read_text())["samples"][2]
    damage(folder / "shard-000000-000-025.tar", sample["offset"] + 512 + 40)  # within its first picture
    sets = EvaluationSets(folder, given=2, real=2)
    first = sets[0]
    assert sets[0] is first and sets[1].key == "set001" and sets[0] is first
    with pytest.raises(ShardError, match="set002"):
        sets[2]
    monkeypatch.setattr(module, "KEPT_BYTES", 1)
    last = sets[3]
    assert sets[3] is last and sets[0] is not first


def test_the_same_data_elsewhere_are_the_same_sets(tmp_path: Path) -> None:
    """Guards against images that are made again since a folder was moved, and against other data taken for the same."""
    one, moved = (write_folder(tmp_path / name, full_sets(4, 5)) for name in ("one", "moved"))
    other = write_folder(tmp_path / "other", full_sets(4, 6))
    identities = [EvaluationSets(folder, given=2, real=1).identity for folder in (one, moved, other)]
    assert identities[0] == identities[1] != identities[2]
    assert json.loads(json.dumps(identities[0])) == identities[0]
    assert EvaluationSets(one, given=2, real=3).identity == identities[0]


def test_pictures_have_the_size_that_is_asked_for(tmp_path: Path) -> None:
    """Guards against sources that are compared at two sizes."""
    folder = write_folder(tmp_path / "shards", full_sets(2, 3))
    assert EvaluationSets(folder, given=1, real=1).picture_size == SIZE
    sets = EvaluationSets(folder, given=1, real=1, size=16)
    assert sets.picture_size == 16 and sets[1].real.shape == (1, 16, 16, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 5}, "has 4 such sets of 4 images or more; 5 are asked for"),
        ({"count": 0}, "count is 0"),
        ({"given": 0}, "given 0"),
    ],
)
def test_numbers_that_cannot_be_are_refused(changes: dict[str, int], message: str) -> None:
    """Guards against a table over fewer sets than it says."""
    with pytest.raises(UserError, match=message):
        EvaluationSets(WORLD, **changes)


def test_latents_are_refused(tmp_path: Path) -> None:
    """Guards against an error deep in a feature network, where pictures are missing."""
    with pytest.raises(UserError, match="holds latents; pictures are needed"):
        EvaluationSets(write_toy_shards(tmp_path / "toy", sets=2), given=1, real=1)
