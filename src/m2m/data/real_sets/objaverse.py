"""Objects seen from several cameras, as sets: Zero-1-to-3's renders of Objaverse, and whatever is laid out like them.

    DIR/.../<object>/000.png  000.npy  001.png  001.npy  ...

A folder with views is an object; folders may lie in folders, and their names say nothing. A picture and the camera that
took it have the same name; the camera is a 3x4 (or 4x4) matrix, world-to-camera, in the axes of `m2m.data.cameras`.
Transparent pictures are laid on white, as Zero-1-to-3 does.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from m2m.data.cameras import Extrinsics, check_cameras
from m2m.data.real_sets.files import PictureFile, Progress, Refused, inspect, natural, shown
from m2m.data.real_sets.picture_sets import PictureSets, RealSet, key_of
from m2m.data.real_sets.splits import check_split, split_of
from m2m.types import UserError

Views = dict[str, tuple[list[Path], Extrinsics]]  # object -> its pictures and their cameras [V, 3, 4]
PICTURE, CAMERA = ".png", ".npy"


@dataclass(frozen=True)
class ObjaverseOptions:
    """Which objects become sets.

    Attributes:
        folder: every folder below it, at any depth, that holds views is an object.
        size: pixels of a side of a stored picture.
        split: train (90% of the objects), validation (5%) or test (5%), by the name of the object's folder; "": all.
        max_views: only so many of an object, the first ones in natural order; None: all.
        skip_broken: leave out objects that cannot be used, instead of stopping.
    """

    folder: Path
    size: int = 512
    split: str = ""
    max_views: int | None = None
    skip_broken: bool = False

    def __post_init__(self) -> None:
        """Raise UserError for values out of range and a folder that is none."""
        check_split(self.split)
        if self.max_views is not None and self.max_views < 2:
            raise UserError(f"max-views is {self.max_views}; a set needs at least 2")
        if not self.folder.is_dir():
            raise UserError(f"'{self.folder}' is no folder; give one with a folder of NNN.png and NNN.npy per object")


class ObjaverseSets(PictureSets):
    """The objects of a folder, each a set with the condition "camera": 12 numbers an image, the 3x4 matrix row by row.

    Attributes:
        refused: objects that were left out.

    Raises UserError: no object at all; one that cannot be used, unless these are skipped: a picture without a camera or
    the reverse, a file that is no picture or no camera, fewer than two views.
    """

    def __init__(self, options: ObjaverseOptions, progress: Progress | None = None) -> None:
        self.refused: list[Refused] = []
        objects = self._with_cameras(options, progress)
        found = list(self._with_pictures(objects, progress))
        if self.refused and not options.skip_broken:
            more = len(self.refused) - 1
            others = f"; {more} more cannot be used either" if more else ""
            raise UserError(f"{self.refused[0].reason}{others}; --broken skip leaves such objects out")
        if not found:
            wanted = f" of the split '{options.split}'" if options.split else ""
            raise UserError(f"'{options.folder}' holds no objects{wanted}: folders of NNN.png and NNN.npy")
        cameras = hashlib.sha256(str([made.meta["conditions"]["values"] for made in found]).encode()).hexdigest()
        chosen = {"source": "objaverse", "split": options.split, "max_views": options.max_views}
        super().__init__(found, options.size, {**chosen, "cameras_sha256": cameras})

    def _with_cameras(self, options: ObjaverseOptions, progress: Progress | None) -> Views:
        """The objects that are wanted, with their cameras read. What cannot be used is noted."""
        found = _folders(options.folder)
        wanted = [item for item in found if not options.split or split_of(item[0].name) == options.split]
        objects = {}
        for done, (folder, files) in enumerate(wanted, 1):
            name = shown(folder, options.folder)
            try:
                pictures = _paired(folder, files)[: options.max_views]
                objects[name] = pictures, _cameras(pictures)
            except UserError as error:
                self.refused.append(Refused(name, str(error)))
            if progress:
                progress(done, len(wanted))
        return objects

    def _with_pictures(self, objects: Views, progress: Progress | None) -> Iterator[RealSet]:
        """The sets of the objects all of whose pictures can be read."""
        every = [(name, path) for name, (paths, _) in objects.items() for path in paths]
        files = [(f"{name}/{shown(path, path.parent)}", path) for name, path in every]
        for name, results in groupby(inspect(files, progress), key=lambda result: result.name.rpartition("/")[0]):
            pictures = list(results)
            whole = [file for file in pictures if isinstance(file, PictureFile)]
            self.refused += [file for file in pictures if isinstance(file, Refused)][:1]
            if len(whole) == len(pictures):
                yield _set(name, whole, objects[name][1])


def _set(name: str, files: Sequence[PictureFile], cameras: Extrinsics) -> RealSet:
    values = cameras.reshape(len(cameras), -1).tolist()
    meta = {"caption": name, "object": name, "conditions": {"name": "camera", "values": values}}
    return RealSet(key_of("objaverse", name), tuple(files), meta)


def _folders(root: Path) -> list[tuple[Path, set[str]]]:
    """Every folder below `root` with views, in natural order, and the names of these files. No hidden ones."""
    found = {}
    for place, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        views = {name for name in names if name.endswith((PICTURE, CAMERA)) and not name.startswith(".")}
        if views and Path(place) != root:
            found[Path(place)] = views
    return sorted(found.items(), key=lambda item: natural(shown(item[0], root)))


def _paired(folder: Path, files: set[str]) -> list[Path]:
    """The pictures of an object in natural order; each has its camera beside it."""
    pictures = {name.removesuffix(PICTURE) for name in files if name.endswith(PICTURE)}
    cameras = {name.removesuffix(CAMERA) for name in files if name.endswith(CAMERA)}
    if alone := sorted(pictures - cameras):
        raise UserError(f"'{folder / (alone[0] + PICTURE)}' has no camera beside it ('{alone[0]}{CAMERA}')")
    if alone := sorted(cameras - pictures):
        raise UserError(f"'{folder / (alone[0] + CAMERA)}' has no picture beside it ('{alone[0]}{PICTURE}')")
    if len(pictures) < 2:
        raise UserError(f"'{folder}' has a single view; a set needs at least 2")
    return [folder / (name + PICTURE) for name in sorted(pictures, key=natural)]


def _cameras(pictures: Sequence[Path]) -> Extrinsics:
    files = [picture.with_suffix(CAMERA) for picture in pictures]
    return np.concatenate([check_cameras([_load(path)], f"'{path}'") for path in files])


def _load(path: Path) -> np.ndarray:
    try:
        loaded: np.ndarray = np.load(path, allow_pickle=False)
        return loaded
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"'{path}' is no array as numpy.save writes it: {' '.join(str(error).split())}") from error
