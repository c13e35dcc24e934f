"""Sets of COCO images that share an object category (section 8.3 of the paper), from COCO's own `instances_*.json`."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from m2m.data.real_sets.files import PictureFile, Progress, Refused, check_none_refused, inspect
from m2m.data.real_sets.picture_sets import PictureSets, RealSet, key_of
from m2m.types import UserError

SECTIONS = ("images", "annotations", "categories")
# What is read of an entry. The outlines ("segmentation") are nine tenths of the 450 MB of instances_train2017.json.
FIELDS = {"id", "file_name", "width", "height", "image_id", "category_id", "area", "bbox", "iscrowd", "name"}
Shares = dict[int, float]


@dataclass(frozen=True)
class CocoOptions:
    """Which sets are made.

    Attributes:
        annotations: an instances file of COCO, or another in its format.
        images: folder with the images that it names.
        size: pixels of a side of a stored picture.
        images_per_set: all different ones; figure 5 of the paper shows four of a set.
        sets_per_category: at most so many, no image in two of them; None: as many as there are images for.
        min_area: share (0 to 1) of the stored square that the largest object of the category must cover.
        seed: draws which images come together.
        skip_broken: leave out missing and broken files instead of stopping.
    """

    annotations: Path
    images: Path
    size: int = 512
    images_per_set: int = 4
    sets_per_category: int | None = None
    min_area: float = 0.05
    seed: int = 0
    skip_broken: bool = False

    def __post_init__(self) -> None:
        """Raise UserError for numbers out of range and a folder that is none."""
        if self.images_per_set < 1 or (self.sets_per_category is not None and self.sets_per_category < 1):
            raise UserError("images per set and sets per category must be at least 1")
        if not 0 <= self.min_area <= 1:
            raise UserError(f"min-area is {self.min_area}; it is a share, 0 to 1")
        if not self.images.is_dir():
            raise UserError(f"'{self.images}' is no folder; give the one that holds the images of the annotations")


@dataclass(frozen=True)
class Instances:
    """What an instances file says. categories: id -> name; files: image id -> file name;
    shares: category id -> image id -> share of the picture's middle square that its largest object covers."""

    categories: dict[int, str]
    files: dict[int, str]
    shares: dict[int, Shares]


class CocoSets(PictureSets):
    """The sets of an instances file, category after category by id.

    Attributes:
        refused: missing and broken files that were left out.
        without: names of the categories that have too few images for one set.

    Raises UserError: no such format; no set at all; a missing or broken picture, unless these are skipped.
    """

    def __init__(self, options: CocoOptions, progress: Progress | None = None) -> None:
        self.refused: list[Refused] = []
        self.without: list[str] = []
        self._options = options
        self._seen: dict[int, PictureFile | Refused] = {}
        self._instances = read_instances(options.annotations)
        found: list[RealSet] = []
        for done, (number, name) in enumerate(sorted(self._instances.categories.items()), 1):
            sets = self._sets_of(number, name)
            found += sets
            self.without += [] if sets else [name]
            if progress:
                progress(done, len(self._instances.categories))
        if not found:
            raise UserError(
                f"no category of '{options.annotations}' has {options.images_per_set} usable images for a set"
            )
        super().__init__(found, options.size, self._chosen())

    def _chosen(self) -> dict[str, Any]:
        names = ("images_per_set", "sets_per_category", "min_area", "seed")
        return {"source": "coco", **{name: getattr(self._options, name) for name in names}}

    def _sets_of(self, category: int, name: str) -> list[RealSet]:
        """Neighbours in the drawn order of the category's images make a set; what is left over makes none."""
        shares = {image: share for image, share in self._instances.shares[category].items() if self._fits(share)}
        images = self._usable(_drawn(shares, self._options.seed, category))
        length = self._options.images_per_set
        groups = [images[start : start + length] for start in range(0, len(images) - length + 1, length)]
        return [self._set(category, name, group, shares) for group in groups]

    def _fits(self, share: float) -> bool:
        return share >= self._options.min_area

    def _usable(self, images: Sequence[int]) -> list[int]:
        """The first images that can be read, as many as the sets of a category need."""
        limit = self._options.sets_per_category
        wanted = len(images) if limit is None else limit * self._options.images_per_set
        usable: list[int] = []
        position = 0
        while position < len(images) and len(usable) < wanted:
            part = images[position : position + wanted - len(usable)]
            self._look_at(part)
            usable += [image for image in part if isinstance(self._seen[image], PictureFile)]
            position += len(part)
        return usable

    def _look_at(self, images: Iterable[int]) -> None:
        new = [image for image in images if image not in self._seen]
        files = [(self._instances.files[image], self._options.images / self._instances.files[image]) for image in new]
        results = list(inspect(files))
        self._seen.update(zip(new, results, strict=True))
        self.refused += [result for result in results if isinstance(result, Refused)]
        if not self._options.skip_broken:
            check_none_refused(self.refused)

    def _set(self, category: int, name: str, images: Sequence[int], shares: Shares) -> RealSet:
        files = tuple(file for image in images if isinstance(file := self._seen[image], PictureFile))
        meta = {
            "caption": name,
            "category": name,
            "category_id": category,
            "image_ids": list(images),
            "area_shares": [round(shares[image], 4) for image in images],
        }
        return RealSet(key_of("coco", category, *images), files, meta)


def read_instances(path: Path) -> Instances:
    """Read an instances file. Objects marked as a crowd do not count.

    Raises UserError where it is missing, no COCO instances file, or contradicts itself.
    """
    content = _read(path)
    try:
        categories = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
        images = {entry["id"]: entry for entry in content["images"]}
        files = {number: _safe_name(entry["file_name"], path) for number, entry in images.items()}
        shares: dict[int, Shares] = defaultdict(dict)
        for entry in content["annotations"]:
            if not entry.get("iscrowd"):
                _note_largest(shares, entry, images[entry["image_id"]], categories)
    except (KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise UserError(f"'{path}' is no whole COCO instances file: bad or missing {error}") from error
    return Instances(categories, files, shares)


def _read(path: Path) -> Mapping[str, list[dict[str, Any]]]:
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file, object_hook=_needed)
    except FileNotFoundError as error:
        raise UserError(f"'{path}' does not exist; COCO's are named instances_val2017.json") from error
    except (OSError, ValueError) as error:
        raise UserError(f"'{path}' cannot be read as JSON: {error}") from error
    missing = [name for name in SECTIONS if not (isinstance(content, dict) and isinstance(content.get(name), list))]
    if missing:
        raise UserError(f"'{path}' is no COCO instances file: it has no list '{missing[0]}'")
    return content


def _needed(entry: dict[str, Any]) -> dict[str, Any]:
    """Called for every object of the JSON as it is read, so that the outlines are dropped one by one."""
    return {key: value for key, value in entry.items() if key in FIELDS or key in SECTIONS}


def _safe_name(name: str, path: Path) -> str:
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise UserError(
            f"'{path}' names the image '{name}', outside of the folder of images; use a file of COCO as it is published"
        )
    return name


def _note_largest(
    shares: dict[int, Shares], entry: dict[str, Any], image: dict[str, Any], categories: Mapping[int, str]
) -> None:
    category = entry["category_id"]
    if category not in categories:
        raise KeyError(f"category {category}")
    found = shares[category]
    share = object_share(entry["bbox"], entry.get("area"), image["width"], image["height"])
    found[image["id"]] = max(share, found.get(image["id"], 0.0))


def object_share(box: Sequence[float], area: float | None, width: int, height: int) -> float:
    """Share of the picture's middle square that an object covers. The square alone is stored, the rest is cut off.

    box: x, y, width, height in pixels; area: of the object's outline in pixels; None: of its box. As for where in its
    box the object lies, it counts as evenly spread.
    """
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    x, y, across, down = box
    seen_across = max(0.0, min(x + across, left + side) - max(x, left))
    seen_down = max(0.0, min(y + down, top + side) - max(y, top))
    whole = across * down
    if whole <= 0:
        return 0.0
    return (whole if area is None else area) * (seen_across * seen_down / whole) / side**2


def _drawn(images: Iterable[int], seed: int, category: int) -> list[int]:
    """The images in an order that follows from the seed; a further image in the file moves the others little."""
    return sorted(images, key=lambda image: hashlib.blake2b(f"{seed}/{category}/{image}".encode()).digest())
