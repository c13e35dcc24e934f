"""`m2m views`: pictures of an object in, pictures of it from other cameras out (section 8.5.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from m2m.cli.result_folder import TURNAROUND, Turnaround, check_out, write_result
from m2m.cli.sampling_options import Device, Guidance, GuidanceInterval, Images, Out, Overwrite, Scheduler, Seed, Steps
from m2m.cli.sampling_run import guidance_levels, make, window_size
from m2m.data.pictures import read_picture
from m2m.model_folder import find_model
from m2m.sampling_record import Settings, check_condition, conditions_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2m.tasks.cameras import Cameras

Item = TypeVar("Item")
SAME = 0.25  # by what part two steps between cameras may differ to be steps of one turn


def views(
    images: Images,
    cameras: Annotated[
        str,
        typer.Option(
            metavar="orbit:N[,KEY=NUMBER]|FILE",
            help="N views around the object, KEY being elevation, azimuth or distance; or a JSON FILE of matrices.",
        ),
    ],
    out: Out,
    model: Annotated[
        str, typer.Option(help="A model of novel views: the shipped tiny one, a folder or a hub id.")
    ] = "tiny-novel-view",
    window: Annotated[
        str | None,
        typer.Option(
            metavar="W|all",
            help="How many images a view is shown: those of the nearest cameras.  [default: the model's own]",
        ),
    ] = None,
    camera_guidance: Annotated[
        float | None, typer.Option(help="How far the camera is followed (s_C).  [default: the model's own]")
    ] = None,
    guidance: Guidance = None,
    guidance_interval: GuidanceInterval = None,
    scheduler: Scheduler = None,
    seed: Seed = 0,
    steps: Steps = 50,
    loop_milliseconds: Annotated[int, typer.Option(min=20, help="How long a turn of the animation takes.")] = 3000,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Make views of an object from cameras of your choice.

    orbit:8 puts the given image and 8 views evenly around the object. A JSON file holds 3x4 or 4x4 matrices
    (world-to-camera), those of the given images first, or {"given": [...], "views": [...]}. The view whose camera is
    nearest to a given one is made first; then always the nearest to any that is there.

    Writes 000.png, 001.png, ... in the order of the cameras, grid.png (given | generated), turnaround.gif and
    generation.json, which holds everything needed to repeat the run.

    Example:
      m2m views mug.png --cameras orbit:8,elevation=20 --out out/mug
      m2m views front.png side.png --cameras cameras.json --window 4 --model runs/novel-view/model --out out/mug
    """
    from m2m.tasks.cameras import generation_order, parse_cameras

    check_out(out, overwrite)
    given = [read_picture(path) for path in images]
    asked = parse_cameras(cameras, len(given))
    found = find_model(model)
    check_condition(found, "camera")
    order = [place - len(given) for place in generation_order(asked.all, len(given))]
    settings = Settings(
        seed=seed,
        num_images=len(asked.views),
        num_inference_steps=steps,
        scheduler=scheduler,
        window=window_size(window),
        window_policy="nearest",
        guidance_scale=guidance,
        condition_guidance_scale=camera_guidance,
        guidance_interval=guidance_levels(guidance_interval),
    )
    told = conditions_of("novel_view", len(asked.all), _in_order(asked, order).reshape(-1, 12))
    made = make(images, given, found, settings, device, told)
    cameras_used = {"given": asked.given.tolist(), "views": asked.views.tolist()}
    record = made.record | {"cameras": cameras_used, "order": order}
    turnaround = Turnaround(loop_milliseconds, with_given=_begins_with_given(asked))
    write_result(out, given, as_asked(made.images, order), record, turnaround)
    print(made.line(out / TURNAROUND))


def as_asked(made: Sequence[Item], order: Sequence[int]) -> list[Item]:
    """What was made in `order` (numbers of views), by the number of the view."""
    by_number = dict(zip(order, made, strict=True))
    return [by_number[number] for number in range(len(made))]


def _in_order(cameras: Cameras, order: Sequence[int]) -> NDArray[Any]:
    """All cameras, the given ones first, then the views as they are made: [G + V, 3, 4]."""
    import numpy as np

    return np.concatenate([cameras.given, cameras.views[list(order)]])


def _begins_with_given(cameras: Cameras) -> bool:
    """Whether the one given image is a frame of the turn-around: its camera stands as far from the first view's as
    those of the views from each other, as in an orbit."""
    import numpy as np

    from m2m.data.cameras import camera_positions

    steps = np.linalg.norm(np.diff(camera_positions(cameras.all), axis=0), axis=-1)
    return len(cameras.given) == 1 and len(steps) > 1 and bool(np.allclose(steps[0], steps[1:], rtol=SAME))
