"""The task of training M2M-Self or M2M-DINO on stored image sets (equation 5)."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from omegaconf import MISSING
from torch import Tensor

from m2m.data.latents import LatentSets
from m2m.diffusion.objective import ObjectiveConfig, training_loss
from m2m.model.unet import M2MModel
from m2m.training.loop import LoopConfig
from m2m.training.seeds import step_generator
from m2m.types import UserError


@dataclass(frozen=True)
class TrainConfig(LoopConfig):
    """A run of `m2m train`.

    data, validation: folders of sets (`m2m data world`); the second is for sample grids and must hold images.
    base: an M2M pipeline folder (`m2m init`) to start from; else `unet`, `scheduler` (config fields of diffusers'
    UNet2DConditionModel and DDIMScheduler), `variant`, `null_context` and `clean_timestep` describe a new model, and
    `autoencoder` and `vision_encoder` are what the data was encoded with. A step is `batch_sets` sets of
    `images_per_set` images. export: folder of the finished pipeline. data_on_device: copy the data to the device once.
    """

    data: str = MISSING
    validation: str = ""
    base: str = ""
    autoencoder: str = ""
    vision_encoder: str = ""
    variant: str = "self"
    null_context: str = "drop"
    clean_timestep: int = 0
    unet: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    batch_sets: int = 8
    images_per_set: int = 4
    data_on_device: bool = False
    sample_steps: int = 25
    sample_guidance: float = 2.0
    sample_guidance_interval: tuple[float, float] = (0.0, 1.0)
    export: str = ""


def new_model(config: TrainConfig, context_dim: int | None) -> M2MModel:
    """A model with random weights, drawn from `config.seed`. context_dim: the width of vision tokens (M2M-DINO).

    Raises UserError for a field that diffusers' U-Net does not have (diffusers itself would ignore it).
    """
    _check_fields("unet", config.unet, UNet2DConditionModel)
    torch.manual_seed(config.seed)
    width = context_dim if config.variant == "dino" else None
    # By keyword: diffusers takes what is given by position for a default, and `from_config` then drops it.
    return M2MModel(
        unet_config=config.unet,
        variant=config.variant,
        context_dim=width,
        null_context=config.null_context,
        clean_timestep=config.clean_timestep,
    )


def new_scheduler(config: TrainConfig) -> DDIMScheduler:
    """The scheduler of a new model. Raises UserError for a field that it does not have."""
    _check_fields("scheduler", config.scheduler, DDIMScheduler)
    return DDIMScheduler(**config.scheduler)


class ImageSetTask:
    """Sets of latents in, equation 5 out.

    model and scheduler are the pipeline's. The batch and the noise of a step are functions of (seed, step) alone.
    Raises UserError where the data does not fit the model.
    """

    def __init__(self, model: M2MModel, scheduler: Any, sets: LatentSets, config: TrainConfig) -> None:
        self.module = model
        self._scheduler = scheduler
        self._sets = sets
        self._config = config
        self._device = torch.device(config.device)
        self._check_data()

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Equation 5 on the batch of this step."""
        config = self._config
        batch = self._sets.batch(config.batch_sets, config.images_per_set, config.seed, step)
        latents = batch.latents.to(self._device)  # [B, N, C, h, w]
        context = latents  # [B, N, C, h, w]
        if self.module.config.variant == "dino" and batch.features is not None:
            context = batch.features.to(self._device)  # [B, N, S, D]
        generator = step_generator(config.seed, step)
        return training_loss(self.module, self._scheduler, latents, context, config.objective, generator)

    def _check_data(self) -> None:
        if self._config.objective.context_noise and self.module.config.variant == "dino":
            raise UserError("objective.context_noise is for M2M-Self: the features of M2M-DINO have no timestep")
        wanted, found = self.module.unet.config.in_channels, self._sets.latents.shape[2]
        if found != wanted:
            raise UserError(f"'{self._sets.folder}' has latents of {found} channels, the U-Net takes {wanted}")
        if self.module.config.variant == "dino":
            features = self._sets.features
            if features is None:
                raise UserError(
                    f"'{self._sets.folder}' has no features.npy, which variant 'dino' needs; see --features"
                )
            if features.shape[-1] != self.module.config.context_dim:
                raise UserError(
                    f"'{self._sets.folder}' has features of width {features.shape[-1]}, "
                    f"the model takes {self.module.config.context_dim}"
                )


def _check_fields(block: str, given: dict[str, Any], cls: type) -> None:
    known = set(inspect.signature(cls).parameters)
    unknown = sorted(set(given) - known)
    if unknown:
        raise UserError(f"{block}: {', '.join(unknown)} is no config field of diffusers' {cls.__name__}")
