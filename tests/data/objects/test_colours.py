"""The sides of an object and their colours."""

from __future__ import annotations

import colorsys

import numpy as np

from m2m.data.objects.colours import SIDES, coloured, draw_colours
from m2m.data.objects.meshes import facing


def box(width: float, depth: float, height: float) -> np.ndarray:
    """The 12 triangles of a box around the origin, corners anti-clockwise from outside."""
    faces = []
    for axis, sign in SIDES:
        first, second = np.eye(3)[(axis + 1) % 3], sign * np.eye(3)[(axis + 2) % 3]
        middle = sign * np.eye(3)[axis]
        corners = [middle - first - second, middle + first - second, middle + first + second, middle - first + second]
        faces += [[corners[0], corners[1], corners[2]], [corners[0], corners[2], corners[3]]]
    return np.array(faces) * [width / 2, depth / 2, height / 2]


def test_a_box_has_one_colour_a_face() -> None:
    """Bug: sides told by distance alone, so that a long box has the colours of its ends in the middle too."""
    parts = coloured(box(1, 4, 0.5), np.random.default_rng(3))
    colours = draw_colours(np.random.default_rng(3))
    assert [part.colour for part in parts] == colours
    for part, (axis, sign) in zip(parts, SIDES, strict=True):
        np.testing.assert_allclose(facing(part.triangles), np.tile(sign * np.eye(3)[axis], (len(part.triangles), 1)))


def test_one_side_tells_the_others() -> None:
    """Bug: sides drawn each by itself, so that no view can be made from another; or alike for every object."""
    fronts, rights = [], []
    for seed in range(200):
        colours = draw_colours(np.random.default_rng(seed))
        around = [round(360 * colorsys.rgb_to_hsv(*colour)[0]) for colour in colours[:4]]
        assert min(abs(a - b) for a in around for b in around if a != b) > 30 and len(set(around)) == 4
        assert not any(80 < hue < 175 for hue in around)  # greens
        fronts.append(colorsys.rgb_to_hsv(*colours[0]))
        rights.append(colorsys.rgb_to_hsv(*colours[1]))
    hues = [round(360 * front[0]) for front in fronts]
    assert len(set(hues)) > 20
    assert not set(hues) & {round(360 * right[0]) for right in rights}  # a front is never taken for a right side


def test_a_part_without_a_surface_is_left_out() -> None:
    """Bug: an empty mesh, which the renderer takes for an error."""
    top = box(1, 1, 1)[[8, 9]]
    parts = coloured(np.concatenate([top, -top[:, ::-1] * [1, 1, 1]]), np.random.default_rng(0))
    assert len(parts) == 2
