"""Tiny real models for the tests: the classes of the project at a few thousand parameters, float32, seeded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler
from PIL import Image

from m2m.model.autoencoder import TinyAutoencoder
from m2m.model.conditions import ConditionConfig
from m2m.model.encoders import DinoV2Encoder
from m2m.model.unet import M2MModel
from m2m.pipeline import M2MPipeline

CONTEXT_DIM = 24
TOKENS = 5


def tiny_unet_config(sample_size: int = 8) -> dict[str, Any]:
    """Two levels, two attention blocks down, three up and one in the middle, like SD 2.1 in small."""
    return {
        "sample_size": sample_size,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": [16, 32],
        "layers_per_block": 1,
        "attention_head_dim": [2, 4],
        "norm_num_groups": 8,
        "use_linear_projection": True,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    }


def tiny_model(variant: str = "self", seed: int = 0, **config: Any) -> M2MModel:
    """A random model whose image-set attention is not zero: as if trained, so that a context shows."""
    torch.manual_seed(seed)
    context_dim = CONTEXT_DIM if variant == "dino" else None
    model = M2MModel(unet_config=tiny_unet_config(), variant=variant, context_dim=context_dim, **config)
    for parameter in model.image_set_attention_parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    if model.config.context_sizes:
        torch.nn.init.normal_(model.unet.class_embedding[-1].weight, std=3.0)
    return model.eval()


def tiny_task_model(variant: str = "self", default: str = "", dim: int = 3, **config: Any) -> M2MModel:
    """The same with a condition of `dim` numbers an image, as if fine-tuned: its projections are not zero."""
    model = tiny_model(variant, **config)
    model.add_condition(ConditionConfig("place", dim, width=8, default=default), seed=5)
    torch.manual_seed(6)
    for parameter in model.added_parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def tiny_context(model: M2MModel, sets: int, images: int, seed: int = 1) -> torch.Tensor:
    """Random context for a variant: latents [B, N, 4, 8, 8] or tokens [B, N, 5, 24]."""
    generator = torch.Generator().manual_seed(seed)
    shape = (4, 8, 8) if model.config.variant == "self" else (TOKENS, CONTEXT_DIM)
    return torch.randn(sets, images, *shape, generator=generator)


def tiny_autoencoder() -> TinyAutoencoder:
    """Random weights, 4 latent channels, 8x down."""
    torch.manual_seed(3)
    return TinyAutoencoder(
        latent_channels=4,
        block_out_channels=(3, 12, 16, 16),
        patch_size=4,
        encoder_layers=1,
        decoder_layers=1,
        norm_num_groups=4,
    ).eval()


def tiny_scheduler(**changes: Any) -> DDIMScheduler:
    """Appendix A: DDIM, steps_offset 1, leading timesteps."""
    settings: dict[str, Any] = {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "timestep_spacing": "leading",
    }
    return DDIMScheduler(**{**settings, **changes})


def tiny_encoder() -> DinoV2Encoder:
    """DINOv2 with random weights: 28 pixels, patches of 14, so 4 + 1 tokens of 24 channels."""
    torch.manual_seed(4)
    sizes = {"hidden_size": CONTEXT_DIM, "num_hidden_layers": 2, "num_attention_heads": 2}
    return DinoV2Encoder(dinov2=sizes, image_size=28)


def tiny_pipeline(variant: str = "self", model: M2MModel | None = None, **config: Any) -> M2MPipeline:
    """The whole pipeline at 64x64 pixels, random weights; or around a model that is there."""
    encoder = tiny_encoder() if variant == "dino" else None
    pipe = M2MPipeline(model or tiny_model(variant, **config), tiny_autoencoder(), tiny_scheduler(), encoder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def pictures(count: int, seed: int = 0, size: int = 64) -> list[Image.Image]:
    """Random smooth pictures."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(count, 4, 4, 3, generator=generator)
    arrays = (small * 255).to(torch.uint8).numpy()
    return [Image.fromarray(array).resize((size, size), Image.Resampling.BICUBIC) for array in arrays]


def saved_and_loaded(model: M2MModel, folder: Path) -> M2MModel:
    """The model as its folder gives it back, weights moved to where torch puts tensors of its own.

    In a file they lie at addresses where some processors sum in another order, which changes the last bit.
    """
    model.save_pretrained(folder)
    loaded = M2MModel.from_pretrained(folder)
    for parameter in loaded.parameters():
        parameter.data = parameter.data.clone()
    return loaded
