"""What the tiny autoencoder is trained for: sharp reconstructions from latents that a diffusion model can learn.

Emoji are flat areas with hard borders. L1 alone spends its effort on areas and leaves borders soft, so differences of
neighbouring pixels are compared as well, at several scales. A weak KL term keeps the latents near a unit Gaussian, and
noise on them in training makes the decoder forgive the small errors of a denoised latent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from m2m.model.autoencoder import TinyAutoencoder

# Pixels [B, 3, H, W] in [-1, 1] -> feature maps, finest first.
FeatureExtractor = Callable[[Tensor], list[Tensor]]
MEASURE_BATCH = 64  # images encoded at once where nothing is trained; bounds the memory


@dataclass(frozen=True)
class AutoencoderLossConfig:
    """Weights of the terms; each term is a mean over elements, so they do not change with size or channel count."""

    pixel_weight: float = 1.0
    edge_weight: float = 1.0
    edge_scales: int = 3  # 1, 1/2, 1/4 of the picture
    kl_weight: float = 1e-3  # on nats per latent element
    latent_noise: float = 0.05  # deviation of extra noise, in units of the latents' own deviation
    perceptual_weight: float = 0.0  # needs a feature extractor


def autoencoder_loss(
    model: TinyAutoencoder,
    pixels: Tensor,
    config: AutoencoderLossConfig,
    generator: torch.Generator | None = None,
    features: FeatureExtractor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of one batch of pixels [B, 3, H, W] in [-1, 1], and its terms (detached scalars) for the log.

    `generator` draws the latents and their noise; `features` is used where `perceptual_weight` is above zero.

    Raises:
        ValueError: a perceptual weight without a feature extractor.
    """
    if config.perceptual_weight > 0 and features is None:
        raise ValueError("perceptual_weight is above 0, but no feature extractor was given")
    posterior = model.encode(pixels, return_dict=False)[0]  # [B, C, h, w]
    latents = _disturb(posterior.sample(generator), config.latent_noise, generator)  # [B, C, h, w]
    decoded = model.decode(latents, return_dict=False)[0].float()  # [B, 3, H, W]; losses stay float32 under autocast
    terms = {
        "pixel": config.pixel_weight * F.l1_loss(decoded, pixels),
        "edge": config.edge_weight * edge_loss(decoded, pixels, config.edge_scales),
        "kl": config.kl_weight * posterior.kl().sum() / posterior.mean.numel(),
    }
    if config.perceptual_weight > 0 and features is not None:
        terms["perceptual"] = config.perceptual_weight * perceptual_loss(features, decoded, pixels)
    loss = torch.stack(list(terms.values())).sum()
    return loss, {name: term.detach() for name, term in terms.items()}


def _disturb(latents: Tensor, noise: float, generator: torch.Generator | None) -> Tensor:
    """Add Gaussian noise. Its size follows the latents' deviation, or the encoder would escape it by growing them."""
    if noise == 0:
        return latents
    drawn = torch.randn(latents.shape, generator=generator, device=latents.device, dtype=latents.dtype)
    return latents + noise * latents.detach().std() * drawn


def edge_loss(decoded: Tensor, pixels: Tensor, scales: int) -> Tensor:
    """Mean L1 between the differences of neighbouring pixels, over `scales` halvings of [B, 3, H, W]."""
    error = decoded - pixels  # differences are linear, so those of the error are the error of the differences
    total = error.new_zeros(())
    for scale in range(scales):
        if scale > 0:
            error = F.avg_pool2d(error, 2)  # [B, 3, H / 2^scale, W / 2^scale]
        total = total + error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return total / (2 * scales)


def perceptual_loss(features: FeatureExtractor, decoded: Tensor, pixels: Tensor) -> Tensor:
    """Mean L1 between feature maps; each map is divided by its own mean size on the real picture."""
    with torch.no_grad():
        wanted = features(pixels)
    found = features(decoded)
    distances = [F.l1_loss(f, w) / w.abs().mean().clamp_min(1e-6) for f, w in zip(found, wanted, strict=True)]
    return torch.stack(distances).mean()


@torch.no_grad()
def measure_scaling_factor(model: TinyAutoencoder, pixels: Tensor) -> float:
    """The factor that gives latents unit deviation (as the 0.18215 of Stable Diffusion), from pixels [M, 3, H, W].

    The mean of the posterior is measured, not draws from it, because the mean is what the diffusion model is given. The
    variance is taken about each channel's own mean: a channel that only stands off zero carries nothing.

    Raises:
        ValueError: latents without any deviation, or values that are not finite.
    """
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for batch in pixels.split(MEASURE_BATCH):
        posterior = model.encode(batch.to(model.device, model.dtype), return_dict=False)[0]
        latents = posterior.mode().double().cpu()  # [B, C, h, w]
        count += latents.numel() // latents.shape[1]
        total = total + latents.sum(dim=(0, 2, 3))  # [C]
        squares = squares + latents.square().sum(dim=(0, 2, 3))  # [C]
    variance = (squares / max(count, 1) - (total / max(count, 1)).square()).mean().item()
    if not 1e-12 < variance < float("inf"):
        raise ValueError(f"cannot measure a scaling factor: the variance of the latents is {variance:g}")
    return variance**-0.5
