"""What a call of the pipeline may ask for: its arguments checked, each with what would be right."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import schedulers as diffusers_schedulers
from PIL import Image
from torch import Tensor

from m2m.diffusion.noise import image_generator
from m2m.model.context_window import SLIDING, checked_policy
from m2m.picture_files import Picture
from m2m.types import UserError

PICTURES = (str, os.PathLike, Image.Image)
OUTPUT_TYPES = ("pil", "np", "pt", "latent")
ALL = "all"  # the window that leaves out no image


@dataclass(frozen=True)
class SamplingConfig:
    """How one image is sampled; see ``M2MPipeline.__call__``."""

    steps: int
    guidance_scale: float
    guidance_interval: tuple[float, float]
    eta: float
    seed: int
    set_ids: tuple[int | str, ...]
    dtype: torch.dtype
    condition_guidance_scale: float = 1.0


@dataclass(frozen=True)
class Wanted:
    """Arguments of a call as they were given; see ``M2MPipeline.__call__``."""

    num_images: int
    steps: int
    context_noise: int
    output_type: str


def check_wanted(wanted: Wanted, scheduler: Any, variant: str) -> None:
    """Raise UserError for a number out of range, an unknown output type, or what this variant cannot do."""
    if wanted.num_images < 1:
        raise UserError(f"num_images is {wanted.num_images}: ask for 1 or more")
    horizon = scheduler.config.num_train_timesteps
    most = horizon - scheduler.config.get("steps_offset", 0)
    if not 1 <= wanted.steps <= most:
        raise UserError(f"num_inference_steps is {wanted.steps}: use 1 to {most}")
    if not 0 <= wanted.context_noise < horizon:
        raise UserError(f"context_noise is {wanted.context_noise}: use 0 (clean) to {horizon - 1}")
    if wanted.context_noise and variant == "dino":
        raise UserError("context_noise is for M2M-Self: the features of an M2M-DINO context have no timestep")
    if wanted.output_type not in OUTPUT_TYPES:
        raise UserError(f"output_type {wanted.output_type!r} is unknown: use one of {', '.join(OUTPUT_TYPES)}")


def chosen_window(window: int | str | None, policy: str | None, own: Mapping[str, Any]) -> tuple[int | None, str]:
    """How many context images a call shows an image at most (None: all), and by which policy.

    window, policy: as in ``M2MPipeline.__call__``; own: the pipeline's config, for what is None. Raises UserError.
    """
    size = own["default_window"] if window is None else window
    leaving = checked_policy(own["default_window_policy"] if policy is None else policy)
    if size is None or size == ALL:
        return None, SLIDING  # none leaves, so all policies are this one
    if isinstance(size, str) or size < 1:
        raise UserError(f"window is {size}: use 1 or more, or '{ALL}' to see all images")
    return size, leaving


def asked_window(size: int | None) -> int | str:
    """What a call is given as ``window`` for a size of ``chosen_window``: None would ask for the pipeline's own."""
    return ALL if size is None else size


def checked_interval(interval: Sequence[float]) -> tuple[float, float]:
    """(lowest, highest) noise level of guidance. Raises UserError unless 0 <= lowest <= highest <= 1."""
    lowest, highest = interval
    if not 0 <= lowest <= highest <= 1:
        raise UserError(f"guidance_interval is ({lowest:g}, {highest:g}): use 0 <= lowest <= highest <= 1")
    return lowest, highest


def scheduler_by_name(name: str, own: Any) -> Any:
    """The diffusers scheduler of that class, with the config of the pipeline's own. Raises UserError."""
    kind = getattr(diffusers_schedulers, name, None)
    if not (inspect.isclass(kind) and hasattr(kind, "from_config")):
        raise UserError(f"scheduler {name!r} is unknown: use a scheduler class of diffusers, e.g. DDIMScheduler")
    made = kind.from_config(own.config)
    if not hasattr(made, "alphas_cumprod"):
        raise UserError(f"scheduler {name!r} has another noise schedule than the model: use e.g. DDIMScheduler")
    return made


def as_sets(images: Iterable[Any]) -> tuple[list[list[Picture]], bool]:
    """One set, or several -> list of sets, and whether it was one. Raises UserError for anything else."""
    if isinstance(images, PICTURES):
        raise UserError("images is a single picture: give a list of pictures, or a list of such lists")
    if not isinstance(images, Iterable):
        raise UserError(f"images is of type {type(images).__name__}: give a list of pictures")
    items = list(images)
    nested = [isinstance(item, (list, tuple)) for item in items]
    if nested and all(nested):
        return [_as_set(item, f"images[{b}]") for b, item in enumerate(items)], False
    if any(nested):
        raise UserError("images mixes pictures and lists of pictures: give one list of pictures, or one list a set")
    return [_as_set(items, "images")], True


def _as_set(items: Iterable[Any], name: str) -> list[Picture]:
    given = list(items)
    for m, item in enumerate(given):
        if not isinstance(item, PICTURES):
            raise UserError(f"{name}[{m}] is of type {type(item).__name__}: give paths, URLs or PIL images")
    return given


def condition_of_image(told: list[Tensor], sets: list[list[Picture]], index: int) -> Tensor | None:
    """Of new image ``index`` of every set, ``[B, dim]``; told: of all images of every set, empty without a task."""
    if not told:
        return None
    return torch.stack([own[len(given) + index] for own, given in zip(told, sets, strict=True)])


def checked_latents(latents: Any, before: Tensor) -> Tensor:
    """What a callback gives back in the place of ``before``. Raises UserError unless it has its shape."""
    if not isinstance(latents, Tensor) or latents.shape != before.shape:
        found = list(latents.shape) if isinstance(latents, Tensor) else type(latents).__name__
        raise UserError(f"callback_on_step_end: latents is {found}; give a tensor of shape {list(before.shape)}")
    return latents.to(before)


def step_arguments(scheduler: Any, index: int, config: SamplingConfig) -> dict[str, Any]:
    """What ``scheduler.step`` of this class accepts beyond the usual: eta, and a generator for each set."""
    accepted = inspect.signature(scheduler.step).parameters
    arguments: dict[str, Any] = {}
    if "eta" in accepted:
        arguments["eta"] = config.eta
    if "generator" in accepted:
        arguments["generator"] = [image_generator(config.seed, f"{s}/steps", index) for s in config.set_ids]
    return arguments
