"""What every command that makes images does: check its model, call the pipeline with a progress bar, keep a record."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2m.checkpoint import sha256_of_files
from m2m.loading import load_pipeline
from m2m.model_folder import ModelFolder
from m2m.types import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from m2m.pipeline import M2MPipeline

# The command for a model whose images have this condition, and how it is called.
COMMANDS = {"camera": "m2m views IMG --cameras orbit:8,elevation=20", "position": "m2m continue STEP1 STEP2"}


@dataclass(frozen=True)
class Settings:
    """What the pipeline is called with, by the names of its parameters; None leaves the choice to the model."""

    num_images: int
    num_inference_steps: int
    guidance_scale: float | None
    guidance_interval: tuple[float, float] | None
    window: int | None
    scheduler: str | None
    seed: int
    window_policy: str = "sliding"
    context_noise: int = 0
    condition_guidance_scale: float | None = None


def conditions_of(task: str, count: int, stored: NDArray[Any] | None = None) -> NDArray[Any]:
    """What a model of the task is told of the images 0, 1, ... of one set, float32 [count, D]: as the task trains it.

    stored: float32 [count, D0], what data would hold for these images. Raises UserError.
    """
    import torch

    from m2m.tasks.known import find_task

    known = None if stored is None else torch.as_tensor(stored).unsqueeze(0)
    told: NDArray[Any] = find_task(task).conditions(torch.arange(count).unsqueeze(0), known)[0].numpy()
    return told


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


def check_condition(model: ModelFolder, wanted: str) -> None:
    """Raise UserError unless the model's images have the condition of that name ("camera", "position")."""
    found = (model.condition() or {}).get("name")
    if found != wanted:
        has = f"has the condition '{found}'" if found else "was not fine-tuned for a task"
        advice = f": its command is {COMMANDS[found]}" if found in COMMANDS else ""
        raise UserError(f"model '{model.name}' has no {wanted} condition; it {has}{advice}")


def check_default_condition(model: ModelFolder) -> None:
    """Raise UserError if the model must be told something of every image that the images themselves do not say."""
    condition = model.condition()
    if condition is not None and not condition.get("default"):
        name = condition["name"]
        advice = f": use {COMMANDS[name]}" if name in COMMANDS else ""
        raise UserError(f"model '{model.name}' must be told the {name} of every image{advice}")


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
    return Made(images, _record(paths, model, settings, pipe), seconds)


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


def _record(paths: Sequence[Path], model: ModelFolder, settings: Settings, pipe: M2MPipeline) -> dict[str, Any]:
    """Everything needed to repeat a run: inputs and weights with their digests, every setting resolved, versions."""
    from m2m.evaluation.versions import versions

    return {
        "inputs": [{"path": str(path), "sha256": sha256_of_files([path])} for path in paths],
        "model": {"name": model.name, "weights_sha256": model.weight_digest()},
        "settings": _resolved(settings, pipe),
        "versions": versions(str(pipe.device)),
    }


def _resolved(settings: Settings, pipe: M2MPipeline) -> dict[str, Any]:
    """The settings with the model's own choices filled in, so that a later change of its defaults changes nothing."""
    chosen = asdict(settings)
    for name in ("guidance_scale", "guidance_interval", "condition_guidance_scale"):
        if chosen[name] is None:
            chosen[name] = pipe.config[f"default_{name}"]
    if pipe.model.condition is None:
        del chosen["condition_guidance_scale"]
    if settings.scheduler is None:
        chosen["scheduler"] = type(pipe.scheduler).__name__
    return chosen
