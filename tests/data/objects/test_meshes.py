"""Meshes: read, brought to size, cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from m2m.data.objects.meshes import FLATTEST, cut, facing, normalised, read_obj, without_slivers
from m2m.types import UserError


def area(triangles: np.ndarray) -> float:
    sides = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    return float(np.linalg.norm(sides, axis=1).sum() / 2)


def some_triangles(count: int = 40) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 3, 3))


def test_an_obj_file_is_read(tmp_path: Path) -> None:
    """Bug: corners that count from 0, or faces with texture and normal numbers that are not understood."""
    path = tmp_path / "a.obj"
    path.write_text("# a mesh\no part\nv 0 0 0\nv 1 0 0\r\nv 0 1 0\nv 0 0 1\nf 1 2 3\nf 4/1/1 2//1 1 \n")
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert np.array_equal(read_obj(path), corners[[[0, 1, 2], [3, 1, 0]]])


@pytest.mark.parametrize("content", ["v 0 0\nf 1 2 3", "v 0 0 0\nf 1 1 2", "v nan 0 0\nf 1 1 1", "", "v a b c"])
def test_what_is_no_mesh(tmp_path: Path, content: str) -> None:
    """Bug: an object without a shape that makes pictures without anything; pybullet's own number 168 is one."""
    (tmp_path / "a.obj").write_text(content)
    with pytest.raises(UserError, match=r"a\.obj' (is no OBJ file|has corners)"):
        read_obj(tmp_path / "a.obj")


def test_flat_shapes_are_stretched_and_none_reaches_out_of_the_sphere() -> None:
    """Bug: an object that is cut off by the frame, off the middle, or a line seen edge-on."""
    for stretch in ([1, 1, 1], [1, 20, 300], [50, 0.1, 1]):
        corners = normalised(some_triangles() * stretch + [5, -9, 2]).reshape(-1, 3)
        np.testing.assert_allclose(corners.min(0), -corners.max(0), atol=1e-9)
        np.testing.assert_allclose(np.linalg.norm(corners, axis=1).max(), 0.5)
        extent = np.ptp(corners, axis=0)
        assert extent.min() >= FLATTEST * extent.max() - 1e-9


def test_cutting_keeps_the_surface_and_leaves_nothing_across() -> None:
    """Bug: a piece that is lost, doubled, or turned inside out."""
    triangles, normal = some_triangles(), np.array([0.3, -1.0, 0.5])
    pieces = cut(triangles, normal)
    sides = pieces @ normal
    assert not ((sides.min(1) < -1e-9) & (sides.max(1) > 1e-9)).any()
    assert len(pieces) > len(triangles)
    np.testing.assert_allclose(area(pieces), area(triangles))
    weights = np.linalg.norm(np.cross(*np.moveaxis(pieces[:, 1:] - pieces[:, :1], 1, 0)), axis=1)
    summed = (facing(without_slivers(pieces)) * weights[weights > 1e-12, None]).sum(0)
    whole = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]).sum(0)
    np.testing.assert_allclose(summed, whole, atol=1e-9)
