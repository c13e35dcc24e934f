"""Full-size networks without their weights: what they cost does not depend on what they have learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from diffusers import UNet2DConditionModel
from torch import nn

from m2m.model.convert import is_text_attention
from m2m.model.unet import M2MModel

Net = TypeVar("Net", bound=nn.Module)
STD = 0.02  # of parameters that belong to no layer which could draw them itself: tokens, positions


def with_random_weights(module: Net, dtype: torch.dtype, device: str) -> Net:
    """A network from torch's meta device with its layers' initial weights, made in place: no memory is needed twice.

    On the device "meta" it stays without weights, but for its type.
    """
    nn.Module.to(module, dtype)  # diffusers' own `to` warns of modules to be kept in float32, and lists none
    module.to_empty(device=device)
    for part in module.modules():
        draw = getattr(part, "reset_parameters", None)
        if callable(draw):
            draw()
        else:
            for parameter in part.parameters(recurse=False):
                nn.init.normal_(parameter, std=STD)
    return module.eval().requires_grad_(False)


def random_text_unet(config: Mapping[str, Any], dtype: torch.dtype, device: str) -> UNet2DConditionModel:
    """diffusers' U-Net of that config, which attends to a text; as wide as its deepest level if it names no width."""
    with torch.device("meta"):
        base = UNet2DConditionModel(**{"cross_attention_dim": config["block_out_channels"][-1], **config})
    return with_random_weights(base, dtype, device)


def with_image_set_attention(base: UNet2DConditionModel, variant: str, context_dim: int | None = None) -> M2MModel:
    """An M2M model around the very weights of `base`; its own attention random, as if it were trained.

    variant: "self" or "dino"; context_dim: width of the vision encoder's tokens, for "dino".
    """
    with torch.device("meta"):
        model = M2MModel(unet_config=plain_config(base.config), variant=variant, context_dim=context_dim)
    for layer in model.image_set_attentions():
        with_random_weights(layer, base.dtype, str(base.device))
    shared = {f"unet.{name}": tensor for name, tensor in base.state_dict().items() if not is_text_attention(name)}
    model.load_state_dict({**model.state_dict(), **shared}, strict=True, assign=True)
    return model.eval().requires_grad_(False)


def plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config without what diffusers notes in it for itself."""
    return {name: value for name, value in config.items() if not name.startswith("_")}
