"""`m2m data coco`: sets of COCO images that share an object category (section 8.3 of the paper)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from m2m.cli.data.build_run import run_build
from m2m.cli.data.counter import counter
from m2m.cli.data.real_sets import Broken, build_settings, report_refused


def data_coco(
    annotations: Annotated[Path, typer.Option(metavar="FILE", help="instances_val2017.json, or one in its format.")],
    images: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the images that it names.")],
    out: Annotated[Path, typer.Option(help="Folder for the shards; a run that was cut off continues in it.")],
    size: Annotated[int, typer.Option(min=8, help="Pixels of a side; pictures are cut to their middle square.")] = 512,
    images_per_set: Annotated[int, typer.Option(min=1, help="Different images of each set.")] = 4,
    sets_per_category: Annotated[
        int | None, typer.Option(min=1, help="At most so many.  [default: as many as there are images for]")
    ] = None,
    min_area: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the picture that an object must cover to count.")
    ] = 0.05,
    seed: Annotated[int, typer.Option(min=0, help="Draws which images come together.")] = 0,
    broken: Annotated[
        Broken, typer.Option(help="Images that are missing or cannot be read: stop, or leave them out.")
    ] = Broken.stop,
    sets_per_shard: Annotated[int, typer.Option(min=1, help="Sets in a shard.")] = 100,
    format: Annotated[str, typer.Option(help="webp, png or jpg.")] = "webp",
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of webp and jpg.")] = 90,
) -> None:
    """Store sets of COCO images that all show an object of one category, in the shards that `m2m data build` writes.

    No image comes twice in the sets of a category; it may be in sets of two categories. Crowds do not count.

    Example:
      m2m data coco --annotations annotations/instances_val2017.json --images val2017 --out data/coco
    """
    from m2m.data.real_sets import CocoOptions, CocoSets

    options = CocoOptions(
        annotations=annotations,
        images=images,
        size=size,
        images_per_set=images_per_set,
        sets_per_category=sets_per_category,
        min_area=min_area,
        seed=seed,
        skip_broken=broken is Broken.skip,
    )
    with counter("looking at categories") as progress:
        source = CocoSets(options, progress)
    report_refused(source.refused)
    without = f"; none of {', '.join(source.without)}" if source.without else ""
    print(f"{len(source)} sets of {images_per_set} images{without}")
    run_build(source, build_settings(source, out, sets_per_shard, format, quality))
