"""The task of training the tiny autoencoder on the pictures of image sets."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING
from torch import Tensor, nn

from m2m.data.pictures import to_pixels
from m2m.data.reading.dataset import ReadConfig
from m2m.data.reading.loading import batches
from m2m.data.reading.order import Cursor, OrderConfig
from m2m.data.reading.sets import SetData, open_sets
from m2m.model.autoencoder import TinyAutoencoder
from m2m.training.autoencoder import AutoencoderLossConfig, FeatureExtractor, autoencoder_loss
from m2m.training.loop import LoopConfig
from m2m.training.seeds import step_generator
from m2m.training.task import Batch, Share, StepBatch
from m2m.types import UserError


@dataclass(frozen=True)
class AutoencoderConfig(LoopConfig):
    """A run of `m2m train-autoencoder`.

    data: pictures, as shards (a folder, a glob) or as `world:NAME:SPLIT:COUNT`, rendered as they are read;
    validation: such data for sample grids. size: pixels become their middle square, resized to this side; 0: as stored,
    or as the world paints. model: fields of TinyAutoencoder. A step is `batch_images` pictures, each of another set.
    workers: processes that load data. export: folder of the finished autoencoder.
    """

    data: str = MISSING
    validation: str = ""
    size: int = 0
    model: dict[str, Any] = field(default_factory=dict)
    objective: AutoencoderLossConfig = field(default_factory=AutoencoderLossConfig)
    batch_images: int = 32
    workers: int = 1
    export: str = ""


def open_pictures(spec: str, config: AutoencoderConfig) -> SetData:
    """Sets of pictures, of which every visit draws one. Raises UserError, also where they are stored as latents."""
    data = open_sets(spec, ReadConfig(images=1, seed=config.seed, size=config.size or None))
    if data.encoders is not None:
        raise UserError(f"'{spec}' holds latents; an autoencoder trains on pictures, e.g. world:mini:train:6000")
    return data


def pictures(data: SetData, count: int, seed: int, step: int = 0, workers: int = 0) -> Generator[Tensor, None, None]:
    """Batches of `count` pictures, uint8 [count, H, W, 3], from step `step` on.

    An epoch takes one picture of every set, the next epoch others. What a step sees follows from its number and the
    seed. workers: processes that read ahead.
    """
    start = Cursor(*divmod(step * count, len(data)))
    with closing(batches(data, data.order(OrderConfig(count, seed), start), workers)) as loaded:
        for sets in loaded:
            assert sets.images is not None  # `open_pictures` has seen to it
            yield sets.images[:, 0]


class AutoencoderTask:
    """Pictures in, reconstruction loss out; batch and draws of a step are functions of (seed, step) alone.

    features: what a perceptual loss compares, for `objective.perceptual_weight` above 0.
    """

    def __init__(
        self,
        model: TinyAutoencoder,
        data: SetData,
        config: AutoencoderConfig,
        features: FeatureExtractor | None = None,
    ) -> None:
        self.module: nn.Module = model
        self._features = features
        self._data = data
        self._config = config

    def accumulation(self, ranks: int) -> int:
        """A step is one batch. Raises UserError for several processes."""
        if ranks > 1:
            raise UserError(f"the autoencoder trains in one process, {ranks} were launched; start `m2m` itself")
        return 1

    def batches(self, step: int, cursor: dict[str, Any], share: Share) -> Iterator[StepBatch]:
        """The pictures of this step and all that follow."""
        config = self._config
        with closing(pictures(self._data, config.batch_images, config.seed, step, config.workers)) as loaded:
            for number, images in enumerate(loaded, start=step):
                yield StepBatch(number, {"images": images})

    def loss(self, module: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, float]]:
        """The loss of the pictures of this step."""
        device = next(module.parameters()).device
        pixels = to_pixels(batch.tensors()["images"].to(device))  # [B, 3, H, W]
        generator = step_generator(self._config.seed, step)
        assert isinstance(module, TinyAutoencoder)  # one process alone: nothing is wrapped around it
        loss, terms = autoencoder_loss(module, pixels, self._config.objective, generator, self._features)
        return loss, {name: float(value) for name, value in terms.items()}
