"""Rendered views: the camera written beside a picture is the one that took it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from m2m.data.cameras import FIELD_OF_VIEW, look_at_origin
from m2m.data.objects.colours import coloured
from m2m.data.objects.meshes import normalised
from tests.data.objects.test_colours import box

pytest.importorskip("pybullet")
from m2m.data.objects.renderer import Renderer

SIZE = 64


def projected(points: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """Points [P, 3] in pixels [P, 2] from the left upper corner of the picture."""
    seen = points @ camera[:, :3].T + camera[:, 3]
    focal = 1 / math.tan(math.radians(FIELD_OF_VIEW) / 2)
    return SIZE / 2 * (1 + focal * seen[:, :2] / -seen[:, 2:] * [1, -1])


def test_the_mesh_lies_in_the_picture_where_its_matrix_says() -> None:
    """Bug: half a pixel beside it, mirrored, or a transposed matrix: a model would learn a world that is none."""
    shape = normalised(box(1, 0.7, 1.4) @ [[1, 0.2, 0.3], [0, 1, 0.4], [0.3, 0, 1]])
    cameras = look_at_origin(np.arange(0, 360, 30), np.linspace(-10, 60, 12), 1.3)
    with Renderer() as renderer:
        views = renderer.render(coloured(shape, np.random.default_rng(0)), cameras, SIZE)
    offsets = []
    for view, camera in zip(views, cameras, strict=True):
        rows, columns = np.nonzero(view[..., 3])
        corners = projected(shape.reshape(-1, 3), camera)
        assert corners.min() > 1 and corners.max() < SIZE - 1
        found = [columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]
        offsets.append([found[0] - corners.min(0), found[1] - corners.max(0)])
    assert np.abs(offsets).max() < 0.8  # a pixel is marked where a quarter of it is covered
    assert np.abs(np.mean(offsets, axis=(0, 1))).max() < 0.12  # and no side is favoured


def test_a_side_shows_its_colour_and_the_edge_none_of_the_background() -> None:
    """Bug: sides in each other's places, or a dark rim where the empty background was averaged in."""
    parts = coloured(normalised(box(1, 1, 1)), np.random.default_rng(5))
    with Renderer() as renderer:
        views = renderer.render(parts, look_at_origin([0, 90, 180, 270], 0, 1.3), SIZE)
    for view, part in zip(views, parts, strict=False):
        covered = view[view[..., 3] > 0]
        shade = covered[:, :3] / np.multiply(part.colour, 255)
        assert np.ptp(shade) < 0.03 and 0.5 < shade.mean() <= 1.01
        assert {0, 255} <= set(np.unique(view[..., 3]))


def test_objects_do_not_stay_in_each_others_pictures() -> None:
    """Bug: the object before still stands there, or colours that depend on what was rendered before."""
    first = coloured(normalised(box(1, 1, 3)), np.random.default_rng(0))
    second = coloured(normalised(box(3, 1, 1)), np.random.default_rng(1))
    camera = look_at_origin([20], 20, 1.3)
    with Renderer() as renderer:
        alone = renderer.render(first, camera, 16)
        renderer.render(second, camera, 16)
        assert np.array_equal(renderer.render(first, camera, 16), alone)
