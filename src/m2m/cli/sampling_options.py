"""The options that the commands which make images have in common: one name, one meaning and one help text each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Images = Annotated[list[Path], typer.Argument(metavar="IMG [IMG ...]", help="The given images, any format.")]
Out = Annotated[Path, typer.Option(help="New folder for the images, grid.png and generation.json.")]
Count = Annotated[int, typer.Option("-n", "--num-images", min=1, help="How many images to make.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same images.")]
Steps = Annotated[int, typer.Option(min=1, help="Denoising steps of each image.")]
Guidance = Annotated[float | None, typer.Option(help="Guidance scale (s_I); 1 is none.  [default: the model's own]")]
GuidanceInterval = Annotated[
    str | None,
    typer.Option(metavar="A:B", help="Guide at these noise levels only, of 0 to 1.  [default: the model's own]"),
]
Scheduler = Annotated[
    str | None, typer.Option(metavar="NAME", help="A diffusers scheduler class.  [default: the model's own]")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a former result in --out.")]
