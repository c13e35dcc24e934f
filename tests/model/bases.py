"""Tiny Stable Diffusion folders in diffusers layout, written by the real classes of diffusers; random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file

TEXT_DIM = 12
STYLES = ("1.x", "2.x")
UNET_FILE = "unet/diffusion_pytorch_model.safetensors"
VAE_FILE = "vae/diffusion_pytorch_model.safetensors"


def base_unet(style: str = "2.x", **changes: Any) -> UNet2DConditionModel:
    """1.x: the same number of heads at every level, convolutions as projections. 2.x: neither."""
    torch.manual_seed(11)
    heads = {"1.x": 4, "2.x": (2, 4)}
    settings: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "cross_attention_dim": TEXT_DIM,
        "attention_head_dim": heads[style],
        "use_linear_projection": style == "2.x",
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    return UNet2DConditionModel(**{**settings, **changes})


def base_vae() -> AutoencoderKL:
    """Four scales, so 8x down as in Stable Diffusion."""
    torch.manual_seed(12)
    scales = 4
    return AutoencoderKL(
        block_out_channels=(8,) * scales,
        down_block_types=("DownEncoderBlock2D",) * scales,
        up_block_types=("UpDecoderBlock2D",) * scales,
        latent_channels=4,
        norm_num_groups=4,
    )


def base_scheduler(**changes: Any) -> PNDMScheduler:
    """As in the folder of Stable Diffusion 2.1-base."""
    settings = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "skip_prk_steps": True}
    return PNDMScheduler(**{**settings, **changes})


def save_base(folder: Path, style: str = "2.x", unet: dict[str, Any] | None = None, **how: Any) -> Path:
    """Writes the folder; ``how`` goes to the U-Net's ``save_pretrained``."""
    base_unet(style, **(unet or {})).save_pretrained(folder / "unet", **how)
    base_vae().save_pretrained(folder / "vae")
    base_scheduler().save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "safety_checker": [None, None],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def edit_weights(path: Path, **changes: torch.Tensor | None) -> None:
    """Adds, replaces or (None) removes tensors of a safetensors file."""
    tensors = load_file(path) | changes
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)


def edit_config(path: Path, **changes: Any) -> None:
    """Adds or replaces fields of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
