"""Folders of real picture files, and an annotations file with everything that COCO's own `instances_*.json` has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CATEGORIES = {1: ("person", "person"), 17: ("cat", "animal"), 18: ("dog", "animal"), 90: ("toothbrush", "indoor")}


def photograph(seed: int, width: int = 48, height: int = 40) -> Image.Image:
    """A smooth picture that no other seed gives."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def save_photograph(path: Path, seed: int, **size: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    photograph(seed, **size).save(path)
    return path


def album(root: Path) -> Path:
    """cats: 12 PNG files named 1 to 12; dogs/old: three of other formats; notes beside them."""
    for number in range(1, 13):
        save_photograph(root / "cats" / f"cat {number}.png", seed=number)
    for number, suffix in enumerate(("jpg", "webp", "bmp")):
        save_photograph(root / "dogs" / "old" / f"{number}.{suffix}", seed=100 + number)
    (root / "cats" / "notes.txt").write_text("fed twice a day")
    (root / "cats" / ".DS_Store").write_bytes(b"\0\1")
    return root


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def annotation(number: int, image: int, category: int, box: tuple[float, ...], **more: Any) -> dict[str, Any]:
    """One object as COCO writes it: an outline of its box, area in pixels."""
    x, y, across, down = box
    corners = [x, y, x + across, y, x + across, y + down, x, y + down]
    return {
        "segmentation": [corners],
        "area": across * down,
        "iscrowd": 0,
        "image_id": image,
        "bbox": list(box),
        "category_id": category,
        "id": number,
    } | more


def instances(images: int, objects: list[dict[str, Any]], width: int = 48, height: int = 40) -> dict[str, Any]:
    """The whole content of an instances file for images 1, 2, ... (all of one size)."""
    return {
        "info": {"description": "COCO 2017 Dataset", "version": "1.0", "year": 2017, "date_created": "2017/09/01"},
        "licenses": [{"url": "http://creativecommons.org/licenses/by/2.0/", "id": 4, "name": "Attribution License"}],
        "images": [
            {
                "license": 4,
                "file_name": f"{number:012d}.jpg",
                "coco_url": f"http://images.cocodataset.org/val2017/{number:012d}.jpg",
                "height": height,
                "width": width,
                "date_captured": "2013-11-14 11:18:45",
                "id": number,
            }
            for number in range(1, images + 1)
        ],
        "annotations": objects,
        "categories": [
            {"supercategory": above, "id": number, "name": name} for number, (name, above) in CATEGORIES.items()
        ],
    }


def write_coco(root: Path, images: int, objects: list[dict[str, Any]]) -> tuple[Path, Path]:
    """(annotations file, folder of images), the images as JPEG files of 48 x 40 pixels."""
    for number in range(1, images + 1):
        save_photograph(root / "val2017" / f"{number:012d}.jpg", seed=number)
    path = root / "instances_val2017.json"
    path.write_text(json.dumps(instances(images, objects)))
    return path, root / "val2017"


def cats_and_dogs() -> list[dict[str, Any]]:
    """Large cats in the images 1 to 11, two in image 1; large dogs in 8 to 14; a person in all of them, tiny."""
    middle = (14.0, 10.0, 20.0, 20.0)
    objects = [annotation(image, image, 17, middle) for image in range(1, 12)]
    objects += [annotation(50, 1, 17, (20.0, 10.0, 10.0, 10.0))]
    objects += [annotation(100 + image, image, 18, middle) for image in range(8, 15)]
    objects += [annotation(200 + image, image, 1, (20.0, 20.0, 2.0, 2.0)) for image in range(1, 15)]
    return objects
