"""Tiny text-to-image pipelines as folders, of the real classes with random weights; 64 x 64 pixels."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from diffusers.pipelines.stable_diffusion_3 import StableDiffusion3Pipeline
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from m2m.data.captions.tokens import clip_vocabulary
from tests.model.bases import TEXT_DIM, base_scheduler, base_unet, base_vae

SIZE = 64
TINY = {"intermediate_size": 24, "num_attention_heads": 2, "num_hidden_layers": 2}


@cache
def tokenizer() -> CLIPTokenizer:
    """CLIP's own vocabulary, 49,408 ids, texts of 77 tokens."""
    vocabulary, merges = clip_vocabulary()
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)


def text_config(hidden_size: int = TEXT_DIM) -> CLIPTextConfig:
    ids = {"vocab_size": 49408, "bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407}
    return CLIPTextConfig(hidden_size=hidden_size, projection_dim=hidden_size, **TINY, **ids)


def save_stable_diffusion(folder: Path, checker: StableDiffusionSafetyChecker | None = None, **how: Any) -> Path:
    """A whole Stable Diffusion folder whose pictures depend much on the text; ``how`` goes to ``save_pretrained``."""
    torch.manual_seed(21)
    unet = base_unet()
    for name, parameter in unet.named_parameters():
        if ".attn2." in name:
            torch.nn.init.normal_(parameter, std=0.5)
    StableDiffusionPipeline(
        vae=base_vae(),
        text_encoder=CLIPTextModel(text_config()),
        tokenizer=tokenizer(),
        unet=unet,
        scheduler=base_scheduler(steps_offset=1),
        safety_checker=checker,
        feature_extractor=processor() if checker else None,
        requires_safety_checker=checker is not None,
    ).save_pretrained(folder, **how)
    return folder


def save_stable_diffusion_3(folder: Path) -> Path:
    """Another family: a transformer, flow matching, two text encoders, 16 latent channels."""
    torch.manual_seed(22)
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=32,
        out_channels=4,
        pos_embed_max_size=16,
    )
    encoders = [CLIPTextModelWithProjection(text_config(16)) for _ in range(2)]
    vae = base_vae()
    vae.register_to_config(shift_factor=0.0)
    StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae,
        text_encoder=encoders[0],
        tokenizer=tokenizer(),
        text_encoder_2=encoders[1],
        tokenizer_2=tokenizer(),
        text_encoder_3=None,
        tokenizer_3=None,
    ).save_pretrained(folder)
    return folder


def processor() -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})


def safety_checker(threshold: float) -> StableDiffusionSafetyChecker:
    """A checker that rejects what is more like its concepts than `threshold` (cosine, -1 to 1)."""
    torch.manual_seed(23)
    vision = {"hidden_size": 16, "image_size": 16, "patch_size": 8, **TINY}
    checker = StableDiffusionSafetyChecker(CLIPConfig(projection_dim=8, vision_config=vision))
    torch.nn.init.normal_(checker.visual_projection.weight)
    for weights in (checker.concept_embeds_weights, checker.special_care_embeds_weights):
        torch.nn.init.constant_(weights, threshold)
    return checker


def save_checker(folder: Path, checker: StableDiffusionSafetyChecker) -> Path:
    """A checker as the hub has it: its image processor beside it."""
    checker.save_pretrained(folder)
    processor().save_pretrained(folder)
    return folder


def edit_index(folder: Path, **changes: Any) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
