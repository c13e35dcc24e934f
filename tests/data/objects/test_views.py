"""The miniature on the disk: its layout, its splits, its seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m2m.data.cameras import camera_positions, check_cameras
from m2m.data.objects.views import DISTANCE, SHAPELESS, ObjectOptions, draw_cameras, numbers_of, write_objects
from m2m.data.real_sets.objaverse import ObjaverseOptions, ObjaverseSets
from m2m.types import UserError

pytest.importorskip("pybullet")
TWO = ObjectOptions("test", size=16, views=3, count=2)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_splits_share_no_object() -> None:
    """Bug: what is tested on was trained on. The numbers never change."""
    splits = [numbers_of(split) for split in ("train", "validation", "test")]
    assert [len(numbers) for numbers in splits] == [899, 50, 50]
    assert set().union(*splits) == set(range(1000)) - {SHAPELESS}
    assert splits[2][:5] == [4, 9, 20, 27, 39]


def test_the_layout_is_that_of_zero_1_to_3(tmp_path: Path) -> None:
    """Bug: pictures that another reader of such renders cannot use; and ours reads what people have."""
    assert write_objects(TWO, tmp_path) == (2, 2)
    assert sorted(path.name for path in (tmp_path / "004").iterdir()) == sorted(
        f"{number:03d}.{kind}" for number in range(3) for kind in ("png", "npy")
    )
    with Image.open(tmp_path / "004" / "002.png") as picture:
        assert picture.mode == "RGBA" and picture.size == (16, 16)
    cameras = check_cameras([np.load(path) for path in sorted((tmp_path / "004").glob("*.npy"))], "004")
    np.testing.assert_allclose(np.linalg.norm(camera_positions(cameras), axis=1), DISTANCE, rtol=1e-5)
    sets = ObjaverseSets(ObjaverseOptions(tmp_path, 16))
    assert [(plan.meta["object"], plan.images) for plan in sets.sets(0, 9)] == [("004", 3), ("009", 3)]


def test_the_same_again_and_another_seed(tmp_path: Path) -> None:
    """Bug: pictures that depend on what was made before them, or on nothing at all."""
    write_objects(TWO, tmp_path / "a")
    write_objects(ObjectOptions("test", size=16, views=3, count=1), tmp_path / "b")
    before = content(tmp_path / "a")
    (tmp_path / "b" / "004").rename(tmp_path / "b" / "moved")
    assert write_objects(TWO, tmp_path / "b") == (2, 2)
    assert content(tmp_path / "b" / "009") == content(tmp_path / "a" / "009")
    assert content(tmp_path / "b" / "004") == content(tmp_path / "a" / "004")
    write_objects(ObjectOptions("test", size=16, views=3, seed=1, count=1), tmp_path / "c")
    other = content(tmp_path / "c" / "004")
    assert not any(other[name] == value for name, value in content(tmp_path / "a" / "004").items())
    assert write_objects(TWO, tmp_path / "a") == (2, 0) and content(tmp_path / "a") == before


def test_a_folder_of_other_views_is_refused(tmp_path: Path) -> None:
    """Bug: objects of 64 pixels among objects of 96, or test objects in a folder of training."""
    write_objects(TWO, tmp_path)
    for other in (ObjectOptions("test", 24, 3, count=2), ObjectOptions("train", 16, 3, count=2)):
        with pytest.raises(UserError, match="was made with .*; choose another folder"):
            write_objects(other, tmp_path)


def test_an_object_that_was_cut_off_is_not_there(tmp_path: Path) -> None:
    """Bug: half an object's views, which the next run takes for the whole."""

    def stop(done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_objects(TWO, tmp_path, stop)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["004", "objects.json"]
    assert write_objects(TWO, tmp_path) == (2, 1)


def test_cameras_are_all_around_and_never_nearly_the_same() -> None:
    """Bug: two views of one object that nobody can tell apart, or the same sequence of directions for every object."""
    places = [camera_positions(draw_cameras(12, np.random.default_rng(seed))) / DISTANCE for seed in range(50)]
    for directions in places:
        azimuth = np.sort(np.degrees(np.arctan2(directions[:, 1], directions[:, 0])) % 360)
        gaps = np.diff([*azimuth, azimuth[0] + 360])
        assert gaps.min() > 11.9 and gaps.max() < 48.1
    elevations = np.degrees(np.arcsin(np.stack(places)[..., 2]))
    assert -10.1 < elevations.min() < -8 and 58 < elevations.max() < 60.1
    firsts = np.degrees(np.arctan2(*np.stack(places)[:, 0, 1::-1].T)) % 360
    assert np.ptp(firsts) > 270


@pytest.mark.parametrize(
    "wrong", [{"split": "dev"}, {"size": 4}, {"size": 5000}, {"views": 0}, {"views": 1001}, {"seed": -1}, {"count": 0}]
)
def test_options_out_of_range(wrong: dict) -> None:
    """Bug: an error of numpy or pybullet, half-way."""
    with pytest.raises(UserError, match=next(iter(wrong))):
        ObjectOptions(**wrong)
