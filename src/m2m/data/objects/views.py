"""Writing the miniature: a folder an object with views and cameras, laid out as Zero-1-to-3's renders of Objaverse.

DIR/<object>/000.png .. 011.png   RGBA, transparent where the object is not
DIR/<object>/000.npy .. 011.npy   float32 3x4, world-to-camera (m2m.data.cameras says what it means)
DIR/objects.json                  what the folder was made with; another choice is refused
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from m2m.checkpoint import atomic_folder, read_json, write_json
from m2m.data.cameras import Extrinsics, look_at_origin
from m2m.data.objects.colours import coloured
from m2m.data.objects.meshes import normalised, read_obj
from m2m.data.objects.renderer import Renderer, Views, import_quietly
from m2m.types import UserError

OBJECTS = 1000
SHAPELESS = 168  # all corners of its mesh are NaN
SPLITS = {"train": (0, 900), "validation": (900, 950), "test": (950, OBJECTS)}
SPLIT_SEED = 20240331  # never another: what was held out stays held out, whatever the seed of the views
ELEVATIONS = (-10.0, 60.0)
JITTER = 0.6  # of a sector
DISTANCE = 1.3  # a bounding sphere of diameter 1 then fills nine tenths of the frame, most objects less
SETTINGS = "objects.json"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ObjectOptions:
    """Which objects are drawn, and how.

    Attributes:
        split: train (899 objects), validation (50) or test (50).
        size: pixels of a side.
        views: pictures of an object.
        seed: of the cameras and the colours; which object belongs to which split does not depend on it.
        count: only the first so many objects of the split; None: all.
    """

    split: str = "train"
    size: int = 96
    views: int = 12
    seed: int = 0
    count: int | None = None

    def __post_init__(self) -> None:
        """Raise UserError for what cannot be drawn."""
        if self.split not in SPLITS:
            raise UserError(f"split '{self.split}' is not one of {', '.join(SPLITS)}")
        if not 8 <= self.size <= 1024:
            raise UserError(f"size is {self.size}; it must be 8 to 1024 pixels")
        if not 1 <= self.views <= 1000:
            raise UserError(f"views is {self.views}; it must be 1 to 1000")
        if self.seed < 0:
            raise UserError(f"seed is {self.seed}; it must not be negative")
        if self.count is not None and self.count < 1:
            raise UserError(f"count is {self.count}; it must be at least 1")


def numbers_of(split: str) -> list[int]:
    """The numbers of a split's objects, ascending: 899, 50 or 50."""
    first, end = SPLITS[split]
    drawn = np.random.default_rng(SPLIT_SEED).permutation(OBJECTS)[first:end].tolist()
    return sorted(number for number in drawn if number != SHAPELESS)


def write_objects(options: ObjectOptions, out: Path, progress: Progress | None = None) -> tuple[int, int]:
    """Draw every object whose folder is missing, each folder whole or not at all: (objects there, of them new).

    Args:
        options: what to draw.
        out: the folder; one that was cut off is continued.
        progress: called with (objects done, objects in all).

    Raises:
        UserError: pybullet is missing, or `out` was made with other options.
    """
    meshes = Path(import_quietly("pybullet_data").getDataPath()) / "random_urdfs"
    _check_settings(options, out)
    numbers = numbers_of(options.split)[: options.count]
    made = 0
    with Renderer() as renderer:
        for done, number in enumerate(numbers, 1):
            if not (out / f"{number:03d}").is_dir():
                _write_object(number, meshes, options, renderer, out)
                made += 1
            if progress:
                progress(done, len(numbers))
    return len(numbers), made


def draw_cameras(count: int, generator: np.random.Generator) -> Extrinsics:
    """Extrinsics [count, 3, 4] around the object, between a little below the horizon and high above, in random order.

    Each has a sector of the circle of its own and keeps away from its ends: two views that are all but the same would
    make it a matter of luck which of them a picture resembles.
    """
    sector = generator.permutation(count) + generator.uniform() + JITTER * generator.uniform(-0.5, 0.5, count)
    return look_at_origin(360 / count * sector, generator.uniform(*ELEVATIONS, count), DISTANCE)


def _write_object(number: int, meshes: Path, options: ObjectOptions, renderer: Renderer, out: Path) -> None:
    generator = np.random.default_rng([options.seed, number])
    parts = coloured(normalised(read_obj(meshes / f"{number:03d}" / f"{number:03d}.obj")), generator)
    cameras = draw_cameras(options.views, generator)
    _save(renderer.render(parts, cameras, options.size), cameras, out / f"{number:03d}")


def _save(views: Views, cameras: Extrinsics, folder: Path) -> None:
    with atomic_folder(folder) as temporary:
        for number, (view, camera) in enumerate(zip(views, cameras, strict=True)):
            Image.fromarray(view).save(temporary / f"{number:03d}.png")
            np.save(temporary / f"{number:03d}.npy", camera)


def _check_settings(options: ObjectOptions, out: Path) -> None:
    """Note in `out` what it is made with, or compare. More objects may be asked for later, so `count` is not noted."""
    wanted = {name: value for name, value in asdict(options).items() if name != "count"}
    if not (out / SETTINGS).exists():
        write_json(out / SETTINGS, wanted)
    elif (there := read_json(out / SETTINGS)) != wanted:
        raise UserError(f"'{out}' was made with {there}, not with {wanted}; choose another folder")
