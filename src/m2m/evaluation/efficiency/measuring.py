"""What an image costs (section 8.6, figure 9): seconds, arithmetic and memory, ours beside the same U-Net with text.

A cell is a number of given images and a number of images made from them. Within a cell the contenders take turns, so
that a ratio compares neighbours in time. Counted is the whole call: pictures are encoded and decoded, and M2M-DINO's
vision encoder runs. All of them make their images one after the other, as ours must, `batch` sets in a call.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from m2m.evaluation.efficiency.contenders import BASE, DINO, SELF, tensors_of
from m2m.evaluation.efficiency.operations import Law
from m2m.evaluation.efficiency.pairing import Ratio, Times, ratio, take_turns
from m2m.evaluation.efficiency.peak_memory import working_bytes
from m2m.evaluation.work import Stopped
from m2m.loading import settings_of
from m2m.model.context_window import ContextWindow
from m2m.model.sizes import SD21_TEXT
from m2m.pipeline import M2MPipeline

RECOMPUTING = "recompute"
# In the order of their turns: those that are compared most closely are neighbours.
LABELS = {
    BASE: "same U-Net, text",
    SELF: "M2M-Self, cached",
    DINO: "M2M-DINO",
    RECOMPUTING: "M2M-Self, recomputing",  # with zeroed images in its unconditional branch: the paper's way whole
}

CLOCKS = ("wall", "processor")

Sampler = Callable[[int, int, int], Tensor]  # given images, images to make, steps of each -> pixels
OnStep = Callable[..., dict[str, Any]]  # diffusers' callback_on_step_end
Progress = Callable[[int, int], None]  # calls done, in all


@dataclass(frozen=True)
class EfficiencyConfig:
    """How a cell is measured: DDIM steps and guidance scale of each image, sets of a call, counted rounds (0: none)."""

    steps: int = 50
    guidance: float = 7.5
    batch: int = 1
    rounds: int = 3
    seed: int = 0


@dataclass(frozen=True)
class Measured:
    """One contender in one cell, a whole call: seconds of each round by both clocks, operations, memory at its peak.

    working_bytes: above the weights; None where it cannot be known, or nothing was measured.
    """

    wall: tuple[float, ...]
    processor: tuple[float, ...]
    operations: int
    working_bytes: int | None = None


@dataclass(frozen=True)
class Cell:
    """All contenders with `given` given images and `images` generated ones, in `batch` sets at once."""

    given: int
    images: int
    batch: int
    measured: Mapping[str, Measured]

    def seconds(self, name: str) -> float | None:
        """Wall time of an image, median of the rounds; None where nothing was timed."""
        wall = self.measured[name].wall
        return statistics.median(wall) / (self.images * self.batch) if wall else None

    def ratio(self, name: str, to: str = BASE, clock: str = "wall") -> Ratio | None:
        """How many times as long as `to`, round by round; clock: "wall" or "processor"."""
        own, other = (getattr(self.measured[one], clock) for one in (name, to))
        return ratio(list(own), list(other)) if own else None

    def counted_ratio(self, name: str, to: str = BASE) -> float:
        """How many times as many operations as `to`."""
        return self.measured[name].operations / self.measured[to].operations

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Cell:
        """The cell that `to_json` wrote."""
        clocks = {name: {clock: tuple(own[clock]) for clock in CLOCKS} for name, own in plain["measured"].items()}
        measured = {name: Measured(**{**own, **clocks[name]}) for name, own in plain["measured"].items()}
        return cls(**{**plain, "measured": measured})


@dataclass(frozen=True)
class Facts:
    """What does not change from cell to cell: parameters and bytes of all networks of a contender, and the keys and
    values of one context image (None: it has no context)."""

    parameters: int
    weight_bytes: int
    cache_bytes_per_image: int | None


def contenders(
    pipelines: Mapping[str, Any],
    config: EfficiencyConfig,
    names: Sequence[str],
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Sampler]:
    """What is compared, by name, in the order of their turns; "base" comes first whether it is named or not.

    pipelines: of `contenders.random_pipelines` or `with_base`; "self" serves both of its ways. stop: asked after every
    step; where it says so, the samplers raise Stopped.
    """

    def check(*_: Any) -> dict[str, Any]:
        if stop():
            raise Stopped
        return {}

    samplers: dict[str, Sampler] = {}
    for name in LABELS:
        if name == BASE:
            samplers[name] = text_sampler(pipelines[BASE], config, check)
        elif name in names:
            pipe = pipelines[pipeline_of(name)]
            pipe = zeroing(pipe) if name == RECOMPUTING else pipe
            samplers[name] = set_sampler(pipe, config, check, reuse_context=name != RECOMPUTING)
    return samplers


def zeroing(pipe: M2MPipeline) -> M2MPipeline:
    """The same pipeline in the paper's words (section 6.1): its unconditional branch attends to zeroed images, which
    take a pass of their own. All parts are shared."""
    model = copy.copy(pipe.model)
    model.register_to_config(null_context="zeros")
    parts = {**pipe.components, "model": model}
    made = M2MPipeline(**parts, **settings_of(pipe))
    made.set_progress_bar_config(disable=True)
    return made


def pipeline_of(name: str) -> str:
    """The pipeline that a contender runs on: both ways of M2M-Self share one."""
    return SELF if name == RECOMPUTING else name


def text_sampler(pipe: Any, config: EfficiencyConfig, on_step: OnStep) -> Sampler:
    """Text to image: a call for each image, for diffusers makes those of one call side by side."""
    generator = torch.Generator().manual_seed(config.seed)
    width = pipe.unet.config.cross_attention_dim
    texts = torch.randn(2, config.batch, SD21_TEXT[0], width, generator=generator)  # [text or none, B, 77, width]

    def sample(given: int, images: int, steps: int) -> Tensor:
        made = [
            pipe(
                prompt_embeds=texts[0].to(pipe.device, pipe.unet.dtype),
                negative_prompt_embeds=texts[1].to(pipe.device, pipe.unet.dtype),
                num_inference_steps=steps,
                guidance_scale=config.guidance,
                generator=torch.Generator().manual_seed(config.seed + index),
                callback_on_step_end=on_step,
                output_type="pt",
            ).images
            for index in range(images)
        ]
        return torch.stack(made, dim=1)  # [B, N, 3, H, W]

    return sample


def set_sampler(pipe: M2MPipeline, config: EfficiencyConfig, on_step: OnStep, reuse_context: bool) -> Sampler:
    """Many to many; guided in every step, as the base is, and all images seen, whatever the pipeline's own choice."""

    def sample(given: int, images: int, steps: int) -> Tensor:
        pictures = noise_pictures(given, pipe.image_size, config.seed)
        result: Any = pipe(
            [pictures] * config.batch,
            num_images=images,
            num_inference_steps=steps,
            guidance_scale=config.guidance,
            guidance_interval=(0.0, 1.0),
            window="all",
            seed=config.seed,
            callback_on_step_end=on_step,
            output_type="pt",
            reuse_context=reuse_context,
        )
        return torch.stack(result.images)  # [B, N, 3, H, W]

    return sample


def noise_pictures(count: int, size: int, seed: int) -> list[Image.Image]:
    """Given images: what they show does not change what they cost."""
    values = np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    return [Image.fromarray(value) for value in values]


def facts(pipe: Any) -> Facts:
    """Parameters, bytes and cache of a pipeline; one without arithmetic will do."""
    return Facts(
        parameters=sum(own.numel() for own in tensors_of(pipe).values() if isinstance(own, torch.nn.Parameter)),
        weight_bytes=weight_bytes(pipe),
        cache_bytes_per_image=cache_bytes(pipe) if isinstance(pipe, M2MPipeline) else None,
    )


def weight_bytes(pipe: Any) -> int:
    """Bytes of all networks of a pipeline."""
    return sum(own.numel() * own.element_size() for own in tensors_of(pipe).values())


@torch.no_grad()
def cache_bytes(pipe: M2MPipeline) -> int:
    """Keys and values of one context image, in the model's type."""
    unet = pipe.model.unet.config
    if pipe.model.config.variant == "self":
        shape: tuple[int, ...] = (unet.in_channels, unet.sample_size, unet.sample_size)
    else:
        shape = (pipe.vision_encoder.tokens, pipe.vision_encoder.dim)
    context = ContextWindow(pipe.model, sets=1, size=1)
    context.append(torch.zeros(1, *shape, dtype=pipe.model.dtype, device=pipe.model.device), [0], given=True)
    return context.bytes_per_image


def measure(
    samplers: Mapping[str, Sampler],
    laws: Mapping[str, Law],
    config: EfficiencyConfig,
    cells: Sequence[tuple[int, int]],
    device: str,
    progress: Progress = lambda done, total: None,
) -> Iterator[Cell]:
    """One cell after the other, each (given, images) of `cells`; what is measured is measured in turns.

    laws: operations of each contender. Before its first cell each contender runs once, so that what its libraries keep
    does not count; in each cell a call of one step comes first, which also tells the memory.
    """
    total = len(samplers) * (len(cells) * (config.rounds + 1) + 1) if config.rounds else 0
    done = 0

    def counted(call: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            nonlocal done
            call()
            done += 1
            progress(done, total)

        return run

    if config.rounds:
        for sampler in samplers.values():
            counted(lambda sampler=sampler: sampler(1, 1, 1))()  # type: ignore[misc]
    for given, images in cells:
        yield _cell(samplers, laws, config, (given, images), device, counted)


def _cell(
    samplers: Mapping[str, Sampler],
    laws: Mapping[str, Law],
    config: EfficiencyConfig,
    cell: tuple[int, int],
    device: str,
    counted: Callable[[Callable[[], object]], Callable[[], object]],
) -> Cell:
    memory: dict[str, int | None] = dict.fromkeys(samplers)
    times = {name: Times() for name in samplers}
    if config.rounds:
        warm_up = {name: counted(_call(sampler, *cell, 1)) for name, sampler in samplers.items()}
        memory = {name: working_bytes(call, device) for name, call in warm_up.items()}
        calls = {name: counted(_call(sampler, *cell, config.steps)) for name, sampler in samplers.items()}
        wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
        times = take_turns(calls, config.rounds, warm_up=0, finish=wait)
    measured = {
        name: Measured(tuple(own.wall), tuple(own.processor), laws[name].operations(*cell, config.steps), memory[name])
        for name, own in times.items()
    }
    return Cell(*cell, config.batch, measured)


def _call(sampler: Sampler, given: int, images: int, steps: int) -> Callable[[], object]:
    return lambda: sampler(given, images, steps)
