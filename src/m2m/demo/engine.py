"""A model that is loaded once for all visitors, and lent to one sampling at a time."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from PIL import Image

from m2m.loading import load_pipeline
from m2m.model_folder import find_model
from m2m.sampling_record import check_condition, check_default_condition, model_entry
from m2m.sampling_request import chosen_window

if TYPE_CHECKING:
    from m2m.pipeline import M2MPipeline


@dataclass(frozen=True, eq=False)
class Engine:
    """A pipeline, and what a record says of its model.

    lock: to be held while sampling; a scheduler counts its steps, so two samplings would spoil each other.
    """

    name: str
    pipe: M2MPipeline
    entry: Mapping[str, str]
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def guidance(self) -> float:
        """s of equation 6, s_I of equation 7, where nobody chooses."""
        return float(self.pipe.config.default_guidance_scale)

    @property
    def condition_guidance(self) -> float:
        """s_C of equation 7, where nobody chooses."""
        return float(self.pipe.config.default_condition_guidance_scale)

    @property
    def window(self) -> tuple[int | None, str]:
        """How many images one is shown, None for all, and which leave first, where nobody chooses."""
        return chosen_window(None, None, self.pipe.config)


def load_engine(name: str, device: str, condition: str | None = None) -> Engine:
    """Load the model of that name; condition: what its images must have, "camera" or "position". Raises UserError."""
    folder = find_model(name)
    if condition is None:
        check_default_condition(folder)
    else:
        check_condition(folder, condition)
    pipe = load_pipeline(folder, device)
    pipe.set_progress_bar_config(disable=True)
    _warm_up(pipe)
    return Engine(name, pipe, model_entry(folder))


def _warm_up(pipe: M2MPipeline) -> None:
    """One step before the first visitor comes: what a library does once, it does here."""
    size = pipe.image_size
    told = None if pipe.model.condition is None else torch.zeros(2, pipe.model.condition.dim)
    pipe([Image.new("RGB", (size, size))], num_images=1, num_inference_steps=1, conditions=told)
