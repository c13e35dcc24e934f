"""Small folders of real shards: pictures whose colour tells their set and number."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from m2m.data.shards import Manifest, ShardWriter, manifest_entry, shard_name, write_manifest

Numbers = Mapping[str, Sequence[int]]
Picture = NDArray[np.uint8]
SIZE = 8


def keys(count: int, first: int = 0) -> list[str]:
    """Names of sets: "set000", "set001", ..."""
    return [f"set{number:03d}" for number in range(first, first + count)]


def full_sets(count: int, images: int = 5, first: int = 0) -> dict[str, list[int]]:
    """`count` sets with the images 0 .. images - 1."""
    return {key: list(range(images)) for key in keys(count, first)}


def toy_picture(key: str, number: int, size: tuple[int, int] = (SIZE, SIZE)) -> Picture:
    """uint8 [H, W, 3]: red is the set's number, green the image's; blue differs from pixel to pixel."""
    picture = np.empty((size[1], size[0], 3), np.uint8)
    picture[..., 0], picture[..., 1] = int(key[3:]) % 256, number
    picture[..., 2] = np.arange(size[0] * size[1]).reshape(size[1], size[0]) * 3 % 256
    return picture


def png(picture: Picture) -> bytes:
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG")
    return content.getvalue()


def toy_conditions(key: str, count: int) -> dict[str, Any]:
    """What META says of the images of a set: a row of three numbers each, the set's, the image's, and 0.5."""
    return {"name": "toy", "values": [[int(key[3:]), number, 0.5] for number in range(count)]}


def write_shard(
    folder: Path,
    index: int,
    images: tuple[int, int],
    sets: Numbers,
    sizes: Mapping[str, tuple[int, int]] | None = None,
    conditions: Mapping[str, Any] | None = None,
) -> str:
    """One shard with those of the sets' images that lie in the range; a unit a set. Returns its name."""
    pictures: dict[str, dict[int, Picture]] = {}
    for key, numbers in sets.items():
        here = [number for number in numbers if images[0] <= number < images[1]]
        pictures[key] = {number: toy_picture(key, number) for number in here}
        if here and sizes and key in sizes:  # the last picture alone has that size, so that the set is uneven
            pictures[key][here[-1]] = toy_picture(key, here[-1], sizes[key])
    return _write_pictures(folder, index, images, pictures, conditions)


def _write_pictures(
    folder: Path,
    index: int,
    images: tuple[int, int],
    sets: Mapping[str, Mapping[int, Picture]],
    conditions: Mapping[str, Any] | None = None,
) -> str:
    name = shard_name(index, images)
    with ShardWriter.open(folder, name, index, images, units=len(sets)) as writer:
        for key, pictures in sets.items():
            entries = [(f"{key}.{number:03d}.png", png(picture)) for number, picture in pictures.items()]
            meta = {"key": key, "caption": f"caption of {key}", "images": list(images)}
            meta |= {"conditions": conditions[key]} if conditions and key in conditions else {}
            writer.append([*entries, (f"{key}.json", json.dumps(meta).encode())])
        writer.finish()
    return name


def write_pictures(folder: Path, sets: Mapping[str, Sequence[Picture]]) -> Path:
    """A folder of one shard with these pictures."""
    folder.mkdir(parents=True)
    numbered = {key: dict(enumerate(pictures)) for key, pictures in sets.items()}
    name = _write_pictures(folder, 0, (0, 25), numbered)
    write_toy_manifest(folder, [name], sets=len(sets), sets_per_shard=len(sets))
    return folder


def write_folder(
    folder: Path,
    sets: Numbers,
    per_shard: int = 4,
    slices: Sequence[tuple[int, int]] = ((0, 25),),
    complete: bool = True,
    sizes: Mapping[str, tuple[int, int]] | None = None,
    conditions: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Path:
    """A folder of shards with a manifest; later slices leave out the sets without such images, as the factory does.

    conditions: of some sets, what their META says of the images (`toy_conditions`, or something that is wrong).
    """
    folder.mkdir(parents=True)
    names = list(sets)
    shards = -(-len(names) // per_shard)
    written = []
    for index in range(shards):
        part = {key: sets[key] for key in names[index * per_shard : (index + 1) * per_shard]}
        for images in slices:
            here = {key: n for key, n in part.items() if images[0] == 0 or any(number >= images[0] for number in n)}
            written.append(write_shard(folder, index, images, here, sizes, conditions))
    write_toy_manifest(folder, written, complete, sets=len(names), sets_per_shard=per_shard, **settings)
    return folder


def write_toy_manifest(folder: Path, names: Sequence[str], complete: bool = True, **settings: Any) -> None:
    entries = sorted((manifest_entry(folder, name) for name in names), key=lambda entry: (entry.index, entry.images))
    write_manifest(folder, Manifest({"source": "toy", **settings}, complete, tuple(entries)))
