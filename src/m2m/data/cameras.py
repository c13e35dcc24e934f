"""Cameras as matrices: what they mean, whether they are sound, and how one looks at the origin from a sphere.

A camera is the 3x4 matrix [R | t] that takes a point x of the world to the camera's own axes, R x + t: world-to-camera.
The camera stands at -R^T t. This is what the `NNN.npy` beside Zero-1-to-3's Objaverse renders hold (Blender's
`camera.matrix_world`, without its scale, inverted), and so are the axes: the camera's x points right, its y up, and it
looks along -z, as in OpenGL (not down and forward, as in OpenCV); the world's z points up. The object stands at the
origin, its longest side 1 long; Zero-1-to-3's cameras look at it from 1.5 to 2.2 away with a field of view of 49.1
degrees (a lens of 35 mm before a sensor of 32 mm).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m2m.types import UserError

FIELD_OF_VIEW = math.degrees(2 * math.atan(32 / 2 / 35))
TOLERANCE = 1e-3  # of R R^T against the identity: matrices in files are often rounded to a few digits
ELEVATION_LIMIT = 89.0  # degrees; straight from above, no direction of the picture is "up"

Extrinsics = NDArray[np.float32]  # [..., 3, 4]


def check_cameras(matrices: Any, where: str) -> Extrinsics:
    """Matrices [N, 3, 4] or [N, 4, 4], or a list that mixes both -> float32 [N, 3, 4].

    Args:
        matrices: world-to-camera extrinsics, as arrays or nested lists of numbers.
        where: what they are, for the message, such as a file's name.

    Raises:
        UserError: one is neither 3x4 nor 4x4, not finite, or no rotation; the message says which one and why.
    """
    several = len(matrices) > 1
    names = [f"{where}: camera {number}" if several else where for number in range(len(matrices))]
    checked = [_checked(matrix, name) for matrix, name in zip(matrices, names, strict=True)]
    return np.stack(checked).astype(np.float32) if checked else np.empty((0, 3, 4), np.float32)


def camera_positions(cameras: NDArray[Any]) -> NDArray[Any]:
    """Where cameras [..., 3, 4] stand in the world: -R^T t, [..., 3]."""
    return -np.einsum("...ji,...j->...i", cameras[..., :3], cameras[..., 3])


def look_at_origin(azimuth: ArrayLike, elevation: ArrayLike, distance: ArrayLike) -> Extrinsics:
    """Cameras that look at the origin from a sphere around it, the world's z upward in the picture: float32 [N, 3, 4].

    Args:
        azimuth: degrees [N] from the world's x axis towards its y axis (anti-clockwise from above).
        elevation: degrees over the horizon, between -89 and 89.
        distance: from the origin, more than 0.
    """
    around, above, away = np.broadcast_arrays(np.radians(azimuth), np.radians(elevation), np.asarray(distance, float))
    back = np.stack([np.cos(above) * np.cos(around), np.cos(above) * np.sin(around), np.sin(above)], axis=-1)
    right = np.stack([-np.sin(around), np.cos(around), np.zeros_like(around)], axis=-1)
    rotation = np.stack([right, np.cross(back, right), back], axis=-2)
    translation = np.stack([np.zeros_like(away), np.zeros_like(away), -away], axis=-1)
    return np.concatenate([rotation, translation[..., None]], axis=-1).astype(np.float32)


def _checked(matrix: Any, name: str) -> NDArray[np.float64]:
    """One matrix as float64 [3, 4]; UserError says what is wrong with it."""
    try:
        values = np.asarray(matrix, dtype=np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{name} is no matrix of numbers; it must be 3x4 (or 4x4), world-to-camera [R | t]") from None
    if values.shape not in ((3, 4), (4, 4)):
        shape = "x".join(map(str, values.shape)) or "a single number"
        raise UserError(f"{name} is {shape}; it must be 3x4 (or 4x4), world-to-camera [R | t]")
    if not np.isfinite(values).all():
        raise UserError(f"{name} holds a value that is not finite; a camera has numbers only")
    if len(values) == 4 and not np.allclose(values[3], [0, 0, 0, 1], atol=TOLERANCE):
        raise UserError(f"{name} has the last row {values[3].tolist()}; of a 4x4 extrinsic it is [0, 0, 0, 1]")
    _check_rotation(values[:3, :3], name)
    return values[:3]


def _check_rotation(rotation: NDArray[np.float64], name: str) -> None:
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=TOLERANCE):
        raise UserError(f"{name} is no rotation: its left 3x3 part times its transpose is not the identity")
    if np.linalg.det(rotation) < 0:
        raise UserError(f"{name} is no rotation but a mirroring: the determinant of its left 3x3 part is -1")
