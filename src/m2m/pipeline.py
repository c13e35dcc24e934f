"""M2MPipeline: the auto-regressive sampler (section 6.1, inference).

Given images go into the context once. Then, for every new image: denoise it with guidance over the context, hand it
out, and append it to the context of the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers.image_processor import VaeImageProcessor
from einops import rearrange
from torch import Tensor

from m2m.diffusion.noise import image_noise
from m2m.model.autoencoder import TinyAutoencoder
from m2m.model.conditions import conditions_of_sets
from m2m.model.context_window import ANCHOR, SLIDING, ContextWindow
from m2m.model.encoders import DinoV2Encoder, EfficientNetLite0Encoder
from m2m.model.unet import M2MModel
from m2m.picture_files import Picture, opened_picture
from m2m.prediction import predict
from m2m.pretrained import NamedPipeline
from m2m.remote_code import register
from m2m.sampling_output import M2MPipelineOutput, as_output
from m2m.sampling_request import (
    SamplingConfig,
    Wanted,
    as_sets,
    check_wanted,
    checked_interval,
    checked_latents,
    chosen_window,
    condition_of_image,
    scheduler_by_name,
    step_arguments,
)
from m2m.types import UserError

__all__ = ["M2MPipeline", "M2MPipelineOutput"]

Callback = Callable[["M2MPipeline", int, int, dict[str, Any]], dict[str, Any]]


class M2MPipeline(NamedPipeline):
    """Many-to-many image generation: a few images in, as many further ones as wanted out.

    Example:
        >>> from m2m import M2MPipeline
        >>> pipe = M2MPipeline.from_pretrained("tiny-self")
        >>> given = ["examples/sets/foxes-on-plain-night-blue/0.png", "examples/sets/foxes-on-plain-night-blue/1.png"]
        >>> images = pipe(given, num_images=2, num_inference_steps=5, seed=0).images
        >>> [image.size for image in images]
        [(64, 64), (64, 64)]

    Args:
        model: M2M-Self or M2M-DINO.
        vae: ``AutoencoderKL`` or anything with its interface.
        scheduler: any diffusers scheduler; the paper samples with DDIM, 50 steps (appendix A).
        vision_encoder: encodes context images for M2M-DINO; None for M2M-Self.
        default_guidance_scale: guidance of a call that names none. 7.5 in the paper; small models prefer less.
        default_guidance_interval: noise levels that it acts at, where a call names none. All of them in the paper.
        default_condition_guidance_scale: s_C of equation 7, of a fine-tuned task, where a call names none.
        default_window, default_window_policy: how many context images are seen, where a call does not say; None: all.
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
        default_condition_guidance_scale: float = 1.0,
        default_window: int | None = None,
        default_window_policy: str = "sliding",
    ) -> None:
        super().__init__()
        if model is not None and model.config.variant == "dino" and vision_encoder is None:
            raise UserError("this is an M2M-DINO model: it needs a vision_encoder, e.g. build_encoder('dinov2-giant')")
        self.register_modules(model=model, vae=vae, scheduler=scheduler, vision_encoder=vision_encoder)
        self.register_to_config(
            default_guidance_scale=default_guidance_scale,
            default_guidance_interval=list(default_guidance_interval),
            default_condition_guidance_scale=default_condition_guidance_scale,
            default_window=default_window,
            default_window_policy=default_window_policy,
        )
        self.vae_scale_factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor, resample="lanczos")

    @property
    def image_size(self) -> int:
        """Side of the square images, in pixels."""
        return self.model.unet.config.sample_size * self.vae_scale_factor

    def __call__(
        self,
        images: Sequence[Picture | Sequence[Picture]] = (),
        num_images: int = 4,
        num_inference_steps: int = 50,
        guidance_scale: float | None = None,
        guidance_interval: tuple[float, float] | None = None,
        window: int | str | None = None,
        window_policy: str | None = None,
        context_noise: int = 0,
        conditions: Any = None,
        condition_guidance_scale: float | None = None,
        scheduler: str | None = None,
        eta: float = 0.0,
        seed: int = 0,
        set_ids: Sequence[int | str] | None = None,
        callback_on_step_end: Callback | None = None,
        output_type: str = "pil",
        reuse_context: bool = True,
        return_dict: bool = True,
    ) -> M2MPipelineOutput:
        """Generates ``num_images`` further images for each set, one after the other.

        Args:
            images: the given images of one set (paths, URLs or PIL images, of any size and mode), or a list of such
                lists: several sets at once, which may differ in length. An empty list is legal: the first image is
                then unconditional. Of each picture the middle square is used, at ``image_size``.
            num_inference_steps: denoising steps per image.
            guidance_scale: s of equation 6, s_I of equation 7; 1 switches guidance off; None takes the pipeline's
                default.
            guidance_interval: (lowest, highest) noise level at which guidance acts, in shares of the training
                timesteps; None takes the pipeline's default. Without guidance at the highest levels, where the layout
                of an image is decided, images vary more (Kynkaanniemi et al. 2024), and a step takes one branch.
            window: W, how many context images are seen at most, or ``"all"``; None takes the pipeline's default.
            window_policy: ``sliding`` (the oldest image leaves), ``anchor`` (all given images stay, however many; a
                window of 1 shows them alone) or ``nearest`` (an image sees those whose conditions are nearest to its
                own; for a model with a task); None takes the pipeline's default.
            context_noise: noise level (a timestep) at which the context is shown to the model; M2M-Self only, for
                models trained with it. 0: clean.
            conditions: of a model that was fine-tuned for a task (section 6.2): numbers ``[G + num_images, dim]``,
                first those of the G given images, such as the cameras of ``m2m.tasks.cameras``; for several sets a list
                of such. None: the model's own default, the images' numbers for a model of procedures.
            condition_guidance_scale: s_C of equation 7; None takes the pipeline's default.
            scheduler: name of a diffusers scheduler class to sample with instead of the pipeline's own.
            eta: DDIM's eta.
            seed, set_ids: the noise of an image is a function of (seed, id of its set, its index) alone, so a set gets
                the same images at any batch size. ``set_ids`` defaults to 0, 1, 2, ..
            callback_on_step_end: ``f(pipe, step, timestep, {"latents", "image_index"}) -> dict``; a returned
                ``latents`` replaces the current ones. Raise from it to stop.
            output_type: ``pil``, ``np`` (float32 in [0, 1], ``[N, H, W, 3]``), ``pt`` (same, ``[N, 3, H, W]``) or
                ``latent`` (scaled latents, ``[N, C, h, w]``).
            reuse_context: False recomputes every context image at every step, as the paper does. Same images, slower.
            return_dict: False gives a tuple with the images alone, as in diffusers.

        Raises:
            UserError: an argument out of its range, with what would be right, or a picture that cannot be read.
        """
        sets, single = as_sets(images)
        wanted = Wanted(num_images, num_inference_steps, context_noise, output_type)
        check_wanted(wanted, self.scheduler, self.model.config.variant)
        size, policy = chosen_window(window, window_policy, self.config)
        told = self._told(conditions, [len(given) + num_images for given in sets], single)
        config = SamplingConfig(
            steps=num_inference_steps,
            guidance_scale=self.config.default_guidance_scale if guidance_scale is None else guidance_scale,
            guidance_interval=checked_interval(guidance_interval or self.config.default_guidance_interval),
            eta=eta,
            seed=seed,
            set_ids=tuple(range(len(sets)) if set_ids is None else set_ids),
            dtype=self.model.dtype,  # read once: diffusers walks all modules for it
            condition_guidance_scale=self._condition_scale(condition_guidance_scale),
        )
        if len(config.set_ids) != len(sets):
            raise UserError(f"set_ids names {len(config.set_ids)} sets, but {len(sets)} are given: name each one once")
        most_given = max(len(given) for given in sets)
        longest = most_given + num_images - 1
        context = ContextWindow(
            self.model,
            sets=len(sets),
            size=longest if size is None else min(size, longest),
            policy=policy,
            timestep=context_noise or None,
            reuse=reuse_context,
            capacity=most_given if policy == ANCHOR else longest,
        )
        sampler = self.scheduler if scheduler is None else scheduler_by_name(scheduler, self.scheduler)
        seen = size if policy == SLIDING and size is not None else longest
        try:
            with torch.no_grad():  # here, not around the call: torch's decorator would hide its types
                self._append_given(context, sets, told, seen, context_noise, config)
                made = self._continue(context, sampler, sets, told, wanted, config, callback_on_step_end)
        finally:
            self.maybe_free_model_hooks()  # also after an abort: nothing stays on the accelerator
        output: Any = made[0] if single else made
        result: Any = M2MPipelineOutput(images=output) if return_dict else (output,)
        return result

    def _continue(
        self,
        context: ContextWindow,
        sampler: Any,
        sets: list[list[Picture]],
        told: list[Tensor],
        wanted: Wanted,
        config: SamplingConfig,
        callback: Callback | None,
    ) -> list[Any]:
        """Makes one image of every set after the other, each of which the next ones see."""
        sampled: list[Tensor] = []
        decoded: list[Tensor] = []  # M2M-DINO looks at its own images: what it has decoded serves the output too
        for index in range(wanted.num_images):
            own = condition_of_image(told, sets, index)  # [B, dim] or None
            latents = self._sample_image(context, sampler, index, config, own, callback)  # [B, C, h, w]
            sampled.append(latents)
            if index + 1 == wanted.num_images:
                break
            features = latents
            if self.model.config.variant == "dino":
                decoded.append(self.decode(latents))
                features = self._tokens(decoded[-1])
            keys = [(set_id, f"generated/{index}") for set_id in config.set_ids]
            features = self._noised(features, wanted.context_noise, config.seed, keys)
            context.append(features, range(len(sets)), conditions=own)
        return self._output(sampled, decoded, wanted.output_type)

    def encode(self, images: Sequence[Picture]) -> Tensor:
        """Pictures of any size -> scaled latents ``[M, C, h, w]``: centre square, resized, mean of the posterior."""
        return self._latents(torch.cat([self._pixels(image) for image in images]))

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents ``[M, C, h, w]`` -> pixels ``[M, 3, H, W]``, float32 in [-1, 1]."""
        scaled = (latents / self.vae.config.scaling_factor).to(self.vae.dtype)
        decoded = torch.cat([self.vae.decode(part).sample for part in scaled.split(8)])
        return decoded.float().clamp(-1, 1)

    def _latents(self, pixels: Tensor) -> Tensor:
        """Pixels ``[M, 3, H, W]`` in [-1, 1] -> scaled latents ``[M, C, h, w]``."""
        pixels = pixels.to(self._execution_device, self.vae.dtype)
        latents = torch.cat([self.vae.encode(part).latent_dist.mode() for part in pixels.split(8)])
        return latents.float() * self.vae.config.scaling_factor

    def _pixels(self, image: Picture) -> Tensor:
        size = self.image_size
        return self.image_processor.preprocess(opened_picture(image), height=size, width=size, resize_mode="crop")

    def _append_given(
        self,
        context: ContextWindow,
        sets: list[list[Picture]],
        told: list[Tensor],
        seen: int,
        noise: int,
        config: SamplingConfig,
    ) -> None:
        """Encodes the last ``seen`` given images of every set once and appends them to its context. All are read."""
        pixels = [[self._pixels(image) for image in given] for given in sets]
        places = [(b, m) for b, given in enumerate(sets) for m in range(len(given)) if m >= len(given) - seen]
        if not places:
            return
        encode = self._latents if self.model.config.variant == "self" else self._tokens
        features = encode(torch.cat([pixels[b][m] for b, m in places]))  # [M, C, h, w] or [M, S, D]
        conditions = torch.stack([told[b][m] for b, m in places]) if told else None  # [M, dim]
        keys = [(config.set_ids[b], f"given/{m}") for b, m in places]
        features = self._noised(features, noise, config.seed, keys)
        context.append(features, [b for b, _ in places], given=True, conditions=conditions)

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
            # Not add_noise: Euler's looks levels up in its own steps.
            alpha = self.scheduler.alphas_cumprod[level].cpu()
            features = alpha.sqrt() * features.float().cpu() + (1 - alpha).sqrt() * noise
        return features.to(self._execution_device, self.model.dtype)

    def _sample_image(
        self,
        context: ContextWindow,
        scheduler: Any,
        index: int,
        config: SamplingConfig,
        conditions: Tensor | None,
        callback: Callback | None,
    ) -> Tensor:
        """Denoises image ``index`` of every set from its own noise; ``[B, C, h, w]``, float32, scaled."""
        if conditions is not None:
            context.look_from(conditions)
        device = self._execution_device
        size = self.model.unet.config.sample_size
        shape = (self.model.unet.config.in_channels, size, size)
        scheduler.set_timesteps(config.steps, device=device)
        noise = torch.stack([image_noise(config.seed, set_id, index, shape) for set_id in config.set_ids])
        latents = noise.to(device) * scheduler.init_noise_sigma  # [B, C, h, w]
        extra = step_arguments(scheduler, index, config)
        levels = (scheduler.timesteps.double() / scheduler.config.num_train_timesteps).tolist()
        lowest, highest = config.guidance_interval
        for step, timestep in enumerate(self.progress_bar(scheduler.timesteps)):
            guided = lowest <= levels[step] <= highest
            scales = (config.guidance_scale, config.condition_guidance_scale) if guided else (1.0, 1.0)
            model_input = scheduler.scale_model_input(latents, timestep).to(config.dtype)  # [B, C, h, w]
            predicted = predict(self.model, context, model_input, timestep, scales, conditions)  # [B, C, h, w]
            latents = scheduler.step(predicted, timestep, latents, **extra).prev_sample  # [B, C, h, w]
            if callback is not None:
                shown = {"latents": latents, "image_index": index}
                changed = callback(self, step, int(timestep), shown) or {}
                latents = checked_latents(changed.get("latents", latents), latents)
        return latents

    def _output(self, sampled: list[Tensor], decoded: list[Tensor], output_type: str) -> list[Any]:
        """Latents ``[B, C, h, w]`` of every image, the first of them decoded -> per set what is asked for."""
        latents = torch.stack(sampled, dim=1)  # [B, N, C, h, w]
        if output_type == "latent":
            return list(latents)
        rest = latents[:, len(decoded) :]  # [B, R, C, h, w]
        pixels = self.decode(rearrange(rest, "b n c h w -> (b n) c h w"))  # [B*R, 3, H, W]
        pixels = rearrange(pixels, "(b n) c h w -> b n c h w", b=len(latents))  # [B, R, 3, H, W]
        if decoded:
            pixels = torch.cat([torch.stack(decoded, dim=1), pixels], dim=1)  # [B, N, 3, H, W]
        return as_output(pixels, output_type)

    def _told(self, given: Any, lengths: Sequence[int], single: bool) -> list[Tensor]:
        """The conditions ``[N, dim]`` of every set, on the model's device; empty for a model without a task."""
        task = self.model.condition
        if task is not None:
            parts = given if given is None or not single else [given]
            return [own.to(self._execution_device) for own in conditions_of_sets(task, parts, lengths)]
        if given is not None:
            raise UserError("conditions are given, but this model was fine-tuned for no task that reads them")
        return []

    def _condition_scale(self, given: float | None) -> float:
        if given is None:
            return float(self.config.default_condition_guidance_scale)
        if self.model.condition is None:
            raise UserError("condition_guidance_scale is for models that were fine-tuned for a task")
        return given


# diffusers loads a component only from a module that has been imported: a repository cannot name what runs here.
register(M2MPipeline, M2MModel, TinyAutoencoder, DinoV2Encoder, EfficientNetLite0Encoder)
