"""`m2m data vgsi`: the methods of wikiHow articles as visual procedures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from m2m.cli.data.build_run import run_build
from m2m.cli.data.counter import counter
from m2m.cli.data.objaverse import Split
from m2m.cli.data.real_sets import Broken, build_settings, report_refused


def data_vgsi(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="WikihowText_data.json, one article a line.")],
    images: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the pictures, STEP_ID.png, at any depth.")],
    out: Annotated[Path, typer.Option(help="Folder for the shards; a run that was cut off continues in it.")],
    size: Annotated[int, typer.Option(min=8, help="Pixels of a side; pictures are cut to their middle square.")] = 512,
    split: Annotated[
        Split | None, typer.Option(help="90%, 5% or 5% of the articles, by their ids.  [default: all]")
    ] = None,
    min_steps: Annotated[int, typer.Option(min=2, help="A method with fewer pictures is no procedure.")] = 2,
    max_steps: Annotated[
        int | None, typer.Option(min=2, help="Only the first so many steps of a method.  [default: all]")
    ] = None,
    broken: Annotated[
        Broken, typer.Option(help="Methods with a missing or broken picture: stop, or leave them out.")
    ] = Broken.stop,
    sets_per_shard: Annotated[int, typer.Option(min=1, help="Procedures in a shard.")] = 100,
    format: Annotated[str, typer.Option(help="webp, png or jpg.")] = "webp",
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of webp and jpg.")] = 90,
) -> None:
    """Store the methods of VGSI's wikiHow articles as visual procedures, in the shards that `m2m data build` writes.

    VGSI (Yang et al. 2021) has an article a line, with its goal and methods, and a picture for each step. Every method
    is a procedure; its caption is the goal and the method. Articles come in no splits: --split makes some.

    Example:
      m2m data vgsi WikihowText_data.json --images wiki_images --split train --min-steps 4 --out data/vgsi/train
    """
    from m2m.data.real_sets import VgsiOptions, VgsiSets

    chosen = split.value if split else ""
    options = VgsiOptions(file, images, size, chosen, min_steps, max_steps, skip_broken=broken is Broken.skip)
    with counter("looking at pictures") as progress:
        source = VgsiSets(options, progress)
    report_refused(source.refused)
    short = f"; {source.short} methods have fewer than {min_steps} pictures" if source.short else ""
    print(f"{len(source)} procedures of {source.pictures} steps{short}")
    run_build(source, build_settings(source, out, sets_per_shard, format, quality))
