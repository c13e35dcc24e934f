"""The settings of a sampling, folded away, and what they become: `Settings`, every number checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from m2m.demo.engine import Engine
from m2m.sampling_record import Settings
from m2m.sampling_request import ALL
from m2m.types import UserError

OWN = "the model's own"
# Those whose noise has the scale of the model's training, which the previews read.
SCHEDULERS = (OWN, "DDIMScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler")
POLICIES = ("sliding", "anchor")
DEFAULT_STEPS = 25
MOST_STEPS = 100
MOST_WINDOW = 20
GUIDANCE = (0.0, 20.0)
MOST_SEED = 2**31 - 1


@dataclass(frozen=True)
class Choices:
    """What the page's controls say, in the order of `settings_panel`'s components, as `Settings` takes it."""

    denoising: float
    guidance: float
    condition: float | None
    window: float
    policy: str
    seed: float
    scheduler: str

    def settings(self, count: int) -> Settings:
        """The settings of a call that makes `count` images. Raises UserError: a page can be made to send anything."""
        window = whole("window", self.window, 0, MOST_WINDOW)
        _known("window policy", self.policy, (*POLICIES, "nearest"))
        _known("scheduler", self.scheduler, SCHEDULERS)
        return Settings(
            num_images=count,
            num_inference_steps=whole("denoising steps", self.denoising, 1, MOST_STEPS),
            guidance_scale=number("guidance", self.guidance, *GUIDANCE),
            guidance_interval=None,
            window=window or ALL,
            window_policy=self.policy,
            scheduler=None if self.scheduler == OWN else self.scheduler,
            seed=whole("seed", self.seed, 0, MOST_SEED),
            condition_guidance_scale=None if self.condition is None else number("guidance", self.condition, *GUIDANCE),
        )


def settings_panel(tab: str, engine: Engine, condition: str = "") -> list[Any]:
    """The accordion; its components in the order of `Choices`. condition: what a model with a task is told of."""
    size, leaving = engine.window
    with gr.Accordion("Settings", open=False, elem_id=f"{tab}-settings"):
        denoising = gr.Slider(1, MOST_STEPS, DEFAULT_STEPS, step=1, label="Steps", elem_id=f"{tab}-denoising")
        guidance = gr.Slider(*GUIDANCE, engine.guidance, step=0.1, label="Guidance", elem_id=f"{tab}-guidance")
        followed = gr.Slider(
            *GUIDANCE,
            engine.condition_guidance,
            step=0.1,
            label=f"Guidance towards the {condition}",
            visible=bool(condition),
            elem_id=f"{tab}-condition",
        )
        window = gr.Slider(
            0,
            MOST_WINDOW,
            min(size or 0, MOST_WINDOW),
            step=1,
            label="Window",
            info="Images that one is shown; 0: all",
            elem_id=f"{tab}-window",
        )
        policy = gr.Radio(
            list(dict.fromkeys([*POLICIES, leaving])),
            value=leaving,
            label="In a full window",
            info="Drop the oldest, or keep the given ones",
            visible=not condition,
            elem_id=f"{tab}-policy",
        )
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=MOST_SEED, elem_id=f"{tab}-seed")
        scheduler = gr.Dropdown(list(SCHEDULERS), value=OWN, label="Sampler", elem_id=f"{tab}-scheduler")
    return [denoising, guidance, followed, window, policy, seed, scheduler]


def whole(name: str, value: Any, lowest: int, highest: int) -> int:
    """The value, a whole number in the range. Raises UserError."""
    if not isinstance(value, int | float) or value != value or not lowest <= value <= highest or value != int(value):
        raise UserError(f"{name} is {value!r:.40}: use a whole number from {lowest} to {highest}")
    return int(value)


def number(name: str, value: Any, lowest: float, highest: float) -> float:
    """The value, a number in the range. Raises UserError."""
    if not isinstance(value, int | float) or not lowest <= value <= highest:
        raise UserError(f"{name} is {value!r:.40}: use a number from {lowest:g} to {highest:g}")
    return float(value)


def _known(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"{name} is {value!r:.40}: use one of {', '.join(known)}")
