"""`m2m data folder`: sub-folders of pictures as image sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from m2m.cli.data.build_run import run_build
from m2m.cli.data.counter import counter
from m2m.cli.data.real_sets import Broken, build_settings, report_refused


def data_folder(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Each folder in it that holds pictures is a set.")],
    out: Annotated[Path, typer.Option(help="Folder for the shards; a run that was cut off continues in it.")],
    size: Annotated[int, typer.Option(min=8, help="Pixels of a side; pictures are cut to their middle square.")] = 512,
    min_images: Annotated[int, typer.Option(min=1, help="A folder with fewer pictures is no set.")] = 2,
    max_images: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many pictures of a folder.  [default: all]")
    ] = None,
    broken: Annotated[
        Broken, typer.Option(help="Pictures that cannot be read: stop, or leave them out.")
    ] = Broken.stop,
    sets_per_shard: Annotated[int, typer.Option(min=1, help="Sets in a shard.")] = 100,
    format: Annotated[str, typer.Option(help="webp, png or jpg.")] = "webp",
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of webp and jpg.")] = 90,
) -> None:
    """Store the pictures of each sub-folder as an image set, in the shards that `m2m data build` writes.

    Folders may lie in folders; pictures are taken in natural order ("2.jpg" before "10.jpg"), in any format that
    `m2m generate` reads. Each is looked at first, so a broken one is found before anything is written.

    Example:
      m2m data folder photos --size 256 --out data/photos
    """
    from m2m.data.real_sets import FolderOptions, FolderSets

    options = FolderOptions(folder, size, min_images, max_images, skip_broken=broken is Broken.skip)
    with counter("looking at pictures") as progress:
        source = FolderSets(options, progress)
    report_refused(source.refused)
    small = f"; {len(source.small)} folders have fewer than {min_images} pictures" if source.small else ""
    print(f"{len(source)} sets of {source.pictures} pictures{small}")
    run_build(source, build_settings(source, out, sets_per_shard, format, quality))
