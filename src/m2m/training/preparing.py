"""What a config switches on in a module before anything wraps it: checkpointing and compilation of its blocks."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import nn

from m2m.types import UserError

if TYPE_CHECKING:
    from m2m.training.loop import LoopConfig

# Torch gives up compiling a function behind 8 variants. Here one serves all blocks of a kind, and SD 2.1 has 14 shapes
# of them, each with and without gradients.
VARIANTS = 64


def prepare(module: nn.Module, config: LoopConfig) -> None:
    """Switch on `gradient_checkpointing` and `compile`. Raises UserError where the module has no blocks for it."""
    if config.gradient_checkpointing:
        enable = getattr(module, "enable_gradient_checkpointing", None)
        if enable is None:
            raise UserError(
                f"gradient_checkpointing: {type(module).__name__} has no blocks that can do it; leave it out"
            )
        enable()
    if config.compile:
        _compile_blocks(module)


def _compile_blocks(module: nn.Module) -> None:
    """torch.compile, block by block and in place: the names of tensors stay, and equal blocks are compiled once."""
    from diffusers.models.attention import BasicTransformerBlock
    from diffusers.models.resnet import ResnetBlock2D

    blocks = [part for part in module.modules() if isinstance(part, (ResnetBlock2D, BasicTransformerBlock))]
    if not blocks:
        raise UserError(f"compile: {type(module).__name__} has no blocks of a U-Net; leave it out")
    _keep_image_set_attention_out()
    torch._dynamo.config.cache_size_limit = max(VARIANTS, torch._dynamo.config.cache_size_limit)
    for block in blocks:
        block.compile()


@cache
def _keep_image_set_attention_out() -> None:
    """What it attends to is no tensor, but the context's reader or writer; a graph ends before it and begins behind."""
    from m2m.model.image_set_attention import ImageSetAttention

    # In the class: a `forward` put into an instance would go on to use that one's weights in every copy of it.
    ImageSetAttention.forward = torch.compiler.disable(ImageSetAttention.forward)  # type: ignore[method-assign]
