"""Cameras of the task of novel views: told relative to the first image, and read from what a user writes.

What a camera is, and its axes: `m2m.data.cameras`. The object stands at the world's origin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.checkpoint import read_json
from m2m.data.cameras import ELEVATION_LIMIT, Extrinsics, check_cameras, look_at_origin
from m2m.types import UserError

__all__ = [
    "Cameras",
    "check_cameras",
    "generation_order",
    "orbit",
    "parse_cameras",
    "relative_cameras",
    "turned_cameras",
]

ORBIT = "orbit:"
USAGE = "use orbit:8,elevation=20[,azimuth=0][,distance=1] or a FILE.json of 3x4 or 4x4 world-to-camera matrices"
KEYS = ("elevation", "azimuth", "distance")
ELEVATION = 20.0  # degrees
MOST = 1000  # views of an orbit
AT_ORIGIN = 1e-6


@dataclass(frozen=True, eq=False)
class Cameras:
    """Of the given images, float32 [G, 3, 4], and of the views that are wanted, [V, 3, 4]; in one world."""

    given: Extrinsics
    views: Extrinsics

    @property
    def all(self) -> Extrinsics:
        """First the given ones, then the views: [G + V, 3, 4]."""
        return np.concatenate([self.given, self.views])


def relative_cameras(cameras: NDArray[Any]) -> NDArray[np.float32]:
    """What the model is told of each camera of a set, row by row: [R | t] in a world that is turned and scaled.

    It is turned about its vertical axis z, so that camera 0, that of the first given view, stands at azimuth 0; and the
    translation is in parts of the distance between camera 0 and the origin, where the object stands. So neither the
    unit of length nor from where azimuth is counted matters, and a set needs no second camera to have a scale.

    Up stays up: a view's elevation is told, not its difference to the first one's. E_i E_0^-1, where nobody knows how
    high the first camera stood, was tried: from one view the model would have to find that out first, and it learned
    next to nothing (LOG.md).

    Args:
        cameras: [..., N, 3, 4] or [..., N, 12], N >= 1. NaN (no camera) stays NaN.

    Returns:
        float32 [..., N, 12].

    Raises:
        UserError: camera 0 stands at the origin.
    """
    matrices = _matrices(cameras)
    return _told(matrices, _about_vertical(matrices[..., :1, :, :]))


def turned_cameras(cameras: NDArray[Any], angles: NDArray[np.float64]) -> NDArray[np.float32]:
    """As `relative_cameras`, in worlds turned by angles [...] (radians) instead of so that camera 0 is at azimuth 0."""
    return _told(_matrices(cameras), _turns(np.cos(angles)[..., None], np.sin(angles)[..., None]))


def _matrices(cameras: NDArray[Any]) -> NDArray[np.float64]:
    """[..., N, 3, 4]. Raises UserError where camera 0 of a set has no distance."""
    matrices = np.asarray(cameras, dtype=np.float64)
    if matrices.shape[-1] == 12:
        matrices = matrices.reshape(*matrices.shape[:-1], 3, 4)
    if (_distance(matrices) < AT_ORIGIN).any():
        raise UserError("the first camera of a set stands at the world's origin; the object must stand there")
    return matrices


def _distance(cameras: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of camera 0 from the origin, [..., 1]: rotations do not change a length."""
    return np.asarray(np.linalg.norm(cameras[..., :1, :, 3], axis=-1))


def _told(cameras: NDArray[np.float64], turns: NDArray[np.float64]) -> NDArray[np.float32]:
    """[R T | t / d] of cameras [..., N, 3, 4]: the world turned by T [..., 1, 3, 3], d the distance of camera 0."""
    moved = cameras[..., 3] / _distance(cameras)[..., None]
    relative = np.concatenate([cameras[..., :3] @ turns, moved[..., None]], axis=-1)
    return relative.reshape(*relative.shape[:-2], 12).astype(np.float32)


def _about_vertical(cameras: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turns of the world about z, [..., 3, 3], that bring azimuth 0 to where these cameras stand.

    A camera straight above or below the object has no azimuth: there it is where the top of its picture points from.
    """
    rotation, translation = cameras[..., :3], cameras[..., 3]
    centre = -np.einsum("...ji,...j->...i", rotation, translation)  # -R^T t
    flat = np.linalg.norm(centre[..., :2], axis=-1, keepdims=True)
    towards = np.where(flat > AT_ORIGIN, centre[..., :2], -rotation[..., 1, :2] * np.sign(centre[..., 2:]))
    cosine, sine = np.moveaxis(towards / np.linalg.norm(towards, axis=-1, keepdims=True), -1, 0)
    return _turns(cosine, sine)


def _turns(cosine: NDArray[np.float64], sine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotations about z by angles with these cosines and sines, [..., 3, 3]."""
    zero, one = np.zeros_like(cosine), np.ones_like(cosine)
    rows = [[cosine, -sine, zero], [sine, cosine, zero], [zero, zero, one]]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def orbit(count: int, elevation: float = ELEVATION, azimuth: float = 0.0, distance: float = 1.0) -> Extrinsics:
    """`count` cameras evenly around the object that look at it, the first at `azimuth` (degrees): [count, 3, 4]."""
    return look_at_origin(azimuth + 360 / count * np.arange(count), elevation, distance)


def generation_order(cameras: Extrinsics, given: int) -> list[int]:
    """In which order to make views: always next the one that is nearest to any that is there, given or made.

    "Near" is the Euclidean distance between relative cameras, as where the context of an image is chosen. Of several
    that are as near, the one nearest to a given image: an even orbit then grows to both sides, half as far from it.

    Args:
        cameras: [N, 3, 4], those of the given images first.
        given: how many these are, at least 1.

    Returns:
        the numbers `given` .. N - 1 (places in `cameras`), in the order of generation.
    """
    told = relative_cameras(cameras)
    apart = np.linalg.norm(told[:, None] - told[None], axis=-1).round(5)  # so that equal distances are equal
    there, left = list(range(given)), list(range(given, len(cameras)))
    while left:
        chosen = min(left, key=lambda number: (apart[number, there].min(), apart[number, :given].min()))
        there.append(chosen)
        left.remove(chosen)
    return there[given:]


def parse_cameras(text: str, given: int) -> Cameras:
    """Cameras as a user writes them, for so many given images (at least 1).

    - `orbit:8,elevation=20[,azimuth=0][,distance=1]`: the camera of the one given image is not known. It is taken to
      stand at azimuth 0, at this elevation, at distance 1. With it as the first place, 9 places lie evenly around the
      object; the views are the other 8. `azimuth` turns them (degrees, anti-clockwise from above), and `distance` moves
      them away.
    - `FILE.json`: a list of 3x4 or 4x4 matrices, those of the given images first; or {"given": [...], "views": [...]}.

    Raises UserError: unknown text, wrong key or value, no such file, no JSON, matrices that are no cameras, too few.
    """
    if text.startswith(ORBIT):
        return _orbit_of(text, given)
    if text.endswith(".json") or Path(text).is_file():
        return _from_file(Path(text), given)
    raise UserError(f"cameras '{text}' are unknown; {USAGE}")


def _orbit_of(text: str, given: int) -> Cameras:
    count, *options = text.removeprefix(ORBIT).split(",")
    if not (count.isascii() and count.isdigit() and 1 <= int(count) <= MOST):
        raise UserError(f"cameras '{text}': '{count}' is no number of views from 1 to {MOST}; {USAGE}")
    if given != 1:
        raise UserError(f"cameras '{text}' do not say where {given} given images were taken from; use a FILE.json")
    chosen = dict(_option(option, text) for option in options)
    around = orbit(int(count) + 1, **chosen)
    start = look_at_origin([0.0], chosen.get("elevation", ELEVATION), 1.0)
    return Cameras(start, around[1:])


def _option(option: str, text: str) -> tuple[str, float]:
    """One "key=value" of an orbit."""
    key, _, value = option.partition("=")
    if key not in KEYS:
        raise UserError(f"cameras '{text}': '{option}' is none of {', '.join(KEYS)}; {USAGE}")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    bounds = {"elevation": (-ELEVATION_LIMIT, ELEVATION_LIMIT), "azimuth": (-360.0, 360.0), "distance": (0.01, 100.0)}
    low, high = bounds[key]
    if not low <= number <= high:
        raise UserError(f"cameras '{text}': {key} is '{value}'; it must be a number from {low:g} to {high:g}")
    return key, number


def _from_file(path: Path, given: int) -> Cameras:
    content = read_json(path)
    if isinstance(content, dict):
        return _from_named(content, path, given)
    if not isinstance(content, list):
        raise UserError(
            f"'{path}' holds no cameras: it must be a list of matrices or {{'given': [...], 'views': [...]}}"
        )
    if len(content) <= given:
        raise UserError(f"'{path}' holds {len(content)} cameras: {given} given images need one each, and each view one")
    cameras = check_cameras(content, f"'{path}'")
    return Cameras(cameras[:given], cameras[given:])


def _from_named(content: dict[str, Any], path: Path, given: int) -> Cameras:
    if set(content) != {"given", "views"} or not all(isinstance(value, list) for value in content.values()):
        keys = ", ".join(content) or "nothing"
        raise UserError(f"'{path}' holds {keys}; it must hold the lists 'given' and 'views', and nothing else")
    if len(content["given"]) != given or not content["views"]:
        found = f"{len(content['given'])} given cameras and {len(content['views'])} views"
        raise UserError(f"'{path}' holds {found}; there are {given} given images, and at least one view is needed")
    return Cameras(
        check_cameras(content["given"], f"'{path}', given"), check_cameras(content["views"], f"'{path}', views")
    )
