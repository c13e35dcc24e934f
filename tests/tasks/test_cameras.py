"""Relative cameras, the order of generation, and cameras as a user writes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from m2m.data.cameras import camera_positions, look_at_origin
from m2m.tasks.cameras import generation_order, orbit, parse_cameras, relative_cameras
from m2m.types import UserError


def some_cameras(count: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return look_at_origin(generator.uniform(0, 360, count), generator.uniform(-60, 60, count), generator.uniform(1, 3))


def turned(cameras: np.ndarray, angle: float) -> np.ndarray:
    """The same cameras where the world is turned about its vertical axis."""
    cosine, sine = np.cos(angle), np.sin(angle)
    world = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    return np.concatenate([cameras[..., :3] @ world, cameras[..., 3:]], axis=-1)


def test_azimuth_is_counted_from_the_first_camera_and_elevation_from_the_ground() -> None:
    """Bug: turned the wrong way, or another camera's azimuth taken, or the first one's elevation lost."""
    told = relative_cameras(look_at_origin([70, 100, 60], [20, -5, 40], 2.0))
    assert told.shape == (3, 12) and told.dtype == np.float32
    wanted = look_at_origin([0, 30, -10], [20, -5, 40], 1.0)
    np.testing.assert_allclose(told.reshape(3, 3, 4), wanted, atol=1e-5)


def test_a_point_of_the_object_is_seen_where_it_was() -> None:
    """Bug: matrices that are cameras no more, which two equal numbers do not show."""
    cameras = some_cameras(4)
    told = relative_cameras(cameras).reshape(4, 3, 4)
    point, distance = np.array([0.1, -0.2, 0.3]), np.linalg.norm(cameras[0, :, 3])
    centre = camera_positions(cameras[:1])[0]
    angle = np.arctan2(centre[1], centre[0])
    world = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    seen = cameras[..., :3] @ point + cameras[..., 3]
    np.testing.assert_allclose(told[..., :3] @ (world @ point) + told[..., 3] * distance, seen, atol=1e-5)


def test_a_camera_straight_above_has_an_azimuth_too() -> None:
    """Bug: a division by zero; or a jump, where a camera that nearly stands above counts from somewhere else."""
    above, nearly = (np.array([look_down(70, elevation)]) for elevation in (90, 89.9))
    np.testing.assert_allclose(relative_cameras(above), relative_cameras(nearly), atol=5e-3)


def look_down(azimuth: float, elevation: float) -> np.ndarray:
    """A camera at distance 1, also straight above, where `look_at_origin` does not go."""
    a, e = np.radians([azimuth, elevation])
    back = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    right = np.array([-np.sin(a), np.cos(a), 0])
    return np.concatenate([np.stack([right, np.cross(back, right), back]), [[0], [0], [-1]]], axis=1)


def test_neither_the_unit_of_length_nor_a_turned_world_matters() -> None:
    """Bug: absolute cameras, or lengths in the renderer's unit: the same views of an object twice as large differ."""
    cameras = some_cameras(5)
    larger = cameras * [1, 1, 1, 2.5]
    for others in (larger, turned(cameras, 1.2), turned(larger, -2.0)):
        np.testing.assert_allclose(relative_cameras(others), relative_cameras(cameras), atol=1e-5)


def test_the_scale_does_not_follow_the_views_that_are_asked_for() -> None:
    """Bug: lengths in parts of the farthest camera's: a view is told otherwise as soon as another is wanted too."""
    cameras = some_cameras(5)
    assert np.array_equal(relative_cameras(cameras)[:2], relative_cameras(cameras[:2]))
    nearer = look_at_origin([0, 0], 20, [2, 1])
    np.testing.assert_allclose(relative_cameras(nearer)[1, 3::4], [0, 0, -0.5], atol=1e-6)


def test_rows_of_twelve_and_batches_are_read_as_matrices_are() -> None:
    """Bug: 12 numbers column by column, or one set's origin for the whole batch."""
    sets = np.stack([some_cameras(3, seed) for seed in range(2)])
    told = relative_cameras(sets.reshape(2, 3, 12))
    assert told.shape == (2, 3, 12)
    for found, cameras in zip(told, sets, strict=True):
        assert np.array_equal(found, relative_cameras(cameras))


def test_an_image_without_a_camera_stays_so() -> None:
    """Bug: NaN, which says "no camera", spread over the set, or turned into numbers."""
    cameras = some_cameras(3)
    unknown = np.where(np.arange(3)[:, None, None] == 1, np.nan, cameras)
    told = relative_cameras(unknown)
    assert np.isnan(told[1]).all() and np.array_equal(told[[0, 2]], relative_cameras(cameras)[[0, 2]])


def test_a_first_camera_at_the_origin_has_no_distance() -> None:
    """Bug: a division by zero that trains on infinities."""
    with pytest.raises(UserError, match="stands at the world's origin"):
        relative_cameras(np.eye(3, 4)[None])


def test_an_orbit_goes_evenly_around() -> None:
    """Bug: the last camera on top of the first (360 degrees), or degrees taken for radians."""
    places = camera_positions(orbit(4, elevation=0, azimuth=90, distance=2))
    np.testing.assert_allclose(places, [[0, 2, 0], [-2, 0, 0], [0, -2, 0], [2, 0, 0]], atol=1e-5)


def test_views_go_on_from_what_is_near() -> None:
    """Bug: the order of the angles, which leaves the given image in one direction only and comes back from behind."""
    cameras = orbit(6)
    order = generation_order(cameras, 1)
    assert sorted(order) == [1, 2, 3, 4, 5] and order[-1] == 3
    assert {order[0], order[1]} == {1, 5} and {order[2], order[3]} == {2, 4}


def test_the_order_starts_from_any_given_image_and_follows_made_ones() -> None:
    """Bug: near to the first image alone, or to given ones alone."""
    cameras = look_at_origin([0, 180, 90, 200, 45, 20], 0, 1)
    assert generation_order(cameras, 2) == [3, 5, 4, 2]


def test_an_orbit_as_a_user_writes_it() -> None:
    """The given image is one place of the turn; the views are the others."""
    cameras = parse_cameras("orbit:8,elevation=30,distance=2", 1)
    np.testing.assert_array_equal(cameras.given, look_at_origin([0], 30, 1))
    np.testing.assert_array_equal(cameras.views, orbit(9, 30, 0, 2)[1:])
    assert cameras.all.shape == (9, 3, 4)
    told = relative_cameras(parse_cameras("orbit:3,azimuth=45", 1).all)
    np.testing.assert_allclose(told, relative_cameras(look_at_origin([0, 135, 225, 315], 20, 1)), atol=1e-5)


@pytest.mark.parametrize("rows", [3, 4])
@pytest.mark.parametrize("named", [False, True])
def test_cameras_from_a_file(tmp_path: Path, rows: int, named: bool) -> None:
    """Bug: given ones and views mixed up; a file of 4x4 matrices refused."""
    cameras = some_cameras(5)
    full = np.concatenate([cameras, np.tile([0, 0, 0, 1], (5, 1, 1))], axis=1)[:, :rows].tolist()
    path = tmp_path / "cameras.json"
    path.write_text(json.dumps({"given": full[:2], "views": full[2:]} if named else full))
    read = parse_cameras(str(path), 2)
    np.testing.assert_allclose(read.given, cameras[:2], atol=1e-6)
    np.testing.assert_allclose(read.views, cameras[2:], atol=1e-6)


@pytest.mark.parametrize(
    ("text", "given", "message"),
    [
        ("spiral:8", 1, "'spiral:8' are unknown; use orbit:8,elevation=20"),
        ("", 1, "use orbit:8"),
        ("orbit:", 1, "'' is no number of views"),
        ("orbit:0", 1, "'0' is no number of views"),
        ("orbit:8,height=2", 1, "'height=2' is none of elevation, azimuth, distance"),
        ("orbit:8,elevation=high", 1, "elevation is 'high'; it must be a number from -89 to 89"),
        ("orbit:8,elevation=90", 1, "elevation is '90'"),
        ("orbit:8,distance=nan", 1, "distance is 'nan'"),
        ("orbit:8,azimuth", 1, "azimuth is ''"),
        ("orbit:8", 2, "do not say where 2 given images were taken from; use a FILE.json"),
        ("missing.json", 1, "'missing.json' does not exist"),
    ],
)
def test_what_says_no_cameras(text: str, given: int, message: str) -> None:
    """Bug: an error of the inner works, or an orbit that the user did not ask for."""
    with pytest.raises(UserError) as caught:
        parse_cameras(text, given)
    assert message in str(caught.value) and "\n" not in str(caught.value)


SOUND = look_at_origin(0, 0, 1).tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("5", "holds no cameras"),
        ("[]", "holds 0 cameras: 1 given images need one each, and each view one"),
        (json.dumps([SOUND]), "holds 1 cameras"),
        (json.dumps({"views": [SOUND]}), "holds views; it must hold the lists 'given' and 'views'"),
        (json.dumps({"given": [SOUND], "views": [SOUND], "fov": []}), "holds given, views, fov"),
        (json.dumps({"given": [SOUND], "views": 3}), "it must hold the lists"),
        (json.dumps({"given": [SOUND, SOUND], "views": [SOUND]}), "holds 2 given cameras and 1 views; there are 1"),
        (json.dumps({"given": [SOUND], "views": []}), "at least one view"),
        (json.dumps([SOUND, SOUND[:2]]), "camera 1 is 2x4"),
        (json.dumps({"given": [SOUND], "views": [SOUND, np.ones((3, 4)).tolist()]}), "views: camera 1 is no rotation"),
    ],
)
def test_files_that_hold_no_such_cameras(tmp_path: Path, content: str, message: str) -> None:
    """Bug: the wrong camera file makes views all the same, or a traceback."""
    path = tmp_path / "cameras.json"
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        parse_cameras(str(path), 1)
    assert message in str(caught.value) and "cameras.json" in str(caught.value)
