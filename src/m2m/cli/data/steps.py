"""`m2m data steps`: folders of ordered pictures as visual procedures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from m2m.cli.data.build_run import run_build
from m2m.cli.data.counter import counter
from m2m.cli.data.real_sets import Broken, build_settings, report_refused


def data_steps(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Each folder in it is a procedure, a picture a step.")],
    out: Annotated[Path, typer.Option(help="Folder for the shards; a run that was cut off continues in it.")],
    size: Annotated[int, typer.Option(min=8, help="Pixels of a side; pictures are cut to their middle square.")] = 512,
    min_steps: Annotated[int, typer.Option(min=2, help="A folder with fewer pictures is no procedure.")] = 2,
    max_steps: Annotated[
        int | None, typer.Option(min=2, help="Only the first so many steps of a procedure.  [default: all]")
    ] = None,
    broken: Annotated[
        Broken, typer.Option(help="Procedures with a missing or broken step: stop, or leave them out.")
    ] = Broken.stop,
    sets_per_shard: Annotated[int, typer.Option(min=1, help="Procedures in a shard.")] = 100,
    format: Annotated[str, typer.Option(help="webp, png (what does not change stays equal) or jpg.")] = "webp",
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of webp and jpg.")] = 90,
) -> None:
    """Store folders of ordered pictures as visual procedures, in the shards that `m2m data build` writes.

    Steps are taken in natural order ("2.jpg" before "10.jpg"); the caption is the folder's name. Where the names number
    the steps from 0 or 1, none may be missing.

    Example:
      m2m data steps data/drawings/train --size 64 --format png --out data/drawings-shards/train
    """
    from m2m.data.real_sets import FolderOptions, StepSets

    options = FolderOptions(folder, size, min_steps, max_steps, skip_broken=broken is Broken.skip)
    with counter("looking at pictures") as progress:
        source = StepSets(options, progress)
    report_refused(source.refused)
    small = f"; {len(source.small)} folders have fewer than {min_steps} pictures" if source.small else ""
    print(f"{len(source)} procedures of {source.pictures} steps{small}")
    run_build(source, build_settings(source, out, sets_per_shard, format, quality))
