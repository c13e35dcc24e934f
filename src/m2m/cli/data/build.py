"""`m2m data build`: image sets of captions, made by a generator, as a folder of shards (section 4 of the paper)."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from m2m.cli.data.build_run import end_of_build, progress_line, run_build
from m2m.cli.data.ranges import parse_range
from m2m.data.factory.folder import check_place
from m2m.data.factory.recipes import captions_recipe, open_source
from m2m.data.factory.settings import BuildSettings
from m2m.data.generators import GeneratorOptions
from m2m.signals import stop_signals
from m2m.types import UserError


def data_build(
    captions: Annotated[Path, typer.Option(help="Folder of captions that `m2m data captions` made.")],
    generator: Annotated[str, typer.Option(help="diffusers:DIR_OR_HUB_ID, world:mini or world:full.")],
    out: Annotated[Path, typer.Option(help="Folder for the shards; a run that was cut off continues in it.")],
    split: Annotated[str, typer.Option(help="Captions to use: train, validation or test.")] = "train",
    sets: Annotated[int | None, typer.Option(min=1, help="Only the first so many captions.")] = None,
    images_per_set: Annotated[int, typer.Option(min=1, help="Images of a whole set.")] = 25,
    images: Annotated[
        str | None, typer.Option(metavar="A:B", help="Make only images A to B-1 of each set now; the rest can follow.")
    ] = None,
    sets_per_shard: Annotated[int, typer.Option(min=1, help="Sets in a shard.")] = 100,
    shards: Annotated[str | None, typer.Option(metavar="A:B", help="Make only the shards A to B-1 now.")] = None,
    format: Annotated[str, typer.Option(help="webp, png or jpg.")] = "webp",
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of webp and jpg.")] = 90,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws another image for each caption and number.")] = 0,
    size: Annotated[int | None, typer.Option(min=8, help="Pixels of a side; none: the generator's own.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images made at once, and committed at once.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps.")] = 50,
    guidance: Annotated[float, typer.Option(help="Guidance scale.")] = 7.5,
    scheduler: Annotated[
        str, typer.Option(help="A scheduler class of diffusers; model: the pipeline's own.")
    ] = "EulerDiscreteScheduler",
    dtype: Annotated[str, typer.Option(help="float32, float16 or bfloat16.")] = "float32",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    compile: Annotated[
        bool, typer.Option("--compile", help="Compile the denoiser: slow to start, faster after.")
    ] = False,
    channels_last: Annotated[
        bool, typer.Option("--channels-last", help="Lay images out as the tensor cores of GPUs like them.")
    ] = False,
    safety_checker: Annotated[
        str, typer.Option(help="off, model (the pipeline's own), or DIR_OR_HUB_ID; what it rejects is left out.")
    ] = "off",
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="local|ADDRESS", help="Share the work among the machines of a Ray cluster; local: this one."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="With --ray: processes of a machine; none: one a GPU, or one without GPUs."),
    ] = None,
) -> None:
    """Make the images of each caption and store them as shards, each with a record of its bytes.

    The same command again makes only what is missing or damaged; another process may run it at the same time. A folder
    made with other settings is refused. SIGTERM and Ctrl-C end a run behind the images at work. A shard that fails
    three times is set aside, and the exit code is 1.

    With --ray the shards are made by processes on all machines of a cluster; one that is lost is replaced, and its
    shard continued by another. --out, --captions and a generator's folder must then be seen by all machines.

    Example:
      m2m data build --captions data/captions --generator diffusers:models/sd21-base --images 0:5 --out data/mis

    Example:
      m2m data build --captions data/captions --generator world:mini --sets 1000 --out data/tiny

    Example:
      m2m data build --captions /shared/captions --generator diffusers:/shared/sd21-base --out /shared/mis --ray auto
    """
    if workers is not None and ray is None:
        raise UserError("--workers is for --ray; without it there is one process")
    options = GeneratorOptions(
        spec=generator,
        size=size,
        batch=batch,
        steps=steps,
        guidance_scale=guidance,
        scheduler=scheduler,
        dtype=dtype,
        device=device,
        compile=compile,
        channels_last=channels_last,
        safety_checker=safety_checker,
    )
    settings = BuildSettings(
        out=out,
        images=_images(images, images_per_set),
        shards=parse_range(shards, "--shards") if shards else None,
        sets_per_shard=sets_per_shard,
        format=format,
        quality=quality,
    )
    recipe = captions_recipe(str(captions), asdict(options), split, images_per_set, seed, sets)
    check_place(out)
    if ray is None:
        run_build(open_source(recipe), settings)
    else:
        _build_on_ray(recipe, settings, ray, workers)


def _build_on_ray(recipe: dict[str, Any], settings: BuildSettings, address: str, workers: int | None) -> None:
    from m2m.data.factory.ray.build import build_on_ray

    with stop_signals() as received, progress_line() as progress:
        report = build_on_ray(recipe, settings, address, workers, progress, lambda: bool(received))
    end_of_build(report, settings.out, received)


def _images(text: str | None, images_per_set: int) -> tuple[int, int]:
    """The images to make now, by default all of a set."""
    first, last = parse_range(text, "--images") if text else (0, images_per_set)
    if last > images_per_set:
        raise UserError(f"--images {text} goes beyond the {images_per_set} images of a set (--images-per-set)")
    return first, last
