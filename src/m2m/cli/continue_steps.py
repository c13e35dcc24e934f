"""`m2m continue`: pictures of the steps of a procedure so far in, pictures of its next steps out (section 8.5.2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m2m.cli.result_folder import GRID, check_out, write_result
from m2m.cli.sampling_options import Count, Device, Guidance, GuidanceInterval, Out, Overwrite, Scheduler, Seed, Steps
from m2m.cli.sampling_run import guidance_levels, make, window_size
from m2m.data.pictures import read_picture
from m2m.model_folder import find_model
from m2m.sampling_record import Settings, check_condition, conditions_of
from m2m.types import UserError

if TYPE_CHECKING:
    from PIL import Image


def continue_steps(
    images: Annotated[
        list[Path], typer.Argument(metavar="STEP [STEP ...]", help="Pictures of the first steps, in their order.")
    ],
    model: Annotated[
        str, typer.Option(help="A model of procedures, a folder or a hub id; recipes/tiny_tasks.sh trains a tiny one.")
    ],
    out: Out,
    number: Count = 4,
    steps: Steps = 50,
    seed: Seed = 0,
    guidance: Guidance = None,
    position_guidance: Annotated[
        float | None,
        typer.Option(help="How far the position in the procedure is followed (s_C).  [default: the model's own]"),
    ] = None,
    guidance_interval: GuidanceInterval = None,
    window: Annotated[
        str | None,
        typer.Option(metavar="W|all", help="How many of the last steps a step is shown.  [default: the model's own]"),
    ] = None,
    scheduler: Scheduler = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Continue a procedure: from pictures of its first steps, make pictures of the next ones.

    The given pictures are steps 1, 2, ...; the model is told the position of each. Writes 000.png (the first new step),
    001.png, ..., grid.png (given | generated) and generation.json, which holds everything needed to repeat the run.

    Example:
      m2m continue bun.png salad.png cheese.png -n 4 --model runs/visual-procedure/model --out out/burger
    """
    check_out(out, overwrite)
    given = _read_steps(images)
    found = find_model(model)
    check_condition(found, "position")
    settings = Settings(
        num_images=number,
        window=window_size(window),
        guidance_scale=guidance,
        condition_guidance_scale=position_guidance,
        guidance_interval=guidance_levels(guidance_interval),
        num_inference_steps=steps,
        scheduler=scheduler,
        seed=seed,
    )
    positions = conditions_of("visual_procedure", len(given) + number)
    made = make(images, given, found, settings, device, positions)
    write_result(out, given, made.images, made.record | {"positions": positions[:, 0].tolist()})
    print(made.line(out / GRID))


def _read_steps(paths: Sequence[Path]) -> list[Image.Image]:
    """The pictures; UserError says which step it was."""
    read = []
    for number, path in enumerate(paths, start=1):
        try:
            read.append(read_picture(path))
        except UserError as error:
            raise UserError(f"step {number} of {len(paths)}: {error}") from error
    return read
