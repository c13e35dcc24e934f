"""M2M-Self and M2M-DINO (sections 5.1, 5.2): a Stable Diffusion U-Net whose ``attn2`` layers attend to a set of images.

The U-Net is diffusers' own ``UNet2DConditionModel``, kept whole. Only its sixteen (in SD 2.1) text cross-attentions are
replaced, and what used to be the text is now the context of clean images:

    M2M-Self  a clean pass of the same U-Net writes keys and values, the noisy pass reads them;
    M2M-DINO  keys and values are projected from the features of a vision encoder; there is no clean pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention import BasicTransformerBlock
from diffusers.utils.accelerate_utils import apply_forward_hook
from einops import rearrange
from torch import Tensor, nn

from m2m.model.context import ContextCache, ContextReader
from m2m.model.image_set_attention import ImageSetAttention
from m2m.model.strict import StrictLoading
from m2m.types import UserError

VARIANTS = ("self", "dino")
NULL_CONTEXTS = ("drop", "zeros")


class M2MModel(StrictLoading, ModelMixin, ConfigMixin):
    """The denoising model: noisy latents and a context in, a prediction for each noisy latent out.

    Args:
        unet_config: config of the base ``UNet2DConditionModel``; its ``cross_attention_dim`` is set here.
        variant: ``self`` (section 5.1) or ``dino`` (section 5.2).
        context_dim: width of the vision encoder's tokens; M2M-DINO only.
        null_context: what a dropped context is (guidance, equation 6). ``drop``: nothing is attended to, the result
            before ``to_out`` is zero. ``zeros``: the paper's words, zeroed latents or features are attended to.
        clean_timestep: timestep of the clean pass, fixed, so that keys and values can be kept.

    Raises:
        UserError: an unknown variant or null context, or a base U-Net whose blocks attend in another way.
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
    ) -> None:
        super().__init__()
        _check(variant, context_dim, null_context)
        context_dims = list(unet_config["block_out_channels"]) if variant == "self" else context_dim
        self.unet = UNet2DConditionModel.from_config({**unet_config, "cross_attention_dim": context_dims})
        replace_text_attention(self.unet)

    def image_set_attentions(self) -> Iterator[ImageSetAttention]:
        """All Image-Set Attention layers, in the U-Net's order."""
        return (module for module in self.unet.modules() if isinstance(module, ImageSetAttention))

    def image_set_attention_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of Image-Set Attention alone: what is trained when the base stays frozen."""
        return (parameter for layer in self.image_set_attentions() for parameter in layer.parameters())

    @apply_forward_hook
    def write_context(self, context: Tensor, timesteps: Tensor | None = None) -> ContextCache:
        """Keys and values of clean images, each of which sees only itself.

        Args:
            context: latents ``[B, N, C, h, w]`` (Self) or vision tokens ``[B, N, S, D]`` (DINO). N may be 0.
            timesteps: ``[B, N]`` noise level of the context (Self; ``context_noise``); default ``clean_timestep``.
        """
        cache = ContextCache()
        if context.shape[1] == 0:
            return cache
        if self.config.variant == "dino":
            for layer in self.image_set_attentions():
                cache.keys[layer.layer], cache.values[layer.layer] = layer.keys_values(context)  # [B, N, S, heads, d]
            return cache
        if timesteps is None:
            timesteps = torch.full(context.shape[:2], self.config.clean_timestep, device=context.device)
        images = rearrange(context, "b n c h w -> (b n) c h w")
        self.unet(
            images,
            timesteps.flatten(),
            encoder_hidden_states=cache.writer(len(context)),
        )
        return cache

    @apply_forward_hook
    def denoise(self, noisy: Tensor, timesteps: Tensor, reader: ContextReader) -> Tensor:
        """The noisy pass: prediction for ``noisy`` ``[B, T, C, h, w]`` at ``timesteps`` ``[B, T]``, same shape."""
        images = rearrange(noisy, "b t c h w -> (b t) c h w")
        predicted = self.unet(images, timesteps.flatten(), encoder_hidden_states=reader).sample
        return rearrange(predicted, "(b t) c h w -> b t c h w", b=len(noisy))

    def forward(
        self,
        noisy: Tensor,
        context: Tensor,
        timesteps: Tensor,
        keep_context: Tensor,
        context_timesteps: Tensor | None = None,
    ) -> Tensor:
        """The training call (equation 5): clean pass, then noisy pass, in one call, as DDP and FSDP need it.

        Args:
            noisy: ``[B, N*K, C, h, w]``, K noisy draws of each image, folded as ``(n k)``.
            context: the N clean images of each set: latents ``[B, N, C, h, w]`` or tokens ``[B, N, S, D]``. Image i
                attends to images 0..i-1 only, so the last one is never run.
            timesteps: ``[B, N*K]``.
            keep_context: bool ``[B]``; False drops a set's whole context (classifier-free guidance).
            context_timesteps: ``[B, N]`` noise level of the context, Self only.

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
        cache = self.write_context(context[:, :-1], context_timesteps)  # [B, N-1, L, heads, d] per layer
        reader = ContextReader.causal(cache, images, keep, draws=noisy.shape[1] // images)
        return self.denoise(noisy, timesteps, reader)  # [B, N*K, C, h, w]


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
