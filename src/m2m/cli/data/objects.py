"""`m2m data objects`: the miniature of Objaverse."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from m2m.cli.data.counter import counter


class Split(StrEnum):
    """Which of the objects: 899, 50 and 50."""

    train = "train"
    validation = "validation"
    test = "test"


def data_objects(
    out: Annotated[Path, typer.Option(help="Folder for the views; a run that was cut off continues in it.")],
    split: Annotated[Split, typer.Option(help="899, 50 and 50 objects, always the same.")] = Split.train,
    size: Annotated[int, typer.Option(min=8, max=1024, help="Pixels of a side.")] = 96,
    views: Annotated[int, typer.Option(min=1, max=1000, help="Pictures of an object.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Of the cameras and the colours.")] = 0,
    count: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many objects of the split.  [default: all]")
    ] = None,
) -> None:
    """Draw objects from all around: a small stand-in for Objaverse, in the layout of Zero-1-to-3's renders.

    Each object is a folder of pictures (000.png, transparent background) and cameras (000.npy, 3x4, world-to-camera).
    The shapes are the random objects of pybullet (pip install 'm2m-diffusion[nvs]'), their six sides in six
    colours; no display is needed. `m2m data objaverse` makes shards of the folder.

    Example:
      m2m data objects --split train --size 64 --out data/objects/train
    """
    from m2m.data.objects.views import ObjectOptions, write_objects

    options = ObjectOptions(split=split.value, size=size, views=views, seed=seed, count=count)
    with counter("drawing objects") as progress:
        objects, new = write_objects(options, out, progress)
    print(f"{objects} objects of {views} views, {new} of them new: {out}")
