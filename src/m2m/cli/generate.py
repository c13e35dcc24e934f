"""`m2m generate`: the main job. Given images in; further images, a contact sheet and a record to repeat them out."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m2m import __version__
from m2m.checkpoint import sha256_of_files
from m2m.cli.models import ModelFolder, find_model, load_pipeline
from m2m.cli.result_folder import GRID, check_out, write_result
from m2m.data.pictures import read_picture
from m2m.types import UserError

if TYPE_CHECKING:
    from PIL import Image

    from m2m.pipeline import M2MPipeline

LIBRARIES = ("torch", "diffusers", "transformers", "safetensors", "pillow", "numpy")


class WindowPolicy(StrEnum):
    """Which images stay in a full window."""

    sliding = "sliding"
    anchor = "anchor"


@dataclass(frozen=True)
class Settings:
    """What the pipeline is called with, by the names of its parameters; None leaves the choice to the model."""

    num_images: int
    num_inference_steps: int
    guidance_scale: float | None
    guidance_interval: tuple[float, float] | None
    window: int | None
    window_policy: str
    context_noise: int
    scheduler: str | None
    seed: int


def generate(
    images: Annotated[list[Path], typer.Argument(metavar="IMG [IMG ...]", help="The given images, any format.")],
    out: Annotated[Path, typer.Option(help="New folder for the images, grid.png and generation.json.")],
    number: Annotated[int, typer.Option("-n", "--num-images", min=1, help="How many images to make.")] = 4,
    model: Annotated[
        str, typer.Option(help="A folder, a hub id, or a shipped model: tiny-self, tiny-dino.")
    ] = "tiny-self",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same images.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps of each image.")] = 50,
    guidance: Annotated[
        float | None, typer.Option(help="Guidance scale; 1 is none.  [default: the model's own]")
    ] = None,
    guidance_interval: Annotated[
        str | None,
        typer.Option(metavar="A:B", help="Guide at these noise levels only, of 0 to 1.  [default: the model's own]"),
    ] = None,
    window: Annotated[
        int | None, typer.Option(min=1, help="How many images an image is shown.  [default: all before it]")
    ] = None,
    window_policy: Annotated[
        WindowPolicy, typer.Option(help="In a full window: drop the oldest image, or keep the given ones.")
    ] = WindowPolicy.sliding,
    context_noise: Annotated[int, typer.Option(min=0, help="Noise the shown images up to this timestep.")] = 0,
    scheduler: Annotated[
        str | None, typer.Option(metavar="NAME", help="A diffusers scheduler class.  [default: the model's own]")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a former result in --out.")] = False,
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
    settings = Settings(
        num_images=number,
        num_inference_steps=steps,
        guidance_scale=guidance,
        guidance_interval=_levels(guidance_interval),
        window=window,
        window_policy=window_policy.value,
        context_noise=context_noise,
        scheduler=scheduler,
        seed=seed,
    )
    pipe = load_pipeline(found, device)
    started = time.perf_counter()
    generated = sample(pipe, given, settings)
    seconds = time.perf_counter() - started
    write_result(out, given, generated, record_of(images, found, settings, pipe))
    print(f"{len(generated)} {'image' if len(generated) == 1 else 'images'} in {seconds:.1f} s: {out / GRID}")


def sample(pipe: M2MPipeline, given: Sequence[Image.Image], settings: Settings) -> list[Image.Image]:
    """Call the pipeline, with a progress bar in the terminal that goes when it is done."""
    from rich.console import Console
    from rich.progress import Progress

    pipe.set_progress_bar_config(disable=True)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=settings.num_images * settings.num_inference_steps)

        def show(_: Any, step: int, __: Any, values: dict[str, Any]) -> dict[str, Any]:
            image = values["image_index"]
            done = image * settings.num_inference_steps + min(step + 1, settings.num_inference_steps)
            progress.update(task, completed=done, description=f"image {image + 1} of {settings.num_images}")
            return {}

        # Any: with return_dict left alone it is always the output object, never the tuple.
        result: Any = pipe(list(given), **asdict(settings), callback_on_step_end=show)
    return list(result.images)


def record_of(paths: Sequence[Path], model: ModelFolder, settings: Settings, pipe: M2MPipeline) -> dict[str, Any]:
    """Everything needed to repeat a run: inputs and weights with their digests, every setting resolved, versions."""
    return {
        "inputs": [{"path": str(path), "sha256": sha256_of_files([path])} for path in paths],
        "model": {"name": model.name, "weights_sha256": model.weight_digest()},
        "settings": _resolved(settings, pipe),
        "device": str(pipe.device),
        "versions": _versions(),
    }


def _resolved(settings: Settings, pipe: M2MPipeline) -> dict[str, Any]:
    """The settings with the model's own choices filled in, so that a later change of its defaults changes nothing."""
    chosen = asdict(settings)
    if settings.guidance_scale is None:
        chosen["guidance_scale"] = pipe.config.default_guidance_scale
    if settings.guidance_interval is None:
        chosen["guidance_interval"] = list(pipe.config.default_guidance_interval)
    if settings.scheduler is None:
        chosen["scheduler"] = type(pipe.scheduler).__name__
    return chosen


def _levels(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        lowest, highest = (float(part) for part in text.split(":"))
    except ValueError as error:
        raise UserError(f"--guidance-interval '{text}' is no range A:B of noise levels, such as 0:0.7") from error
    return lowest, highest


def _versions() -> dict[str, str]:
    own = {"m2m": __version__, "python": platform.python_version(), "platform": platform.platform()}
    return own | {name: version(name) for name in LIBRARIES}
