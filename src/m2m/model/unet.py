"""M2M-Self and M2M-DINO (sections 5.1, 5.2): a Stable Diffusion U-Net whose ``attn2`` layers attend to a set of images.

The U-Net is diffusers' own ``UNet2DConditionModel``, kept whole. Only its sixteen (in SD 2.1) text cross-attentions are
replaced, and what used to be the text is now the context of clean images:

    M2M-Self  a clean pass of the same U-Net writes keys and values, the noisy pass reads them;
    M2M-DINO  keys and values are projected from the features of a vision encoder; there is no clean pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention import BasicTransformerBlock
from diffusers.utils.accelerate_utils import apply_forward_hook
from einops import rearrange
from torch import Tensor, nn

from m2m.model.conditions import ConditionConfig, ConditionEmbedder, kept, of_copies, projection
from m2m.model.context import ContextCache, ContextReader, ContextWriter
from m2m.model.image_set_attention import ImageSetAttention
from m2m.model.strict import StrictLoading
from m2m.types import UserError

VARIANTS = ("self", "dino")
NULL_CONTEXTS = ("drop", "zeros")
CONTEXT_SIZE = ConditionConfig("context size", 1, frequencies=4, lowest=0.25, highest=2.0)


class M2MModel(StrictLoading, ModelMixin, ConfigMixin):
    """The denoising model: noisy latents and a context in, a prediction for each noisy latent out.

    Args:
        unet_config: config of the base ``UNet2DConditionModel``; its ``cross_attention_dim`` is set here.
        variant: ``self`` (section 5.1) or ``dino`` (section 5.2).
        context_dim: width of the vision encoder's tokens; M2M-DINO only.
        null_context: what a dropped context is (guidance, equation 6). ``drop``: nothing is attended to, the result
            before ``to_out`` is zero. ``zeros``: the paper's words, zeroed latents or features are attended to.
        clean_timestep: timestep of the clean pass, fixed, so that keys and values can be kept.
        condition: fields of ``ConditionConfig`` for a model of a fine-tuned task (section 6.2); None: a model without.
        context_sizes: the model is told how many images it is shown, up to this many ("so many or more"); 0: it is not,
            as in the paper, and then several images that agree tell it no more than one of them (README, decisions).

    Raises:
        UserError: an unknown variant or null context, a bad condition, or a base U-Net whose blocks attend in another
            way.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["BasicTransformerBlock", "ResnetBlock2D"]

    @register_to_config
    def __init__(
        self,
        unet_config: dict[str, Any],
        variant: str = "self",
        context_dim: int | None = None,
        null_context: str = "drop",
        clean_timestep: int = 0,
        condition: dict[str, Any] | None = None,
        context_sizes: int = 0,
    ) -> None:
        super().__init__()
        _check(variant, context_dim, null_context)
        context_dims = list(unet_config["block_out_channels"]) if variant == "self" else context_dim
        self.unet = UNet2DConditionModel.from_config({**unet_config, "cross_attention_dim": context_dims})
        replace_text_attention(self.unet)
        if condition is not None:
            self._build_condition(ConditionConfig(**condition))
        if context_sizes:
            self._build_context_sizes(context_sizes)

    @property
    def condition(self) -> ConditionConfig | None:
        """What this model is told of every image beside its pixels; None for a model without a task."""
        return None if self.config.condition is None else ConditionConfig(**self.config.condition)

    def add_condition(self, condition: ConditionConfig, seed: int = 0) -> None:
        """Gives a pre-trained model the embedders of a task, in place; its predictions stay the same, to the bit.

        Raises UserError where it has a condition already.
        """
        if self.condition is not None:
            raise UserError(f"this model has the condition '{self.condition.name}' already: start from one without")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._build_condition(condition)
        self.register_to_config(condition=asdict(condition))

    def add_context_sizes(self, most: int, seed: int = 0) -> None:
        """Tells a trained model how many images it is shown, in place; its predictions stay the same, to the bit.

        most: stands for itself and for all more. Raises UserError where the model is told already.
        """
        if self.config.context_sizes:
            told = self.config.context_sizes
            raise UserError(f"this model is told context sizes up to {told} already: use {told}, or leave them out")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._build_context_sizes(most)
        self.register_to_config(context_sizes=most)

    def rebuilt(self) -> M2MModel:
        """A model of the same structure with new random weights, from torch's global generator.

        diffusers' own ``from_config`` takes a field that was a default when this model was made for one still, also
        where it has changed since: a condition that was added, another null context.
        """
        fields = {name: value for name, value in self.config.items() if not name.startswith("_")}
        made: M2MModel = type(self).from_config(fields)
        return made

    def added_parameters(self) -> Iterator[nn.Parameter]:
        """Everything that ``add_condition`` and ``add_context_sizes`` add."""
        of_sizes = "class_embedding."
        marks = ("condition_embedder.", "context_embedder.", "context_projection.", ".to_condition.", of_sizes)
        return (parameter for name, parameter in self.named_parameters() if any(mark in name for mark in marks))

    def image_set_attentions(self) -> Iterator[ImageSetAttention]:
        """All Image-Set Attention layers, in the U-Net's order."""
        return (module for module in self.unet.modules() if isinstance(module, ImageSetAttention))

    def image_set_attention_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of Image-Set Attention alone: what is trained when the base stays frozen."""
        return (parameter for layer in self.image_set_attentions() for parameter in layer.parameters())

    @apply_forward_hook
    def write_context(
        self, context: Tensor, timesteps: Tensor | None = None, conditions: Tensor | None = None
    ) -> ContextCache:
        """Keys and values of clean images, each of which sees only itself and its own condition.

        Args:
            context: latents ``[B, N, C, h, w]`` (Self) or vision tokens ``[B, N, S, D]`` (DINO). N may be 0.
            timesteps: ``[B, N]`` noise level of the context (Self; ``context_noise``); default ``clean_timestep``.
            conditions: ``[B, N, dim]``, a row of NaN: that image has none; None: no image has one.
        """
        cache = ContextCache()
        if context.shape[1] == 0:
            return cache
        if self.config.variant == "dino":
            context = self._with_condition(context, conditions)  # [B, N, S, D]
            for layer in self.image_set_attentions():
                cache.keys[layer.layer], cache.values[layer.layer] = layer.keys_values(context)  # [B, N, S, heads, d]
            return cache
        if timesteps is None:
            timesteps = torch.full(context.shape[:2], self.config.clean_timestep, device=context.device)
        images = rearrange(context, "b n c h w -> (b n) c h w")
        writer = cache.writer(len(context), self._embedding(conditions))
        self._run(images, timesteps, writer, [0] * len(images))
        return cache

    @apply_forward_hook
    def denoise(
        self, noisy: Tensor, timesteps: Tensor, reader: ContextReader, conditions: Tensor | None = None
    ) -> Tensor:
        """The noisy pass: prediction for ``noisy`` ``[B, T, C, h, w]`` at ``timesteps`` ``[B, T]``, same shape.

        conditions: of these images, ``[B, T, dim]``, a row of NaN: that image has none; None: no image has one.
        """
        images = rearrange(noisy, "b t c h w -> (b t) c h w")
        reader = reader.conditioned(self._embedding(conditions))
        predicted = self._run(images, timesteps, reader, reader.sizes)
        return rearrange(predicted, "(b t) c h w -> b t c h w", b=len(noisy))

    def forward(
        self,
        noisy: Tensor,
        context: Tensor,
        timesteps: Tensor,
        keep_context: Tensor,
        context_timesteps: Tensor | None = None,
        conditions: Tensor | None = None,
        keep_condition: Tensor | None = None,
    ) -> Tensor:
        """The training call (equation 5): clean pass, then noisy pass, in one call, as DDP and FSDP need it.

        Args:
            noisy: ``[B, N*K, C, h, w]``, K noisy draws of each image, folded as ``(n k)``.
            context: the N clean images of each set: latents ``[B, N, C, h, w]`` or tokens ``[B, N, S, D]``. Image i
                attends to images 0..i-1 only, so the last one is never run.
            timesteps: ``[B, N*K]``.
            keep_context: bool ``[B]``; False drops a set's whole context (classifier-free guidance).
            context_timesteps: ``[B, N]`` noise level of the context, Self only.
            conditions: ``[B, N, dim]`` of the images, for a model with a condition.
            keep_condition: bool ``[B]``; False drops a set's conditions, of its context and of its noisy images.

        Returns:
            The prediction (epsilon or v, as the scheduler says), ``[B, N*K, C, h, w]``.
        """
        images = context.shape[1]
        keep = keep_context.tolist()
        if self.config.null_context == "zeros":
            context = context * keep_context.to(context).view(-1, *[1] * (context.ndim - 1))  # [B, N, ...]
            keep = [True] * len(keep)
        if context_timesteps is not None:
            context_timesteps = context_timesteps[:, :-1]  # [B, N-1]
        copies = noisy.shape[1] // images
        of_context, of_noisy = None, None
        if conditions is not None:
            conditions = kept(conditions, keep_condition)  # [B, N, dim]
            of_context, of_noisy = conditions[:, :-1], of_copies(conditions, copies)  # [B, N-1, dim], [B, N*K, dim]
        cache = self.write_context(context[:, :-1], context_timesteps, of_context)  # [B, N-1, L, heads, d] per layer
        reader = ContextReader.causal(cache, images, keep, draws=copies)
        return self.denoise(noisy, timesteps, reader, of_noisy)  # [B, N*K, C, h, w]

    def _run(
        self, images: Tensor, timesteps: Tensor, context: ContextWriter | ContextReader, sizes: Sequence[int]
    ) -> Tensor:
        """The U-Net on ``[R, C, h, w]``, each image of which is shown so many others: its prediction, same shape."""
        labels = None
        if most := self.config.context_sizes:
            # NaN, no condition: an image that is shown none stays what the base U-Net makes of it.
            told = [float(min(size, most)) or math.nan for size in sizes]
            labels = torch.tensor(told, device=images.device).unsqueeze(1)  # [R, 1]
        return self.unet(images, timesteps.flatten(), encoder_hidden_states=context, class_labels=labels).sample

    def _build_context_sizes(self, most: int) -> None:
        """The U-Net adds its class embedding to that of the timestep; here the class is the number of images."""
        if most < 1:
            raise UserError(f"context_sizes is {most}: it must be 0 (not told) or more")
        like = self.unet.time_embedding.linear_2.weight
        embedder = ConditionEmbedder(CONTEXT_SIZE)
        self.unet.class_embedding = nn.Sequential(embedder, projection(CONTEXT_SIZE.width, len(like))).to(like)

    def _build_condition(self, condition: ConditionConfig) -> None:
        like = next(self.unet.parameters())
        self.condition_embedder = ConditionEmbedder(condition).to(like)
        for layer in self.image_set_attentions():
            layer.add_condition(condition.width)
            layer.to(like)
        if self.config.variant == "dino":
            self.context_embedder = ConditionEmbedder(condition).to(like)
            self.context_projection = projection(condition.width, self.config.context_dim).to(like)

    def _embedding(self, conditions: Tensor | None) -> Tensor | None:
        """E(c_C) of section 6.2: ``[B, N, dim]`` -> ``[B*N, width]``. Raises UserError for a model without a task."""
        if conditions is None:
            return None
        if self.condition is None:
            raise UserError("conditions are given, but this model has no task that would read them")
        return self.condition_embedder(conditions).flatten(0, 1)

    def _with_condition(self, tokens: Tensor, conditions: Tensor | None) -> Tensor:
        """M2M-DINO, section 6.2: v = v_0 + E_c(c), for every token of an image."""
        if conditions is None:
            return tokens
        added = self.context_projection(self.context_embedder(conditions))  # [B, N, D]
        return tokens + added.unsqueeze(2).to(tokens.dtype)


def replace_text_attention(unet: UNet2DConditionModel) -> None:
    """Puts Image-Set Attention in the place of every ``attn2``; queries, keys and values from scratch, output zero."""
    for name, block in list(unet.named_modules()):
        if not isinstance(block, BasicTransformerBlock):
            continue
        text = block.attn2
        if text is None or block.only_cross_attention:
            raise UserError(
                f"base U-Net: {name} has no plain self- and cross-attention; use a Stable Diffusion 1.x/2.x U-Net"
            )
        head_dim = text.inner_dim // text.heads
        block.attn2 = ImageSetAttention(
            f"{name}.attn2",
            text.query_dim,
            text.cross_attention_dim,
            text.heads,
            head_dim,
        )
        block.attn2.zero_output()


def _check(variant: str, context_dim: int | None, null_context: str) -> None:
    if variant not in VARIANTS:
        raise UserError(f"variant {variant!r} is unknown: use one of {', '.join(VARIANTS)}")
    if null_context not in NULL_CONTEXTS:
        raise UserError(f"null_context {null_context!r} is unknown: use one of {', '.join(NULL_CONTEXTS)}")
    if variant == "dino" and not context_dim:
        raise UserError("variant 'dino' needs context_dim, the width of its vision encoder (DINOv2-giant: 1536)")
