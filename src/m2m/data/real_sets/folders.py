"""Sub-folders of pictures as sets: `holidays/2019/` with its 12 photographs is one set, `holidays/2020/` another."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image

from m2m.data.pictures import FORMATS
from m2m.data.real_sets.files import PictureFile, Progress, Refused, check_none_refused, inspect, natural, shown
from m2m.data.real_sets.picture_sets import PictureSets, RealSet, key_of
from m2m.types import UserError


@dataclass(frozen=True)
class FolderOptions:
    """Which folders become sets.

    Attributes:
        folder: every folder below it, at any depth, that holds pictures itself is a set.
        size: pixels of a side of a stored picture.
        min_images: a folder with fewer usable pictures is no set.
        max_images: only so many of a folder, the first ones in natural order; None: all.
        skip_broken: leave out files that look like pictures but cannot be read, instead of stopping.
    """

    folder: Path
    size: int = 512
    min_images: int = 2
    max_images: int | None = None
    skip_broken: bool = False

    def __post_init__(self) -> None:
        """Raise UserError for numbers out of range and a folder that is none."""
        if self.min_images < 1:
            raise UserError(f"min-images is {self.min_images}; it must be at least 1")
        if self.max_images is not None and self.max_images < self.min_images:
            raise UserError(f"max-images is {self.max_images}, less than min-images {self.min_images}")
        if not self.folder.is_dir():
            raise UserError(f"'{self.folder}' is no folder; give one whose sub-folders hold pictures")


class FolderSets(PictureSets):
    """The sets of a folder. Every picture is decoded once before the first is stored, so that no set falls short later.

    Attributes:
        refused: broken files that were left out.
        small: folders that hold too few pictures, and how many.
        others: files that are no pictures, and whose names do not say so.

    Raises UserError: no set at all; a broken picture, unless these are skipped.
    """

    def __init__(self, options: FolderOptions, progress: Progress | None = None) -> None:
        self.refused: list[Refused] = []
        self.small: dict[str, int] = {}
        self.others = 0
        folders = self._usable(options, progress)
        if not options.skip_broken:
            check_none_refused(self.refused)
        found = [made for name, files in folders.items() if (made := self._set(name, files, options))]
        if not found:
            raise UserError(
                f"'{options.folder}' has no sub-folder with at least {options.min_images} usable pictures "
                f"({len(self.small)} with fewer); each sub-folder is one set"
            )
        chosen = {"source": "folder", "min_images": options.min_images, "max_images": options.max_images}
        super().__init__(found, options.size, chosen)

    def _usable(self, options: FolderOptions, progress: Progress | None) -> dict[str, list[PictureFile]]:
        """Folder -> its usable pictures, both in natural order. Files that cannot be used are noted."""
        files = sorted(_files(options.folder), key=lambda file: (natural(_folder_of(file[0])), natural(file[0])))
        folders: dict[str, list[PictureFile]] = {}
        for result in inspect(files, progress):
            if isinstance(result, PictureFile):
                folders.setdefault(_folder_of(result.name), []).append(result)
            elif Path(result.name).suffix.lower() in picture_suffixes():
                self.refused.append(result)
            else:
                self.others += 1
        return folders

    def _set(self, name: str, files: Sequence[PictureFile], options: FolderOptions) -> RealSet | None:
        if len(files) < options.min_images:
            self.small[name] = len(files)
            return None
        return RealSet(key_of("folder", name), tuple(files[: options.max_images]), {"caption": name, "folder": name})


@cache
def picture_suffixes() -> frozenset[str]:
    """Endings of picture names: a file that has one and cannot be read is broken; another is something else."""
    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if kind in FORMATS)


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    """(name, path) of all files in folders below `root`; not its own, no hidden ones, no linked folders."""
    for place, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        if Path(place) != root:
            paths = (Path(place, name) for name in names if not name.startswith("."))
            yield from ((shown(path, root), path) for path in paths)


def _folder_of(name: str) -> str:
    return name.rpartition("/")[0]
