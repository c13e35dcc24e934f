"""M2M nodes for ComfyUI: load a many-to-many image model, and make further images that go with the given ones.

Copy or link this folder into ComfyUI/custom_nodes, and install m2m-diffusion into ComfyUI's Python (README.md). This
file imports without ComfyUI, and without m2m-diffusion until a node runs.

ComfyUI's IMAGE is float32 in [0, 1], [B, H, W, 3].
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from PIL import Image

CATEGORY = "many-to-many"
LARGEST_SEED = 2**63 - 1
OWN = "model"  # the choice that leaves a setting to the model
MISSING = "these nodes need m2m-diffusion: in ComfyUI's own Python, pip install m2m-diffusion"


class M2MLoadModel:
    """A model by its name: a shipped one, a folder, or a repository of the Hugging Face Hub."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("M2M_MODEL",)
    RETURN_NAMES = ("model",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """What ComfyUI draws: a name, a precision."""
        return {
            "required": {
                "name": ("STRING", {"default": "tiny-self", "tooltip": "tiny-self, tiny-dino, a folder or a hub id"}),
                "precision": (["float32", "bfloat16", "float16"],),
            }
        }

    def load(self, name: str, precision: str) -> tuple[Any]:
        """Raises UserError, in one line, where there is no such model."""
        pipe = _ours("m2m.loading").load_pipeline(name, _device())
        pipe.to(getattr(torch, precision)).set_progress_bar_config(disable=True)
        return (pipe,)


class M2MGenerate:
    """Further images from up to three batches of given ones, in the order of the inputs."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("images",)
    FUNCTION = "generate"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """-1, and "model": the model's own. Window 0: an image sees all images before it."""
        return {
            "required": {
                "model": ("M2M_MODEL",),
                "images": ("IMAGE", {"tooltip": "one given image or a batch of them"}),
                "num_images": ("INT", {"default": 4, "min": 1, "max": 64}),
                "steps": ("INT", {"default": 50, "min": 1, "max": 1000}),
                "guidance": ("FLOAT", {"default": -1.0, "min": -1.0, "max": 30.0, "step": 0.1}),
                "window": ("INT", {"default": -1, "min": -1, "max": 64}),
                "window_policy": ([OWN, "sliding", "anchor"],),
                "seed": ("INT", {"default": 0, "min": 0, "max": LARGEST_SEED}),
            },
            "optional": {"images_2": ("IMAGE",), "images_3": ("IMAGE",)},
        }

    def generate(  # noqa: PLR0913  # ComfyUI passes every input by its name
        self,
        model: Any,
        images: torch.Tensor,
        num_images: int,
        steps: int,
        guidance: float,
        window: int,
        window_policy: str,
        seed: int,
        images_2: torch.Tensor | None = None,
        images_3: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor]:
        """Given batches [B, H, W, 3], of any sizes -> [num_images, side, side, 3] at the model's own size.

        Raises ComfyUI's interruption within a step of "Cancel", and UserError for what the model cannot do.
        """
        batches = [batch for batch in (images, images_2, images_3) if batch is not None]
        made = model(
            [picture for batch in batches for picture in to_pictures(batch)],
            num_images=num_images,
            num_inference_steps=steps,
            guidance_scale=None if guidance < 0 else guidance,
            window=None if window < 0 else window or "all",
            window_policy=None if window_policy == OWN else window_policy,
            seed=seed,
            output_type="np",
            callback_on_step_end=_reporter(num_images * steps),
        ).images
        return (torch.as_tensor(made, dtype=torch.float32),)


def to_pictures(batch: torch.Tensor) -> list[Image.Image]:
    """IMAGE [B, H, W, C], 1, 3 or 4 channels -> RGB pictures; an alpha channel is laid on white."""
    if batch.ndim != 4 or batch.shape[-1] not in (1, 3, 4):
        raise ValueError(f"an IMAGE must be [B, H, W, 1, 3 or 4], not {list(batch.shape)}")
    values = batch.detach().float().cpu().clamp(0, 1)
    if values.shape[-1] == 4:
        alpha = values[..., 3:]
        values = values[..., :3] * alpha + (1 - alpha)
    arrays = (values.expand(*values.shape[:3], 3) * 255).round().to(torch.uint8).numpy()
    return [Image.fromarray(array) for array in arrays]


def _reporter(total: int) -> Callable[..., dict[str, Any]]:
    """A callback of the pipeline: moves ComfyUI's bar, and ends the work when ComfyUI says so."""
    utils, management = _comfy("comfy.utils"), _comfy("comfy.model_management")
    bar = utils.ProgressBar(total) if utils else None

    def report(pipe: Any, step: int, timestep: int, shown: dict[str, Any]) -> dict[str, Any]:
        if management:
            management.throw_exception_if_processing_interrupted()
        if bar:
            bar.update(1)
        return {}

    return report


def _device() -> str:
    """Where ComfyUI computes; without it the first GPU, or the CPU."""
    management = _comfy("comfy.model_management")
    return str(management.get_torch_device()) if management else "auto"


def _comfy(name: str) -> Any:
    """A module of ComfyUI, or None where there is no ComfyUI."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("comfy"):
            raise
        return None


def _ours(name: str) -> Any:
    """A module of m2m-diffusion. Raises ImportError, in one line, where it is not installed."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("m2m"):
            raise
        raise ImportError(MISSING) from None


NODE_CLASS_MAPPINGS = {"M2MLoadModel": M2MLoadModel, "M2MGenerate": M2MGenerate}
NODE_DISPLAY_NAME_MAPPINGS = {"M2MLoadModel": "M2M Load Model", "M2MGenerate": "M2M Generate"}
