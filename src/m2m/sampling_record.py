"""What a call of the pipeline is asked for, what its model must be told of images, and the record that repeats it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from m2m.model_folder import ModelFolder
from m2m.types import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
    window: int | str | None
    scheduler: str | None
    seed: int
    window_policy: str | None = None
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


def record(
    inputs: Sequence[Mapping[str, str]], model: Mapping[str, str], settings: Settings, pipe: M2MPipeline
) -> dict[str, Any]:
    """Everything needed to repeat a run: inputs and weights with their digests, every setting resolved, versions.

    inputs: "path" and "sha256" of each given image; model: `model_entry` of what `pipe` was loaded from.
    """
    from m2m.evaluation.versions import versions

    return {
        "inputs": [dict(each) for each in inputs],
        "model": dict(model),
        "settings": resolved(settings, pipe),
        "versions": versions(str(pipe.device)),
    }


def model_entry(model: ModelFolder) -> dict[str, str]:
    """Which model it was: its name, and one digest of all its weights (which reads them all)."""
    return {"name": model.name, "weights_sha256": model.weight_digest()}


def resolved(settings: Settings, pipe: M2MPipeline) -> dict[str, Any]:
    """The settings with the model's own choices filled in, so that a later change of its defaults changes nothing."""
    from m2m.sampling_request import asked_window, chosen_window

    chosen = asdict(settings)
    size, chosen["window_policy"] = chosen_window(settings.window, settings.window_policy, pipe.config)
    chosen["window"] = asked_window(size)
    for name in ("guidance_scale", "guidance_interval", "condition_guidance_scale"):
        if chosen[name] is None:
            chosen[name] = pipe.config[f"default_{name}"]
    if pipe.model.condition is None:
        del chosen["condition_guidance_scale"]
    if settings.scheduler is None:
        chosen["scheduler"] = type(pipe.scheduler).__name__
    return chosen
