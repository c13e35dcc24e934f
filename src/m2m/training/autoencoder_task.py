"""The task of training the tiny autoencoder on stored pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING
from torch import Tensor

from m2m.data.stored import StoredImages, to_pixels
from m2m.model.autoencoder import TinyAutoencoder
from m2m.training.autoencoder import AutoencoderLossConfig, FeatureExtractor, autoencoder_loss
from m2m.training.loop import LoopConfig
from m2m.training.seeds import step_generator


@dataclass(frozen=True)
class AutoencoderConfig(LoopConfig):
    """A run of `m2m train-autoencoder`.

    data: folder with images (`m2m data world --keep-images`); validation: such a folder for sample grids. model: fields
    of TinyAutoencoder. A step is `batch_images` pictures. export: folder of the finished autoencoder.
    """

    data: str = MISSING
    validation: str = ""
    model: dict[str, Any] = field(default_factory=dict)
    objective: AutoencoderLossConfig = field(default_factory=AutoencoderLossConfig)
    batch_images: int = 32
    export: str = ""


class AutoencoderTask:
    """Pictures in, reconstruction loss out; batch and draws of a step are functions of (seed, step) alone.

    features: what a perceptual loss compares, for `objective.perceptual_weight` above 0.
    """

    def __init__(
        self,
        model: TinyAutoencoder,
        images: StoredImages,
        config: AutoencoderConfig,
        features: FeatureExtractor | None = None,
    ) -> None:
        self.module = model
        self._features = features
        self._images = images
        self._config = config

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """The loss of the pictures of this step."""
        config = self._config
        pixels = to_pixels(self._images.batch(config.batch_images, config.seed, step)).to(config.device)  # [B, 3, H, W]
        generator = step_generator(config.seed, step)
        loss, terms = autoencoder_loss(self.module, pixels, config.objective, generator, self._features)
        return loss, {name: float(value) for name, value in terms.items()}
