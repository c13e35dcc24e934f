"""Objects as Zero-1-to-3 lays them out: RGBA pictures, and the camera of each as a 3x4 matrix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from m2m.data.cameras import Extrinsics, look_at_origin


def save_object(folder: Path, views: int, seed: int = 0, size: int = 24) -> Extrinsics:
    """A coloured square per view on a transparent ground (black below the transparency); float64 matrices."""
    generator = np.random.default_rng(seed)
    cameras = look_at_origin(generator.uniform(0, 360, views), generator.uniform(-80, 80, views), 1.5)
    folder.mkdir(parents=True, exist_ok=True)
    for number, camera in enumerate(cameras):
        picture = np.zeros((size, size, 4), np.uint8)
        picture[size // 4 : -size // 4, size // 4 : -size // 4] = (*generator.integers(0, 200, 3), 255)
        Image.fromarray(picture).save(folder / f"{number:03d}.png")
        np.save(folder / f"{number:03d}.npy", camera.astype(np.float64))
    return cameras
