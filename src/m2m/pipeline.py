"""M2MPipeline: the auto-regressive sampler (section 6.1, inference).

Given images go into the context once. Then, for every new image: denoise it with guidance over the context, hand it
out, and append it to the context of the next one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers import schedulers as diffusers_schedulers
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils import BaseOutput, load_image
from einops import rearrange, repeat
from PIL import Image
from torch import Tensor

# diffusers loads a component only from a module that has been imported: a repository cannot name what runs here.
import m2m.model.autoencoder
import m2m.model.encoders  # noqa: F401
from m2m.diffusion.guidance import guide
from m2m.diffusion.noise import image_generator, image_noise
from m2m.model.context import ContextReader
from m2m.model.context_window import ContextWindow
from m2m.model.unet import M2MModel
from m2m.types import UserError

Picture = Image.Image | str
Callback = Callable[["M2MPipeline", int, int, dict[str, Any]], dict[str, Any]]
OUTPUT_TYPES = ("pil", "np", "pt", "latent")


@dataclass
class M2MPipelineOutput(BaseOutput):
    """``images``: one entry per generated image for a single set; a list of those for a list of sets."""

    images: Any


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


class M2MPipeline(DiffusionPipeline):
    """Many-to-many image generation: a few images in, as many further ones as wanted out.

    Args:
        model: M2M-Self or M2M-DINO.
        vae: ``AutoencoderKL`` or anything with its interface.
        scheduler: any diffusers scheduler; the paper samples with DDIM, 50 steps (appendix A).
        vision_encoder: encodes context images for M2M-DINO; None for M2M-Self.
        default_guidance_scale: guidance of a call that names none. 7.5 in the paper; small models prefer less.
        default_guidance_interval: noise levels that it acts at, where a call names none. All of them in the paper.
    """

    model_cpu_offload_seq = "vision_encoder->model->vae"
    _optional_components = ["vision_encoder"]
    _callback_tensor_inputs = ["latents"]

    def __init__(
        self,
        model: M2MModel,
        vae: Any,
        scheduler: Any,
        vision_encoder: Any = None,
        default_guidance_scale: float = 7.5,
        default_guidance_interval: list[float] | tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__()
        if model is not None and model.config.variant == "dino" and vision_encoder is None:
            raise UserError("this is an M2M-DINO model: it needs a vision_encoder, e.g. build_encoder('dinov2-giant')")
        self.register_modules(model=model, vae=vae, scheduler=scheduler, vision_encoder=vision_encoder)
        self.register_to_config(
            default_guidance_scale=default_guidance_scale, default_guidance_interval=list(default_guidance_interval)
        )
        self.vae_scale_factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor, resample="lanczos")

    @property
    def image_size(self) -> int:
        """Side of the square images, in pixels."""
        return self.model.unet.config.sample_size * self.vae_scale_factor

    @torch.no_grad()
    def __call__(
        self,
        images: Sequence[Picture] | Sequence[Sequence[Picture]] = (),
        num_images: int = 4,
        num_inference_steps: int = 50,
        guidance_scale: float | None = None,
        guidance_interval: tuple[float, float] | None = None,
        window: int | None = None,
        window_policy: str = "sliding",
        context_noise: int = 0,
        scheduler: str | None = None,
        eta: float = 0.0,
        seed: int = 0,
        set_ids: Sequence[int | str] | None = None,
        callback_on_step_end: Callback | None = None,
        output_type: str = "pil",
        reuse_context: bool = True,
        return_dict: bool = True,
    ) -> M2MPipelineOutput | tuple[Any]:
        """Generates ``num_images`` further images for each set, one after the other.

        Args:
            images: the given images of one set (PIL images or paths), or a list of such lists: several sets at once,
                which may differ in length. An empty list is legal: the first image is then unconditional.
            num_inference_steps: denoising steps per image.
            guidance_scale: s of equation 6; 1 switches guidance off; None takes the pipeline's default.
            guidance_interval: (lowest, highest) noise level at which guidance acts, in shares of the training
                timesteps; None takes the pipeline's default. Without guidance at the highest levels, where the layout
                of an image is decided, images vary more (Kynkaanniemi et al. 2024), and a step takes one branch.
            window: W, how many context images are seen at most; None: all.
            window_policy: ``sliding`` (the oldest image leaves) or ``anchor`` (given images stay).
            context_noise: noise level (a timestep) at which the context is shown to the model; M2M-Self only, for
                models trained with it. 0: clean.
            scheduler: name of a diffusers scheduler class to sample with instead of the pipeline's own.
            eta: DDIM's eta.
            seed, set_ids: the noise of an image is a function of (seed, id of its set, its index) alone, so a set gets
                the same images at any batch size. ``set_ids`` defaults to 0, 1, 2, ..
            callback_on_step_end: ``f(pipe, step, timestep, {"latents", "image_index"}) -> dict``; a returned
                ``latents`` replaces the current ones. Raise from it to stop.
            output_type: ``pil``, ``np`` (float32 in [0, 1], ``[N, H, W, 3]``), ``pt`` (same, ``[N, 3, H, W]``) or
                ``latent`` (scaled latents, ``[N, C, h, w]``).
            reuse_context: False recomputes every context image at every step, as the paper does. Same images, slower.

        Raises:
            UserError: an argument out of its range, with what would be right.
        """
        sets, single = _as_sets(images)
        self._check(num_images, num_inference_steps, window, context_noise, output_type)
        config = SamplingConfig(
            steps=num_inference_steps,
            guidance_scale=self.config.default_guidance_scale if guidance_scale is None else guidance_scale,
            guidance_interval=self._interval(guidance_interval),
            eta=eta,
            seed=seed,
            set_ids=tuple(range(len(sets)) if set_ids is None else set_ids),
            dtype=self.model.dtype,  # read once: diffusers walks all modules for it
        )
        if len(config.set_ids) != len(sets):
            raise UserError(f"set_ids names {len(config.set_ids)} sets, but {len(sets)} are given: name each one once")
        longest = max(len(given) for given in sets) + num_images - 1
        context = ContextWindow(
            self.model,
            sets=len(sets),
            size=longest if window is None else min(window, longest),
            policy=window_policy,
            timestep=context_noise or None,
            reuse=reuse_context,
        )
        sampler = self.scheduler if scheduler is None else self._scheduler_by_name(scheduler)
        self._append_given(context, sets, context_noise, config)
        sampled: list[Tensor] = []
        for index in range(num_images):
            latents = self._sample_image(context, sampler, index, config, callback_on_step_end)  # [B, C, h, w]
            sampled.append(latents)
            if index + 1 < num_images:
                keys = [(set_id, f"generated/{index}") for set_id in config.set_ids]
                features = self._noised(self._features(latents), context_noise, config.seed, keys)
                context.append(features, range(len(sets)))
        output = self._output(torch.stack(sampled, dim=1), output_type)
        output = output[0] if single else output
        self.maybe_free_model_hooks()
        return M2MPipelineOutput(images=output) if return_dict else (output,)

    def encode(self, images: Sequence[Picture]) -> Tensor:
        """Pictures of any size -> scaled latents ``[M, C, h, w]``: centre square, resized, mean of the posterior."""
        pixels = torch.cat([self._pixels(image) for image in images])  # [M, 3, H, W] in [-1, 1]
        pixels = pixels.to(self._execution_device, self.vae.dtype)
        latents = torch.cat([self.vae.encode(part).latent_dist.mode() for part in pixels.split(8)])
        return latents.float() * self.vae.config.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents ``[M, C, h, w]`` -> pixels ``[M, 3, H, W]``, float32 in [-1, 1]."""
        scaled = (latents / self.vae.config.scaling_factor).to(self.vae.dtype)
        decoded = torch.cat([self.vae.decode(part).sample for part in scaled.split(8)])
        return decoded.float().clamp(-1, 1)

    def _pixels(self, image: Picture) -> Tensor:
        picture = load_image(image)
        size = self.image_size
        return self.image_processor.preprocess(picture, height=size, width=size, resize_mode="crop")

    def _append_given(
        self, context: ContextWindow, sets: list[list[Picture]], noise: int, config: SamplingConfig
    ) -> None:
        """Encodes every given image once and appends it to the context of its set."""
        owners = [b for b, given in enumerate(sets) for _ in given]
        if not owners:
            return
        pictures = [image for given in sets for image in given]
        if self.model.config.variant == "self":
            features = self.encode(pictures)  # [M, C, h, w]
        else:
            features = self._tokens(torch.cat([self._pixels(image) for image in pictures]))  # [M, S, D]
        keys = [(config.set_ids[b], f"given/{m}") for b, given in enumerate(sets) for m in range(len(given))]
        context.append(self._noised(features, noise, config.seed, keys), owners, given=True)

    def _features(self, latents: Tensor) -> Tensor:
        """What a new image adds to the context: the sampled latent itself (Self), or its vision tokens (DINO)."""
        if self.model.config.variant == "self":
            return latents
        return self._tokens(self.decode(latents))

    def _tokens(self, pixels: Tensor) -> Tensor:
        """Pixels ``[M, 3, H, W]`` -> vision tokens ``[M, S, D]``."""
        pixels = pixels.to(self._execution_device)
        return torch.cat([self.vision_encoder.encode(part.unsqueeze(0))[0] for part in pixels.split(8)])

    def _noised(self, features: Tensor, level: int, seed: int, keys: Sequence[tuple[int | str, str]]) -> Tensor:
        """Context noise (README, decisions): the forward process at timestep ``level``, reproducible from the seed.

        ``keys`` names each image, (set id, place in the set), so that its noise does not depend on the batch.
        """
        if level > 0:
            noise = torch.stack([image_noise(seed, f"{s}/{place}", 0, features.shape[1:]) for s, place in keys])
            alpha = self.scheduler.alphas_cumprod[
                level
            ].cpu()  # not add_noise: Euler's looks levels up in its own steps
            features = alpha.sqrt() * features.float().cpu() + (1 - alpha).sqrt() * noise
        return features.to(self._execution_device, self.model.dtype)

    def _sample_image(
        self,
        context: ContextWindow,
        scheduler: Any,
        index: int,
        config: SamplingConfig,
        callback: Callback | None,
    ) -> Tensor:
        """Denoises image ``index`` of every set from its own noise; ``[B, C, h, w]``, float32, scaled."""
        device = self._execution_device
        size = self.model.unet.config.sample_size
        shape = (self.model.unet.config.in_channels, size, size)
        scheduler.set_timesteps(config.steps, device=device)
        noise = torch.stack([image_noise(config.seed, set_id, index, shape) for set_id in config.set_ids])
        latents = noise.to(device) * scheduler.init_noise_sigma  # [B, C, h, w]
        extra = _step_arguments(scheduler, index, config)
        levels = (scheduler.timesteps.double() / scheduler.config.num_train_timesteps).tolist()
        lowest, highest = config.guidance_interval
        for step, timestep in enumerate(self.progress_bar(scheduler.timesteps)):
            scale = config.guidance_scale if lowest <= levels[step] <= highest else 1.0
            model_input = scheduler.scale_model_input(latents, timestep)  # [B, C, h, w]
            predicted = self._predict(context, model_input.to(config.dtype), timestep, scale)  # [B, C, h, w]
            latents = scheduler.step(predicted, timestep, latents, **extra).prev_sample  # [B, C, h, w]
            if callback is not None:
                shown = {"latents": latents, "image_index": index}
                latents = (callback(self, step, int(timestep), shown) or {}).get("latents", latents)
        return latents

    def _predict(self, context: ContextWindow, latents: Tensor, timestep: Tensor, scale: float) -> Tensor:
        """Equation 6 in one U-Net call: the branches of guidance are the columns of the reader."""
        columns = [context.conditional()]
        if scale != 1 and any(context.counts):  # without any context both branches are the same
            columns.append(context.unconditional())
        noisy = repeat(latents, "b c h w -> b t c h w", t=len(columns))  # [B, T, C, h, w]
        timesteps = timestep.expand(noisy.shape[:2])  # [B, T]
        branches = self.model.denoise(noisy, timesteps, ContextReader(columns))  # [B, T, C, h, w]
        return guide(branches[:, 0], branches[:, -1], scale)  # [B, C, h, w]

    def _output(self, latents: Tensor, output_type: str) -> list[Any]:
        """Latents ``[B, N, C, h, w]`` -> per set what ``output_type`` asks for."""
        if output_type == "latent":
            return list(latents)
        pixels = self.decode(rearrange(latents, "b n c h w -> (b n) c h w"))  # [B*N, 3, H, W]
        images = rearrange(pixels / 2 + 0.5, "(b n) c h w -> b n c h w", b=len(latents)).clamp(0, 1)
        if output_type == "pt":
            return list(images)
        arrays = rearrange(images, "b n c h w -> b n h w c").cpu().numpy()  # [B, N, H, W, 3] in [0, 1]
        if output_type == "np":
            return list(arrays)
        return [[Image.fromarray((image * 255).round().astype(np.uint8)) for image in made] for made in arrays]

    def _interval(self, given: Sequence[float] | None) -> tuple[float, float]:
        lowest, highest = self.config.default_guidance_interval if given is None else given
        if not 0 <= lowest <= highest <= 1:
            raise UserError(f"guidance_interval is ({lowest:g}, {highest:g}): use 0 <= lowest <= highest <= 1")
        return lowest, highest

    def _scheduler_by_name(self, name: str) -> Any:
        kind = getattr(diffusers_schedulers, name, None)
        if not (inspect.isclass(kind) and hasattr(kind, "from_config")):
            raise UserError(f"scheduler {name!r} is unknown: use a scheduler class of diffusers, e.g. DDIMScheduler")
        made = kind.from_config(self.scheduler.config)
        if not hasattr(made, "alphas_cumprod"):
            raise UserError(f"scheduler {name!r} has another noise schedule than the model: use e.g. DDIMScheduler")
        return made

    def _check(self, num_images: int, steps: int, window: int | None, noise: int, output_type: str) -> None:
        if num_images < 1:
            raise UserError(f"num_images is {num_images}: ask for 1 or more")
        horizon = self.scheduler.config.num_train_timesteps
        most = horizon - self.scheduler.config.get("steps_offset", 0)
        if not 1 <= steps <= most:
            raise UserError(f"num_inference_steps is {steps}: use 1 to {most}")
        if window is not None and window < 1:
            raise UserError(f"window is {window}: use 1 or more, or leave it out to see all images")
        if not 0 <= noise < horizon:
            raise UserError(f"context_noise is {noise}: use 0 (clean) to {horizon - 1}")
        if noise and self.model.config.variant == "dino":
            raise UserError("context_noise is for M2M-Self: the features of an M2M-DINO context have no timestep")
        if output_type not in OUTPUT_TYPES:
            raise UserError(f"output_type {output_type!r} is unknown: use one of {', '.join(OUTPUT_TYPES)}")


def _as_sets(images: Sequence[Any]) -> tuple[list[list[Picture]], bool]:
    """One set, or several -> list of sets, and whether it was one."""
    if isinstance(images, (str, Image.Image)):
        raise UserError("images is a single picture: give a list of pictures, or a list of such lists")
    nested = [isinstance(item, (list, tuple)) for item in images]
    if nested and all(nested):
        return [list(given) for given in images], False
    if any(nested):
        raise UserError("images mixes pictures and lists of pictures: give one list of pictures, or one list a set")
    return [list(images)], True


def _step_arguments(scheduler: Any, index: int, config: SamplingConfig) -> dict[str, Any]:
    """What ``scheduler.step`` of this class accepts beyond the usual: eta, and a generator for each set."""
    accepted = inspect.signature(scheduler.step).parameters
    arguments: dict[str, Any] = {}
    if "eta" in accepted:
        arguments["eta"] = config.eta
    if "generator" in accepted:
        arguments["generator"] = [image_generator(config.seed, f"{s}/steps", index) for s in config.set_ids]
    return arguments
