"""`m2m data objaverse`: objects seen from several cameras as image sets."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from m2m.cli.data.build_run import run_build
from m2m.cli.data.counter import counter
from m2m.cli.data.real_sets import Broken, build_settings, report_refused


class Split(StrEnum):
    """Shares of the objects, by the names of their folders."""

    train = "train"
    validation = "validation"
    test = "test"


def data_objaverse(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of NNN.png and NNN.npy per object.")],
    out: Annotated[Path, typer.Option(help="Folder for the shards; a run that was cut off continues in it.")],
    size: Annotated[int, typer.Option(min=8, help="Pixels of a side; pictures are cut to their middle square.")] = 512,
    split: Annotated[
        Split | None, typer.Option(help="90%, 5% or 5% of the objects, by their names.  [default: all]")
    ] = None,
    max_views: Annotated[
        int | None, typer.Option(min=2, help="Only the first so many views of an object.  [default: all]")
    ] = None,
    broken: Annotated[Broken, typer.Option(help="Objects that cannot be used: stop, or leave them out.")] = Broken.stop,
    sets_per_shard: Annotated[int, typer.Option(min=1, help="Sets in a shard.")] = 100,
    format: Annotated[str, typer.Option(help="webp, png or jpg.")] = "webp",
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of webp and jpg.")] = 90,
) -> None:
    """Store the views of each object as an image set with its cameras, in the shards that `m2m data build` writes.

    The layout is that of Zero-1-to-3's renders of Objaverse: a folder an object, in it pictures (000.png; transparency
    becomes white) and beside each its camera (000.npy, 3x4 or 4x4, world-to-camera, OpenGL axes). Any number of views,
    any names of folders, folders in folders.

    Example:
      m2m data objaverse views_release --split train --size 256 --out data/objaverse/train
    """
    from m2m.data.real_sets.objaverse import ObjaverseOptions, ObjaverseSets

    options = ObjaverseOptions(folder, size, split.value if split else "", max_views, broken is Broken.skip)
    with counter("looking at views") as progress:
        source = ObjaverseSets(options, progress)
    report_refused(source.refused)
    print(f"{len(source)} objects of {source.pictures} views")
    run_build(source, build_settings(source, out, sets_per_shard, format, quality))
