"""`m2m data plan`: what a data set costs, before it is made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from m2m.cli.data.counter import counter
from m2m.data.factory.settings import FORMATS, BuildSettings
from m2m.data.generators import GeneratorOptions
from m2m.data.reports import timing
from m2m.data.reports.costs import (
    PAPER_IMAGES,
    PAPER_SECONDS,
    PAPER_SETS,
    PAPER_SIZE,
    Plan,
    estimated_picture_bytes,
    report,
)
from m2m.data.reports.units import human_bytes
from m2m.types import UserError

# Time does not depend on what a caption says, bytes do: these are for a plan without a folder of captions.
CAPTIONS = (
    "a wooden boat on a calm lake at sunset",
    "a plate of pasta with tomatoes and basil on a table",
    "portrait of an old man with a grey beard",
    "a busy street in the rain with umbrellas and neon signs",
    "snow on the peaks of a mountain range under a clear sky",
    "a kitten asleep on a red cushion",
    "abstract pattern of blue and gold tiles",
    "a bunch of wild flowers in a glass vase by the window",
)


def data_plan(
    sets: Annotated[int, typer.Option(min=1, help="How many captions, each of which becomes a set.")] = PAPER_SETS,
    captions: Annotated[Path | None, typer.Option(help="Count the captions of this folder instead.")] = None,
    split: Annotated[str, typer.Option(help="Of --captions: train, validation or test.")] = "train",
    images_per_set: Annotated[int, typer.Option(min=1, help="Images made of each caption.")] = PAPER_IMAGES,
    seconds: Annotated[float, typer.Option(help="GPU time of an image. (Default: the paper's A100.)")] = PAPER_SECONDS,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs at work at a time.")] = Plan.gpus,
    price: Annotated[float, typer.Option(min=0, help="Dollars of a GPU-hour.")] = Plan.price,
    format: Annotated[str, typer.Option(help="webp, png or jpg.")] = "jpg",
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of webp and jpg.")] = 95,
    size: Annotated[
        int | None, typer.Option(min=8, help=f"Pixels of a side; none: {PAPER_SIZE}, or what --measure makes.")
    ] = None,
    bytes_per_image: Annotated[
        float | None, typer.Option(help="Bytes of a stored image; none: estimated, or weighed by --measure.")
    ] = None,
    sets_per_shard: Annotated[int, typer.Option(min=1, help="Sets in a shard.")] = BuildSettings.sets_per_shard,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time --generator on this machine first and count with that.")
    ] = False,
    generator: Annotated[
        str | None, typer.Option(help="For --measure: diffusers:DIR_OR_HUB_ID, world:mini or world:full.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="For --measure: images made at once.")] = GeneratorOptions.batch,
    batches: Annotated[int, typer.Option(min=1, help="For --measure: batches to time, after one that warms up.")] = 2,
    steps: Annotated[int, typer.Option(min=1, help="For --measure: denoising steps.")] = GeneratorOptions.steps,
    dtype: Annotated[str, typer.Option(help="For --measure: float32, float16 or bfloat16.")] = GeneratorOptions.dtype,
    device: Annotated[str, typer.Option(help="For --measure: auto, cpu, cuda, ...")] = GeneratorOptions.device,
    compile: Annotated[bool, typer.Option("--compile", help="For --measure: compile the denoiser.")] = False,
    channels_last: Annotated[
        bool, typer.Option("--channels-last", help="For --measure: the memory layout that tensor cores like.")
    ] = False,
) -> None:
    """Say what a data set costs: GPU-hours, money, days, bytes, shards. Without options: the paper's.

    Bytes of an image are estimated from the paper's 32 TB of JPEG and from photographs in the other formats.

    Example:
      m2m data plan --images-per-set 5 --gpus 64 --format webp --quality 90

    Example:
      m2m data plan --captions data/captions --measure --generator diffusers:stable-diffusion-2-1-base --dtype float16
    """
    if format not in FORMATS:
        raise UserError(f"--format '{format}' is not one of {', '.join(FORMATS)}")
    texts, sets = _captions(captions, split, sets, batch * (batches + 1))
    if measure:
        if generator is None:
            raise UserError("--measure needs --generator: diffusers:DIR_OR_HUB_ID, world:mini or world:full")
        options = GeneratorOptions(
            generator,
            size=size,
            batch=batch,
            steps=steps,
            dtype=dtype,
            device=device,
            compile=compile,
            channels_last=channels_last,
        )
        measured = _measured(options, texts, format, quality, batches)
        seconds, size = measured.seconds, measured.size
        bytes_per_image = bytes_per_image or measured.picture_bytes
    size = size or PAPER_SIZE
    picture_bytes = bytes_per_image or estimated_picture_bytes(format, quality, size)
    plan = Plan(sets, images_per_set, seconds, gpus, price, picture_bytes, size, sets_per_shard)
    for name, sentence in report(plan):
        print(f"{name:10} {sentence}")


def _captions(folder: Path | None, split: str, sets: int, wanted: int) -> tuple[Sequence[str], int]:
    """Captions to measure with (none without a folder), and how many sets are planned."""
    if folder is None:
        return (), sets
    from m2m.data.captions.store import CaptionStore

    store = CaptionStore.open(folder)
    count = store.count(split)
    if not count:
        raise UserError(f"split '{split}' of '{folder}' holds no caption; give another --split")
    return [row.caption for row in store.rows(split, 0, min(wanted, count))], count


def _measured(
    options: GeneratorOptions, captions: Sequence[str], format: str, quality: int, batches: int
) -> timing.Measured:
    """Time the generator, and say so."""
    from m2m.data.factory.assembly import encode_picture
    from m2m.data.generators import open_generator

    texts = captions or _own_captions(options.spec)
    opened = open_generator(options)
    with counter("batches") as progress:
        found = timing.measure(
            opened, texts, lambda picture: encode_picture(picture, format, quality), batches, progress
        )
    speed = f"{found.seconds:.3g} s and {human_bytes(found.picture_bytes)} ({format}) an image"
    print(f"{'measured':10} {options.spec} on this machine: {speed}, mean of {found.images} images")
    print(f"{'':10} GPU-hours below are hours of this machine's device")
    return found


def _own_captions(spec: str) -> Sequence[str]:
    """Captions that the generator can draw: the tiny world draws its own only."""
    kind, _, name = spec.partition(":")
    if kind != "world":
        return CAPTIONS
    from m2m.data.worlds import World

    return [caption.text for caption in World.load(name).captions("train", 64, 0)]
