"""The pipelines that are compared by what an image costs: ours, and the same U-Net with text attention.

Text to image is diffusers' own StableDiffusionPipeline without its text encoder, which would run once a call: it gets a
random embedding of 77 tokens for each text. With random weights all of them share every weight but those of attn2.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, DDIMScheduler
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from m2m.evaluation.efficiency.random_networks import (
    plain_config,
    random_text_unet,
    with_image_set_attention,
    with_random_weights,
)
from m2m.model.autoencoder import TinyAutoencoder
from m2m.model.convert import DDIM
from m2m.model.encoders import DINOV2_SIZES, DinoV2Encoder, EfficientNetLite0Encoder
from m2m.model.sizes import SD21_UNET, SD21_VAE
from m2m.model.unet import M2MModel
from m2m.pipeline import M2MPipeline
from m2m.types import UserError

BASE, SELF, DINO = "base", "self", "dino"
VISION_ENCODERS = ("efficientnet-lite0", *DINOV2_SIZES)
BASE_DOWN = 8  # diffusers' text-to-image pipeline wants a side of the pictures that is a multiple of it

Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True)
class Parts:
    """What all random contenders have in common, without weights.

    unet: config of the base. autoencoder, vision_encoder: on torch's meta device, except EfficientNet-Lite0, which
    takes its weights from a package wherever it is made.
    """

    unet: Mapping[str, Any]
    scheduler: DDIMScheduler
    autoencoder: nn.Module
    vision_encoder: Any


def sd21_parts(pixels: int, vision: str) -> Parts:
    """Stable Diffusion 2.1's size, for pictures of `pixels` x `pixels`. Raises UserError."""
    schedule: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    with torch.device("meta"):
        autoencoder = AutoencoderKL(**SD21_VAE)
    side = latent_side(pixels, autoencoder)
    return Parts({**SD21_UNET, "sample_size": side}, DDIMScheduler(**schedule, **DDIM), autoencoder, encoder(vision))


def tiny_parts(folder: Path, vision: str, pixels: int | None = None) -> Parts:
    """The size of the saved tiny M2M-Self in `folder`; of its weights nothing is read. pixels: None: its own."""
    unet = M2MModel.load_config(folder / "model")["unet_config"]
    with torch.device("meta"):
        autoencoder = TinyAutoencoder.from_config(TinyAutoencoder.load_config(folder / "vae"))
    if pixels:
        unet = {**unet, "sample_size": latent_side(pixels, autoencoder)}
    return Parts(unet, DDIMScheduler.from_pretrained(folder / "scheduler"), autoencoder, encoder(vision))


def encoder(name: str) -> Any:
    """The vision encoder of that name without weights; EfficientNet-Lite0 with its own. Raises UserError."""
    if name == "efficientnet-lite0":
        return EfficientNetLite0Encoder()
    if name not in DINOV2_SIZES:
        raise UserError(f"no vision encoder '{name}' is known by its size: use one of {', '.join(VISION_ENCODERS)}")
    with torch.device("meta"):
        return DinoV2Encoder(dinov2=DINOV2_SIZES[name])


def latent_side(pixels: int, autoencoder: Any) -> int:
    """Side of the latents of pictures of `pixels` x `pixels`. Raises UserError where that is no whole number."""
    scale = 2 ** (len(autoencoder.config.block_out_channels) - 1)
    if pixels < scale or pixels % scale or pixels % BASE_DOWN:
        raise UserError(f"pictures of {pixels} pixels cannot be made: use a multiple of {max(scale, BASE_DOWN)}")
    return pixels // scale


def random_pipelines(
    parts: Parts, dtype: torch.dtype, device: str, seed: int = 0, names: Sequence[str] = (SELF, DINO)
) -> dict[str, Any]:
    """Pipelines "base" and `names` of "self" and "dino" with random weights; on the device "meta" without any."""
    torch.manual_seed(seed)
    base = random_text_unet(parts.unet, dtype, device)
    autoencoder = with_random_weights(parts.autoencoder, dtype, device)
    made = {BASE: text_pipeline(base, autoencoder, parts.scheduler)}
    if SELF in names:
        model = with_image_set_attention(base, "self")
        made[SELF] = _quiet(M2MPipeline(model, autoencoder, copy.deepcopy(parts.scheduler)))
    if DINO in names:
        vision = _filled_encoder(parts.vision_encoder, dtype, device)
        model = with_image_set_attention(base, "dino", vision.dim)
        made[DINO] = _quiet(M2MPipeline(model, autoencoder, copy.deepcopy(parts.scheduler), vision))
    return made


def _filled_encoder(vision: Any, dtype: torch.dtype, device: str) -> Any:
    if not isinstance(vision, EfficientNetLite0Encoder):
        return with_random_weights(vision, dtype, device)
    return nn.Module.to(vision, dtype=dtype, device=None if device == "meta" else device)


def with_base(pipelines: Mapping[str, M2MPipeline], seed: int = 0) -> dict[str, Any]:
    """Loaded pipelines, and before them their U-Net with a random text attention, autoencoder and scheduler shared.

    Raises UserError where their U-Nets differ, for one base stands for all.
    """
    configs = [{**plain_config(pipe.model.unet.config), "cross_attention_dim": None} for pipe in pipelines.values()]
    if any(own != configs[0] for own in configs):
        raise UserError("the models have different U-Nets: compare each with its base in a run of its own")
    first = next(iter(pipelines.values()))
    config = plain_config(first.model.config.unet_config) | {"sample_size": first.model.unet.config.sample_size}
    torch.manual_seed(seed)
    base = random_text_unet(config, first.model.dtype, str(first.model.device))
    text = text_pipeline(base, first.vae, first.scheduler)
    return {BASE: text, **{name: _quiet(pipe) for name, pipe in pipelines.items()}}


def text_pipeline(unet: nn.Module, autoencoder: nn.Module, scheduler: DDIMScheduler) -> Any:
    """diffusers' text-to-image pipeline; texts reach it as embeddings."""
    with _without_hints():
        from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=None,
        tokenizer=None,
        unet=unet,
        scheduler=copy.deepcopy(scheduler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return _quiet(pipe)


def unet_of(pipe: Any) -> Any:
    """The U-Net of any of these pipelines."""
    return pipe.model.unet if isinstance(pipe, M2MPipeline) else pipe.unet


def tensors_of(pipe: Any) -> dict[int, Tensor]:
    """Parameters and buffers of all its networks, each once."""
    networks = [part for part in pipe.components.values() if isinstance(part, nn.Module)]
    return {id(tensor): tensor for part in networks for tensor in chain(part.parameters(), part.buffers())}


def without_arithmetic(pipe: Any) -> Any:
    """The same pipeline on fake tensors: it runs as it does, but nothing is computed and its weights take no memory.

    What it makes are fake tensors too: shapes and types are right, values unknown.
    """
    twin = copy.copy(pipe)
    parts = {name: part for name, part in pipe.components.items() if isinstance(part, nn.Module)}
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    twin.register_modules(**{name: _twin(part, mode) for name, part in parts.items()})
    return twin


def _twin(part: Net, mode: FakeTensorMode) -> Net:
    """A copy that gets fake tensors, on the CPU, wherever the original has its weights."""
    substitutes: dict[int, Any] = {}
    with mode:
        for tensor in chain(part.parameters(), part.buffers()):
            fake = torch.empty(tensor.shape, dtype=tensor.dtype)
            is_parameter = isinstance(tensor, nn.Parameter)
            substitutes[id(tensor)] = nn.Parameter(fake, requires_grad=False) if is_parameter else fake
    return copy.deepcopy(part, substitutes)


def _quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


@contextmanager
def _without_hints() -> Iterator[None]:
    """transformers says on stderr that torchvision is missing, which nothing here needs."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
