"""Objects seen from several cameras as sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m2m.data.real_sets.objaverse import ObjaverseOptions, ObjaverseSets
from m2m.data.real_sets.splits import split_of
from m2m.types import UserError
from tests.data.real_sets.samples import truncate
from tests.data.real_sets.view_samples import save_object


def sets_of(folder: Path, **options: object) -> ObjaverseSets:
    return ObjaverseSets(ObjaverseOptions(folder, **{"size": 24, **options}))  # type: ignore[arg-type]


def test_each_picture_keeps_its_camera(tmp_path: Path) -> None:
    """Bug: cameras sorted as text ("10" before "2") beside pictures in natural order, or another object's."""
    cameras = {name: save_object(tmp_path / name, views, seed) for seed, (name, views) in enumerate(OBJECTS.items())}
    for path in (tmp_path / "b").iterdir():
        path.rename(path.with_stem(str(int(path.stem))))
    sets = sets_of(tmp_path)
    plans = {plan.meta["object"]: plan for plan in sets.sets(0, 9)}
    assert {name: plan.images for name, plan in plans.items()} == OBJECTS
    for name, plan in plans.items():
        told = plan.meta["conditions"]
        assert told["name"] == "camera"
        np.testing.assert_allclose(np.reshape(told["values"], (-1, 3, 4)), cameras[name], atol=1e-7)
    assert plans["b"].meta["files"] == [f"b/{number}.png" for number in range(12)]
    assert plans["000-023/c"].meta["files"] == ["000-023/c/000.png", "000-023/c/001.png"]


OBJECTS = {"000-023/c": 2, "a": 3, "b": 12}


def test_transparency_becomes_white(tmp_path: Path) -> None:
    """Bug: the black that lies below transparent pixels shows as a black background."""
    save_object(tmp_path / "a", 2)
    sets = sets_of(tmp_path)
    picture = sets.make([(sets.sets(0, 1)[0], 1)])[0]
    assert picture is not None and (picture[0] == 255).all() and (picture[:, -1] == 255).all()
    stored = np.asarray(Image.open(tmp_path / "a" / "001.png"))
    assert np.array_equal(picture[12, 12], stored[12, 12, :3])


def test_first_views_and_four_rows(tmp_path: Path) -> None:
    """Bug: a limit on pictures that is none on cameras; 4x4 matrices stored as 16 numbers."""
    cameras = save_object(tmp_path / "a", 5)
    np.save(tmp_path / "a" / "001.npy", np.vstack([cameras[1], [0, 0, 0, 1]]))
    plan = sets_of(tmp_path, max_views=3).sets(0, 1)[0]
    assert plan.images == 3
    np.testing.assert_allclose(plan.meta["conditions"]["values"], cameras[:3].reshape(3, 12), atol=1e-7)


def test_settings_tell_every_change_of_a_camera(tmp_path: Path) -> None:
    """Bug: shards with yesterday's cameras continued with today's, for the pictures are the same."""
    cameras = save_object(tmp_path / "a", 3)
    before = sets_of(tmp_path).settings()
    assert before == sets_of(tmp_path).settings() and str(tmp_path) not in str(before)
    np.save(tmp_path / "a" / "002.npy", cameras[0])
    assert sets_of(tmp_path).settings() != before


def test_splits_are_of_objects_by_name(tmp_path: Path) -> None:
    """Bug: a split by place in the list lets a new object move old ones from training into the test."""
    names = [f"object{number}" for number in range(400)]
    shares = {split: [name for name in names if split_of(name) == split] for split in ("train", "validation", "test")}
    assert sum(map(len, shares.values())) == 400
    assert 340 <= len(shares["train"]) <= 380 and min(map(len, shares.values())) >= 8
    for split, members in shares.items():
        save_object(tmp_path / "shelf" / members[0], 2)
        assert [plan.meta["object"] for plan in sets_of(tmp_path, split=split).sets(0, 9)] == [f"shelf/{members[0]}"]


def lost_camera(folder: Path) -> str:
    (folder / "001.npy").unlink()
    return "001.png' has no camera beside it"


def lost_picture(folder: Path) -> str:
    (folder / "001.png").unlink()
    return "001.npy' has no picture beside it"


def single_view(folder: Path) -> str:
    for number in (1, 2):
        (folder / f"{number:03d}.png").unlink()
        (folder / f"{number:03d}.npy").unlink()
    return "has a single view"


def flat_matrix(folder: Path) -> str:
    np.save(folder / "001.npy", np.zeros(12))
    return "001.npy' is 12; it must be 3x4"


def no_rotation(folder: Path) -> str:
    np.save(folder / "001.npy", np.ones((3, 4)))
    return "001.npy' is no rotation"


def not_finite(folder: Path) -> str:
    np.save(folder / "001.npy", np.full((3, 4), np.inf))
    return "001.npy' holds a value that is not finite"


def no_array(folder: Path) -> str:
    (folder / "001.npy").write_text("3x4")
    return "001.npy' is no array"


def of_objects(folder: Path) -> str:
    np.save(folder / "001.npy", np.array([[None] * 4] * 3), allow_pickle=True)
    return "001.npy' is no array"


def several_arrays(folder: Path) -> str:
    with open(folder / "001.npy", "wb") as file:
        np.savez(file, camera=np.eye(3, 4))
    return "001.npy' is no"


def half_a_picture(folder: Path) -> str:
    truncate(folder / "002.png")
    return "002.png' is a broken PNG picture"


DAMAGES = (lost_camera, lost_picture, single_view, flat_matrix, no_rotation, not_finite, no_array, of_objects)


@pytest.mark.parametrize("damage", [*DAMAGES, several_arrays, half_a_picture])
def test_what_cannot_be_used_is_named_or_left_out(tmp_path: Path, damage: Callable[[Path], str]) -> None:
    """Bug: a wrong camera that trains; or one broken object of 800,000 that cannot be done without."""
    for number, name in enumerate(("a", "b", "c")):
        save_object(tmp_path / name, 3, seed=number)
    message = damage(tmp_path / "b")
    with pytest.raises(UserError) as caught:
        sets_of(tmp_path)
    assert message in str(caught.value) and "--broken skip" in str(caught.value) and "\n" not in str(caught.value)
    sets = sets_of(tmp_path, skip_broken=True)
    assert [plan.meta["object"] for plan in sets.sets(0, 9)] == ["a", "c"]
    assert len(sets.refused) == 1 and message in sets.refused[0].reason


def test_no_objects(tmp_path: Path) -> None:
    """Bug: empty shards. The layout is told, and so is a split that has no object."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no objects: folders of NNN\.png and NNN\.npy"):
        sets_of(tmp_path)
    save_object(tmp_path / "a", 2)
    other = "test" if split_of("a") != "test" else "train"
    with pytest.raises(UserError, match=f"holds no objects of the split '{other}'"):
        sets_of(tmp_path, split=other)
    with pytest.raises(UserError, match="is no folder"):
        sets_of(tmp_path / "nowhere")
