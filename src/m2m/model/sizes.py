"""The sizes of published models, as the numbers that their classes take: for a model without its weights."""

from __future__ import annotations

from typing import Any

# The U-Net of Stable Diffusion 2.1-base (diffusers' UNet2DConditionModel): 865,910,724 parameters, of which 50,352,320
# are text attention. 64x64 latents are 512 pixels.
SD21_UNET: dict[str, Any] = {
    "sample_size": 64,
    "attention_head_dim": [5, 10, 20, 20],  # the number of heads a level, whatever diffusers calls it
    "block_out_channels": [320, 640, 1280, 1280],
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}
SD21_TEXT = (77, 1024)  # tokens of a caption and their width: OpenCLIP ViT-H
DINOV2_GIANT = (257, 1536)  # tokens of an image at 224 pixels and their width
