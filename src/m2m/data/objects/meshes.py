"""Meshes as arrays of triangles: read, brought to size, and cut along planes.

Triangles are float64 [T, 3, 3]: triangle, corner, coordinate; the corners run anti-clockwise seen from outside.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2m.types import UserError

Triangles = NDArray[np.float64]
FLATTEST = 0.6
SMALLEST_AREA = 1e-12  # of the unit cube; thinner slivers have no direction


def read_obj(path: Path) -> Triangles:
    """The triangles of a Wavefront OBJ file of triangles. Raises UserError for any other file."""
    vertices, faces = [], []
    try:
        for line in path.read_text(encoding="ascii").splitlines():
            word, *rest = line.split() or [""]
            if word == "v":
                vertices.append([float(value) for value in rest[:3]])
            elif word == "f":
                faces.append([int(corner.split("/")[0]) - 1 for corner in rest])
        triangles = np.array(vertices)[np.array(faces)].reshape(-1, 3, 3)
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"'{path}' is no OBJ file of triangles: {error}") from error
    if not np.isfinite(triangles).all():
        raise UserError(f"'{path}' has corners that are not finite")
    return triangles


def normalised(triangles: Triangles) -> Triangles:
    """The shape around the origin: the middle of its bounding box there, and a bounding sphere of diameter 1.

    Flat objects are stretched until the box's sides are at least `FLATTEST` of the longest: seen edge-on, they would be
    a few pixels high.
    """
    corners = triangles.reshape(-1, 3)
    centred = triangles - (corners.min(0) + corners.max(0)) / 2
    extent = np.ptp(corners, axis=0)
    stretched = centred * np.maximum(1, FLATTEST * extent.max() / extent)
    return stretched / (2 * np.linalg.norm(stretched, axis=-1).max())


def cut(triangles: Triangles, normal: NDArray[np.float64]) -> Triangles:
    """The same surface, no triangle of which lies on both sides of the plane through the origin with this normal."""
    sides = triangles @ normal
    crossed = (sides.min(1) < 0) & (sides.max(1) > 0)
    pieces = [
        piece
        for triangle, side in zip(triangles[crossed], sides[crossed], strict=True)
        for sign in (1, -1)
        for piece in _fan(_clipped(triangle, sign * side))
    ]
    return np.concatenate([triangles[~crossed], np.array(pieces).reshape(-1, 3, 3)])


def facing(triangles: Triangles) -> NDArray[np.float64]:
    """Unit normals [T, 3], outward."""
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def without_slivers(triangles: Triangles) -> Triangles:
    """The triangles that have an area."""
    doubled = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    return triangles[np.linalg.norm(doubled, axis=1) > SMALLEST_AREA]


def _clipped(triangle: NDArray[np.float64], side: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """The part of a triangle where `side`, a linear function given at its corners, is not negative: a polygon."""
    kept = []
    for corner, following in ((0, 1), (1, 2), (2, 0)):
        here, there = side[corner], side[following]
        if here >= 0:
            kept.append(triangle[corner])
        if here * there < 0:
            kept.append(triangle[corner] + (triangle[following] - triangle[corner]) * (here / (here - there)))
    return kept


def _fan(polygon: list[NDArray[np.float64]]) -> list[list[NDArray[np.float64]]]:
    """A convex polygon as triangles with its first corner in common."""
    return [[polygon[0], polygon[number], polygon[number + 1]] for number in range(1, len(polygon) - 1)]
