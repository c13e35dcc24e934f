"""Sources of pictures: every set gets its own, or, of a floor, surely another one's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from m2m.evaluation.sets import EvaluationSets
from m2m.evaluation.sources import CopySource, FolderSource, RealSource, ShuffledSource, Source, near_copy
from m2m.types import UserError
from tests.data.reading.toy_shards import SIZE, full_sets, write_folder


@pytest.fixture
def sets(tmp_path: Path) -> EvaluationSets:
    """Three sets of two given images and three real ones; red is the set's number, green the image's."""
    return EvaluationSets(write_folder(tmp_path / "shards", full_sets(3)), given=2, real=3)


def write_images(folder: Path, place: str, count: int = 2, size: int = SIZE, suffix: str = "png") -> None:
    """Plain pictures "0.png", "1.png", ... of a sub-folder; red is its last digit, green the image's number."""
    (folder / place).mkdir(parents=True)
    for number in range(count):
        image = Image.new("RGB", (size, size), (int(place[-1]), number, 0))
        image.save(folder / place / f"{number}.{suffix}", lossless=True)


def sets_shown(source: Source, sets: int = 3) -> list[list[int]]:
    """The number of the set that every picture shows."""
    return [source.pictures(i)[:, 0, 0, 0].tolist() for i in range(sets)]


def images_shown(source: Source) -> list[int]:
    return source.pictures(1)[:, 0, 0, 1].tolist()


def test_real_and_copied_images_are_of_the_set_itself(sets: EvaluationSets) -> None:
    """Guards against a ceiling that shows given images, and a floor that copies another one than the last."""
    real, copies = RealSource(sets), CopySource(sets, 4)
    assert sets_shown(real) == [[0] * 3, [1] * 3, [2] * 3] and images_shown(real) == [2, 3, 4]
    assert sets_shown(copies) == [[0] * 4, [1] * 4, [2] * 4] and images_shown(copies) == [1] * 4
    assert (real.images, real.role, copies.images, copies.role) == (3, "ceiling", 4, "floor")


def test_real_images_are_as_many_of_every_set(tmp_path: Path) -> None:
    """Guards against measures of a position that some sets do not have."""
    folder = write_folder(tmp_path / "uneven", {"set000": range(5), "set001": range(3)})
    source = RealSource(EvaluationSets(folder, given=2, real=3))
    assert source.images == 1 and sets_shown(source, 2) == [[0], [1]]
    with pytest.raises(UserError, match="no real images beyond"):
        RealSource(EvaluationSets(folder, given=3, real=3))


@pytest.mark.parametrize("shift", [None, 1, 2, -1, 4])
def test_a_shuffled_context_is_never_the_sets_own(sets: EvaluationSets, shift: int | None) -> None:
    """Guards against a floor that is partly the model itself; and against sets that are answered twice."""
    source = ShuffledSource(RealSource(sets), sets, shift)
    answers = [own[0] for own in sets_shown(source)]
    assert all(answer != own for own, answer in enumerate(answers)) and sorted(answers) == [0, 1, 2]
    assert source.images == 3 and source.role == "floor" and source.name == "real against real, shuffled contexts"


def test_what_cannot_be_shuffled_is_refused(sets: EvaluationSets, tmp_path: Path) -> None:
    """Guards against a circle that leads every set back to itself."""
    with pytest.raises(UserError, match="3 sets, shifted by 3"):
        ShuffledSource(RealSource(sets), sets, 3)
    alone = EvaluationSets(write_folder(tmp_path / "one", full_sets(1)), given=2, real=3)
    with pytest.raises(UserError, match="use more sets"):
        ShuffledSource(RealSource(alone), alone)


def test_a_folder_by_number_and_one_by_key(sets: EvaluationSets, tmp_path: Path) -> None:
    """Guards against pictures that are scored against the captions of another set."""
    for number in range(3):
        write_images(tmp_path / "numbers", f"{number:06d}")
        write_images(tmp_path / "keys", f"set00{number}", suffix="webp")
    for folder in ("numbers", "keys"):
        source = FolderSource(tmp_path / folder, sets, 2)
        assert sets_shown(source) == [[0, 0], [1, 1], [2, 2]] and images_shown(source) == [0, 1]
        assert (source.name, source.role) == (folder, "model")


def test_keys_of_a_world_are_names_of_folders(tmp_path: Path) -> None:
    """Guards against keys with a ":", which some disks refuse in a name."""
    world = EvaluationSets("world:mini:test:2", given=1, real=0, size=16)
    for number in range(2):
        write_images(tmp_path / "out", f"world_mini_test_0_{number}", size=16)
    assert sets_shown(FolderSource(tmp_path / "out", world, 1), 2) == [[0], [1]]


def test_pictures_count_in_the_order_of_their_numbers(sets: EvaluationSets, tmp_path: Path) -> None:
    """Guards against "10.png" before "2.png": positions would be mixed up without a word."""
    for number in range(3):
        write_images(tmp_path / "out", f"{number:06d}", count=11)
    (tmp_path / "out" / "000001" / "notes.txt").write_text("no picture")
    assert images_shown(FolderSource(tmp_path / "out", sets, 11)) == list(range(11))
    assert images_shown(FolderSource(tmp_path / "out", sets, 3)) == [0, 1, 2]


def test_pictures_of_another_size_are_resized(sets: EvaluationSets, tmp_path: Path) -> None:
    """Guards against features and distances between pictures of two sizes."""
    for number in range(3):
        write_images(tmp_path / "out", f"{number:06d}", size=20)
    assert FolderSource(tmp_path / "out", sets, 2).pictures(2).shape == (2, SIZE, SIZE, 3)


def test_missing_pictures_are_told_before_any_is_scored(sets: EvaluationSets, tmp_path: Path) -> None:
    """Guards against an hour of scoring that ends at the last set."""
    write_images(tmp_path / "out", "000000")
    write_images(tmp_path / "out", "set001", count=1)
    with pytest.raises(UserError, match="set001' holds too few pictures, 1; 2 are needed"):
        FolderSource(tmp_path / "out", sets, 2)
    with pytest.raises(UserError, match="lacks set 2: it has neither '000002' nor 'set002'"):
        FolderSource(tmp_path / "out", sets, 1)
    with pytest.raises(UserError, match="is no folder"):
        FolderSource(tmp_path / "nothing", sets, 1)


def test_near_copies_are_closer_than_two_real_images_ever_are() -> None:
    """Guards against a limit that no copy passes, or that an honest further image of the set passes."""
    own = EvaluationSets("world:mini:test:1", given=2, real=4)[0]
    nudged = (own.given[:1].int() + 1).clamp(max=255).to(torch.uint8)
    pictures = torch.cat([own.given, nudged, own.real])
    assert near_copy(pictures, own).tolist() == [True] * 3 + [False] * 4
    large = [Image.fromarray(picture.numpy()).resize((192, 192), Image.Resampling.NEAREST) for picture in pictures]
    assert near_copy(torch.from_numpy(np.stack([np.asarray(image) for image in large])), own)[:3].all()


def test_a_set_of_one_image_has_no_near_copies() -> None:
    """Guards against a share of near-copies that was never measured."""
    own = EvaluationSets("world:mini:test:1", given=1, real=0)[0]
    with pytest.raises(UserError, match="one image alone"):
        near_copy(own.given, own)
