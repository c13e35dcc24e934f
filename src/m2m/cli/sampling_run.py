"""What every command that makes images does: load its model, call the pipeline with a progress bar, keep a record."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2m.checkpoint import sha256_of_files
from m2m.loading import load_pipeline
from m2m.model_folder import ModelFolder
from m2m.sampling_record import Settings, model_entry, record
from m2m.types import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from m2m.pipeline import M2MPipeline


@dataclass(frozen=True)
class Made:
    """The images in the order in which they were made, the record that repeats them, and how long they took."""

    images: list[Image.Image]
    record: dict[str, Any]
    seconds: float

    def line(self, shown: Path) -> str:
        """What a command ends with: how much, how long, and the file to look at first."""
        count = len(self.images)
        return f"{count} {'image' if count == 1 else 'images'} in {self.seconds:.1f} s: {shown}"


def guidance_levels(text: str | None) -> tuple[float, float] | None:
    """`--guidance-interval A:B`. Raises UserError for what is no range."""
    if text is None:
        return None
    try:
        lowest, highest = (float(part) for part in text.split(":"))
    except ValueError as error:
        raise UserError(f"--guidance-interval '{text}' is no range A:B of noise levels, such as 0:0.7") from error
    return lowest, highest


def window_size(text: str | None) -> int | str | None:
    """`--window W|all`, as the pipeline takes it. Raises UserError for what is neither."""
    if text is None or text == "all":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"--window '{text}' is no number of images: write 1 or more, or all")
    return int(text)


def make(
    paths: Sequence[Path],
    given: Sequence[Image.Image],
    model: ModelFolder,
    settings: Settings,
    device: str,
    conditions: NDArray[Any] | None = None,
) -> Made:
    """Load the model and make the images, with a progress bar in the terminal that goes when it is done.

    Args:
        paths, given: the given images, and where they were read from.
        conditions: float32 [given + num_images, D], for a model with a condition.
    """
    pipe = load_pipeline(model, device)
    started = time.perf_counter()
    images = _sampled(pipe, given, settings, conditions)
    seconds = time.perf_counter() - started
    inputs = [{"path": str(path), "sha256": sha256_of_files([path])} for path in paths]
    return Made(images, record(inputs, model_entry(model), settings, pipe), seconds)


def _sampled(
    pipe: M2MPipeline, given: Sequence[Image.Image], settings: Settings, conditions: NDArray[Any] | None
) -> list[Image.Image]:
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
        result: Any = pipe(list(given), **asdict(settings), conditions=conditions, callback_on_step_end=show)
    return list(result.images)
