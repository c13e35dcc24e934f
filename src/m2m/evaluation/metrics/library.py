"""torchmetrics over features that are there already: its metrics call a network, and ours hands on what it gets."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from m2m.types import UserError


class Given(nn.Module):
    """A feature network that gives back its input; dim: length of a feature vector, which torchmetrics asks for."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.num_features = dim

    def forward(self, features: Tensor) -> Tensor:
        return features  # [M, D]


def metric(name: str, **settings: Any) -> Any:
    """An image metric of torchmetrics, such as "fid.FrechetInceptionDistance". Raises UserError without it."""
    module, name = name.split(".")
    try:
        made = getattr(import_module(f"torchmetrics.image.{module}"), name)
    except ImportError as error:
        raise UserError("FD, KID and IS need torchmetrics: pip install 'm2m-diffusion[eval]'") from error
    with warnings.catch_warnings():  # some warn that they keep all features, which are in memory here anyway
        warnings.filterwarnings("ignore", message=".*will save all extracted features")
        return made(**settings)


def sample(features: Tensor, at_least: int, name: str) -> Tensor:
    """Features [M, D] in float64, in which sums of squares keep their digits.

    Raises UserError for fewer than `at_least`, ValueError for another shape or features that are not finite.
    """
    if features.ndim != 2:
        raise ValueError(f"features of {name} must be [M, D], not {list(features.shape)}")
    if len(features) < at_least:
        raise UserError(f"{name} needs at least {at_least} images, and got {len(features)}: evaluate more sets")
    if not torch.isfinite(features).all():  # with a NaN, LAPACK's eigenvalues can end the whole process
        raise ValueError(f"features of {name} are not all finite: leave out the images that are missing")
    return features.double()


def computed(made: Any, seed: int) -> list[float]:
    """What a metric computes, with draws of its own: torch's generators are afterwards as they were before."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs too, and for good
        warnings.filterwarnings("ignore", message=".*degrees of freedom")  # the deviation of a single part is NaN
        return [float(value) for value in made.compute()]
