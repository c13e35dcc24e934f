"""`m2m generate`: the main job. Given images in; further images, a contact sheet and a record to repeat them out."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from m2m.cli.result_folder import GRID, check_out, write_result
from m2m.cli.sampling_options import (
    Count,
    Device,
    Guidance,
    GuidanceInterval,
    Images,
    Out,
    Overwrite,
    Scheduler,
    Seed,
    Steps,
)
from m2m.cli.sampling_run import guidance_levels, make, window_size
from m2m.data.pictures import read_picture
from m2m.model_folder import find_model
from m2m.sampling_record import Settings, check_default_condition


class WindowPolicy(StrEnum):
    """Which images stay in a full window."""

    sliding = "sliding"
    anchor = "anchor"


def generate(
    images: Images,
    out: Out,
    number: Count = 4,
    model: Annotated[
        str, typer.Option(help="A folder, a hub id, or a shipped model: tiny-self, tiny-dino.")
    ] = "tiny-self",
    seed: Seed = 0,
    steps: Steps = 50,
    guidance: Guidance = None,
    guidance_interval: GuidanceInterval = None,
    window: Annotated[
        str | None,
        typer.Option(metavar="W|all", help="How many images an image is shown at most.  [default: the model's own]"),
    ] = None,
    window_policy: Annotated[
        WindowPolicy | None,
        typer.Option(
            help="In a full window: drop the oldest image, or keep the given ones.  [default: the model's own]"
        ),
    ] = None,
    context_noise: Annotated[int, typer.Option(min=0, help="Noise the shown images up to this timestep.")] = 0,
    scheduler: Scheduler = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Make further images that share the content and style of the given ones.

    Writes 000.png, 001.png, ..., grid.png (given | generated) and generation.json, which holds everything needed to
    repeat the run.

    Example:
      m2m generate cat1.png cat2.jpg cat3.webp -n 4 --out out/cats
    """
    check_out(out, overwrite)
    given = [read_picture(path) for path in images]
    found = find_model(model)
    check_default_condition(found)
    settings = Settings(
        num_images=number,
        num_inference_steps=steps,
        guidance_scale=guidance,
        guidance_interval=guidance_levels(guidance_interval),
        window=window_size(window),
        window_policy=window_policy and window_policy.value,
        context_noise=context_noise,
        scheduler=scheduler,
        seed=seed,
    )
    made = make(images, given, found, settings, device)
    write_result(out, given, made.images, made.record)
    print(made.line(out / GRID))
