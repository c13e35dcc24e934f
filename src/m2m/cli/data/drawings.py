"""`m2m data drawings`: how pictures are assembled, as folders of steps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from m2m.cli.data.counter import counter

TRAIN_VARIANTS = 8


def data_drawings(
    out: Annotated[Path, typer.Option(help="Folder for the folders of steps; a run that was cut off continues in it.")],
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "train",
    size: Annotated[int, typer.Option(min=8, help="Pixels of a side.")] = 64,
    variants: Annotated[
        int | None, typer.Option(min=1, help="Folders of each drawing.  [default: 8 for train, else 1]")
    ] = None,
    source: Annotated[
        str, typer.Option(help="twemoji, or kanji: stroke by stroke (CC BY-SA 3.0; bundle nothing trained on it).")
    ] = "twemoji",
    seed: Annotated[int, typer.Option(min=0, help="Draws the variants; the splits do not depend on it.")] = 0,
    count: Annotated[int | None, typer.Option(min=1, help="Only the first so many drawings.  [default: all]")] = None,
) -> None:
    """Draw how pictures are assembled: a burger stacked, a train built, a face given eyes.

    The shapes of Twemoji drawings (CC-BY-4.0), or the strokes of kanji, are put down one group after another, in 5 to 8
    steps of which each can be seen. Every folder is one procedure, as `m2m data steps` reads it: NAME-0 the drawing as
    it is, NAME-1 and so on variants of it in place, size, direction and palette. No emoji of one split has a near twin
    in another.

    Example:
      m2m data drawings --split train --out data/drawings/train
    """
    from m2m.data.drawings.miniature import DrawingOptions, find_assemblies, write_drawings

    several = variants or (TRAIN_VARIANTS if split == "train" else 1)
    options = DrawingOptions(source, split, size, several, seed, count)
    with counter("looking at drawings") as progress:
        found = find_assemblies(options, progress)
    print(f"{len(found)} drawings in {several} variants each, {sum(len(one.counts) for one in found)} steps")
    with counter("folders") as progress:
        made, wanted = write_drawings(found, options, out, progress)
    print(f"{wanted} folders are whole, {made} of them new: {out}")
