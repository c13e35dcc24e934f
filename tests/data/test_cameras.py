"""What a camera is, and whether a matrix is one."""

from __future__ import annotations

import numpy as np
import pytest

from m2m.data.cameras import camera_positions, check_cameras, look_at_origin
from m2m.types import UserError


def test_a_camera_stands_where_it_was_put_and_sees_the_origin_in_the_middle() -> None:
    """Bug: camera-to-world written as world-to-camera, azimuth the wrong way round, a mirrored picture."""
    cameras = look_at_origin([0, 90, 90], [0, 0, 30], [2, 2, 4])
    places = [[2, 0, 0], [0, 2, 0], [0, 4 * np.cos(np.pi / 6), 2]]
    np.testing.assert_allclose(camera_positions(cameras), places, atol=1e-6)
    np.testing.assert_allclose(cameras[..., 3], [[0, 0, -2], [0, 0, -2], [0, 0, -4]], atol=1e-6)
    assert check_cameras(cameras, "these").shape == (3, 3, 4)


def test_up_is_up_and_the_picture_is_not_mirrored() -> None:
    """Bug: OpenCV's axes, y down and z forward. From +x, the world's +y lies to the right and +z above."""
    right_and_up = np.array([0, 0.25, 0.5])
    camera = look_at_origin(0, 0, 1)
    np.testing.assert_allclose(camera[..., :3] @ right_and_up + camera[..., 3], [0.25, 0.5, -1], atol=1e-6)


def test_a_camera_as_blender_writes_it_is_read() -> None:
    """Bug: axes that only our own renders have. Blender's new scene has its camera at these coordinates, rotated so."""
    place, x, z = np.array([7.3589, -6.9258, 4.9583]), np.radians(63.559), np.radians(46.692)
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    about_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    world_to_camera = (about_z @ about_x).T
    camera = check_cameras([np.c_[world_to_camera, -world_to_camera @ place]], "Blender's")[0]
    np.testing.assert_allclose(camera_positions(camera), place, atol=1e-4)
    seen = camera[:, 3] / np.linalg.norm(place)  # where the origin is; the scene's cube stands there, in the middle
    np.testing.assert_allclose(seen, [0, 0, -1], atol=0.06)
    assert camera[1, 2] > 0.8  # and the world's z is upward


def test_four_rows_are_read_as_three_and_rounding_is_forgiven() -> None:
    """Bug: half of the files that people have are 4x4, and text holds six digits."""
    camera = look_at_origin(33, 21, 1.7)
    rounded = np.vstack([camera, [0, 0, 0, 1]]).round(4).tolist()
    read = check_cameras([rounded, camera], "both")
    assert read.dtype == np.float32
    np.testing.assert_allclose(read[0], read[1], atol=1e-4)


SOUND = look_at_origin(10, 20, 1.5)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (SOUND[:2], "is 2x4; it must be 3x4"),
        (SOUND.ravel(), "is 12; it must be 3x4"),
        (5, "is a single number; it must be 3x4"),
        ([[1, 2], [3]], "is no matrix of numbers"),
        ("orbit", "is no matrix of numbers"),
        (SOUND * [[np.nan], [1], [1]], "not finite"),
        (SOUND * 2, "is no rotation"),
        (SOUND * [[-1], [1], [1]], "mirroring"),
        (np.vstack([SOUND, [0, 0, 1, 1]]), "last row"),
        (np.zeros((3, 4)), "is no rotation"),
    ],
)
def test_what_is_no_camera_is_named(matrix: object, message: str) -> None:
    """Bug: a wrong file that trains, or one line that says neither which camera nor why."""
    with pytest.raises(UserError, match=f"c.json: camera 1 .*{message}") as caught:
        check_cameras([SOUND, matrix], "c.json")
    assert "\n" not in str(caught.value)
