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
# Its autoencoder: 83,653,863 parameters, 8x down.
SD21_VAE: dict[str, Any] = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "scaling_factor": 0.18215,
}
SD21_TEXT = (77, 1024)  # tokens of a caption and their width: OpenCLIP ViT-H
DINOV2_GIANT = (257, 1536)  # tokens of an image at 224 pixels and their width
