"""How the probe learns and how good it is: its loss, what it must not be confused by, accuracy and confusions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from m2m.evaluation.truth.probe import TruthProbe

Labels = Mapping[str, Tensor]  # attribute -> indices of its values, int64 [M]


@dataclass(frozen=True)
class ProbeLossConfig:
    """label_smoothing: of the cross entropies. blur, noise: share of pictures that are blurred, or made noisy.

    Generated pictures are a little soft, and rendered ones never: without blur the probe would judge their softness.
    largest_blur: deviation of the Gaussian in pixels; largest_noise: deviation of the noise, of pixels in [-1, 1].
    """

    label_smoothing: float = 0.05
    blur: float = 0.5
    largest_blur: float = 1.2
    noise: float = 0.5
    largest_noise: float = 0.1


def probe_loss(
    probe: TruthProbe, pixels: Tensor, labels: Labels, config: ProbeLossConfig, generator: torch.Generator
) -> tuple[Tensor, dict[str, float]]:
    """Sum of the attributes' cross entropies over pixels [M, 3, S, S] and their labels, and the share right in each."""
    logits = probe(disturb(pixels, config, generator))
    smoothing = config.label_smoothing
    losses = [F.cross_entropy(own, labels[name], label_smoothing=smoothing) for name, own in logits.items()]
    return torch.stack(losses).sum(), accuracies({name: own.argmax(1) for name, own in logits.items()}, labels)


def disturb(pixels: Tensor, config: ProbeLossConfig, generator: torch.Generator) -> Tensor:
    """Blur some of the pictures [M, 3, S, S] and lay noise on some, each as strongly as the (CPU) generator says."""
    count = len(pixels)
    draws = torch.rand(4, count, generator=generator)
    sigma = (draws[0] < config.blur) * draws[1] * config.largest_blur
    strength = (draws[2] < config.noise) * draws[3] * config.largest_noise
    noise = torch.randn(pixels.shape, generator=generator) * strength[:, None, None, None]
    return blurred(pixels, sigma.to(pixels.device)) + noise.to(pixels.device)


def blurred(pixels: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of each picture [M, 3, S, S] by its own deviation [M] in pixels; 0 leaves it as it is."""
    reach = 3  # pixels to each side: 2.5 deviations of the largest blur in use
    offsets = torch.arange(-reach, reach + 1, device=pixels.device)
    weights = torch.exp(-0.5 * (offsets / sigma.clamp_min(1e-3)[:, None]) ** 2)  # [M, taps]
    weights = (weights / weights.sum(1, keepdim=True)).repeat_interleave(3, dim=0)  # [3M, taps]
    maps = F.pad(pixels, (reach,) * 4, mode="replicate").flatten(0, 1)[None]  # [1, 3M, S+2r, S+2r]
    maps = F.conv2d(maps, weights[:, None, None, :], groups=len(weights))  # [1, 3M, S+2r, S]
    maps = F.conv2d(maps, weights[:, None, :, None], groups=len(weights))  # [1, 3M, S, S]
    return maps[0].unflatten(0, pixels.shape[:2])  # [M, 3, S, S]


def accuracies(found: Labels, labels: Labels) -> dict[str, float]:
    """Share right by attribute; `found` is what `TruthProbe.classify` gives."""
    return {name: float((found[name] == own).float().mean()) for name, own in labels.items()}


def confusions(found: Tensor, truth: Tensor, values: list, limit: int = 5) -> list[tuple[object, object, int]]:
    """The pairs (truth, what was found instead, how often) that are confused most, of int64 [M] each."""
    wrong = found != truth
    pairs, counts = torch.unique(torch.stack([truth[wrong], found[wrong]]), dim=1, return_counts=True)
    order = counts.argsort(descending=True, stable=True)[:limit].tolist()
    return [(values[int(pairs[0, i])], values[int(pairs[1, i])], int(counts[i])) for i in order]
