"""The task of training M2M-Self or M2M-DINO on image sets (equation 5), and the settings of such a run."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from omegaconf import MISSING
from torch import Tensor, nn

from m2m.data.reading.image_set import ImageSetBatch
from m2m.data.reading.loading import batches
from m2m.data.reading.order import Cursor, OrderConfig
from m2m.data.reading.sets import SetData
from m2m.diffusion.objective import ObjectiveConfig, check_objective, draw, set_length, training_loss
from m2m.model.unet import M2MModel
from m2m.training.conditions import check_conditions, set_conditions, task_of
from m2m.training.encoding import SetEncoder
from m2m.training.loop import LoopConfig
from m2m.training.rollout import roll_out, rollout_start
from m2m.training.seeds import set_generator, step_generator
from m2m.training.task import Share
from m2m.training.trainable import check_trainable
from m2m.types import UserError


@dataclass(frozen=True)
class TrainConfig(LoopConfig):
    """A run of `m2m train`.

    What it reads: `data` and `validation`, each shards of latents or of pictures (a folder, a glob, a URL) or
    `world:NAME:SPLIT:COUNT`, rendered as it is read. validation serves the validation losses, every `validate_every`
    steps on its first `validation_sets` sets, and sample grids, every `sample_every` steps; grids need pictures.

    What it trains: `base`, an M2M pipeline (`m2m init`, or trained before); else a new model described by `unet` and
    `scheduler` (config fields of diffusers' UNet2DConditionModel and DDIMScheduler), with the `autoencoder` and
    `vision_encoder` that encoded the data. variant, null_context: of a new model; with a base, variant must agree and
    null_context may change it. from_scratch: take of `base` the structure and the parts beside the model, but draw the
    model's weights anew. trainable: `all`; `transformer_blocks` or `image_set_attention`, the rest frozen in
    `frozen_precision`; `lora`, the latter and adapters of rank `lora_rank` on the rest. zero_terminal_snr: rescale the
    noise schedule so that its last step is pure noise (Lin et al. 2023); for models that predict v.

    task: what the model is fine-tuned for (`m2m.tasks`): `novel_view`, `visual_procedure`, or a class of one's own,
    FILE.py:Class; empty: image sets as they come. condition_warmup: steps over which the task's condition grows from
    its easiest form to its own (`Task.eased`); 0: its own at once. context_sizes: tell the model how many images it is
    shown, up to this many (`M2MModel`); 0: what the base has.

    What its pipeline does where nobody says, also in sample grids, if it is new or of a task: sample_guidance,
    sample_guidance_interval and sample_condition_guidance (s_I and s_C of equation 7); sample_window (0: all) and
    sample_window_policy, the context images that an image is shown. Else all this is the base's, but for the guidance
    of the grids.

    How: a step is `batch_sets` sets of `images_per_set` images over all processes; each runs `micro_batch_sets` at once
    (0: its whole share) and accumulates gradients. workers: processes that load data. too_few: what a set with
    fewer images is, `error` or `skip`. cache: folder for shards behind URLs. export: folder of the finished pipeline.
    """

    data: str = MISSING
    validation: str = ""
    base: str = ""
    from_scratch: bool = False
    task: str = ""
    condition_warmup: int = 0
    context_sizes: int = 0
    autoencoder: str = ""
    vision_encoder: str = ""
    variant: str = ""
    null_context: str = ""
    clean_timestep: int = 0
    unet: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)
    zero_terminal_snr: bool = False
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    trainable: str = "all"
    lora_rank: int = 16
    frozen_precision: str = "bfloat16"
    batch_sets: int = 8
    micro_batch_sets: int = 0
    images_per_set: int = 4
    workers: int = 2
    too_few: str = "error"
    cache: str = ""
    validate_every: int = 0
    validation_sets: int = 32
    sample_steps: int = 25
    sample_guidance: float = 2.0
    sample_guidance_interval: tuple[float, float] = (0.0, 1.0)
    sample_condition_guidance: float = 1.0
    sample_window: int = 0
    sample_window_policy: str = "sliding"
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
        variant=config.variant or "self",
        context_dim=width,
        null_context=config.null_context or "drop",
        clean_timestep=config.clean_timestep,
        context_sizes=config.context_sizes,
    )


def redrawn(model: M2MModel, seed: int) -> M2MModel:
    """A model of the same structure with new random weights, those that `new_model` would draw."""
    torch.manual_seed(seed)
    return model.rebuilt()


def new_scheduler(config: TrainConfig) -> DDIMScheduler:
    """The scheduler of a new model. Raises UserError for a field that it does not have."""
    _check_fields("scheduler", config.scheduler, DDIMScheduler)
    return with_zero_terminal_snr(DDIMScheduler(**config.scheduler), config.zero_terminal_snr)


def with_zero_terminal_snr(scheduler: Any, wanted: bool) -> Any:
    """The scheduler, rescaled so that its last step holds no signal (Lin et al. 2023), if that is wanted.

    Raises UserError for epsilon prediction: from pure noise the noise alone says nothing about the image.
    """
    if not wanted:
        return scheduler
    if scheduler.config.prediction_type != "v_prediction":
        raise UserError(
            f"zero_terminal_snr needs a model that predicts v; this scheduler's prediction_type is "
            f"'{scheduler.config.prediction_type}'"
        )
    return type(scheduler).from_config(scheduler.config, rescale_betas_zero_snr=True, timestep_spacing="trailing")


@dataclass(frozen=True)
class SetBatch:
    """A micro-batch of image sets, as the loop sees it (`Batch`)."""

    sets: ImageSetBatch

    @property
    def keys(self) -> tuple[str, ...]:
        """The sets' names."""
        return self.sets.keys

    @property
    def cursor(self) -> dict[str, Any]:
        """Where reading goes on behind this micro-batch."""
        return {} if self.sets.cursor is None else self.sets.cursor.as_json()

    def tensors(self) -> dict[str, Tensor]:
        """What was read."""
        names = ("images", "latents", "features", "conditions", "numbers")
        named = {name: getattr(self.sets, name) for name in names}
        return {name: tensor for name, tensor in named.items() if tensor is not None}


class ImageSetTask:
    """Image sets in, equation 5 out.

    model and scheduler are the pipeline's; encoder makes latents and tokens where the data are pictures. What a set is
    trained on (its images, its noise) follows from (seed, epoch, its key) alone, whatever the batch it is in.
    Raises UserError where the data does not fit the model.
    """

    def __init__(
        self, model: M2MModel, scheduler: Any, data: SetData, config: TrainConfig, encoder: SetEncoder | None = None
    ) -> None:
        self.module = model
        self._scheduler = scheduler
        self._data = data
        self._config = config
        self._encoder = encoder or SetEncoder()
        self._task = task_of(config.task)
        if config.condition_warmup < 0:
            raise UserError(f"condition_warmup is {config.condition_warmup}: use 0 (none) or more steps")
        check_trainable(config.trainable, config.lora_rank, config.frozen_precision, config.precision)
        check_objective(config.objective, config.images_per_set, model.config.variant, scheduler)
        check_data(model, data, config, self._encoder)

    def accumulation(self, ranks: int) -> int:
        """Micro-batches of a step. Raises UserError where the batch cannot be shared out evenly."""
        config = self._config
        at_once = (config.micro_batch_sets or config.batch_sets // ranks) * ranks
        if at_once == 0 or config.batch_sets % at_once:
            size = config.micro_batch_sets or "an equal number of"
            raise UserError(
                f"batch_sets is {config.batch_sets}: {ranks} processes with {size} sets at once cannot share it evenly"
            )
        return config.batch_sets // at_once

    def batches(self, step: int, cursor: dict[str, Any], share: Share) -> Iterator[SetBatch]:
        """Micro-batches from a cursor on; without one, from where `step` steps over this data would have come."""
        config = self._config
        start = Cursor.from_json(cursor) if cursor else Cursor(*divmod(step * config.batch_sets, len(self._data)))
        order = OrderConfig(config.batch_sets // share.accumulation, config.seed, rank=share.rank, ranks=share.ranks)
        on_gpu = next(self.module.parameters()).is_cuda
        loaded = batches(self._data, self._data.order(order, start), config.workers, pin_memory=on_gpu)
        try:
            yield from (SetBatch(sets) for sets in loaded)
        finally:
            loaded.close()

    def loss(self, module: nn.Module, batch: SetBatch, step: int) -> tuple[Tensor, dict[str, Any]]:
        """Equation 5 on a micro-batch of step `step`."""
        objective, seed = self._config.objective, self._config.seed
        device = next(self.module.parameters()).device
        latents, context = set_inputs(self.module, self._encoder, batch.sets, device)
        of_step = step_generator(seed, step)
        images = set_length(objective, latents.shape[1], of_step)
        latents, context = latents[:, :images], context[:, :images]
        warm = step / self._config.condition_warmup if self._config.condition_warmup else 1.0
        conditions = set_conditions(self._task, batch.sets, device, warm, seed)
        conditions = None if conditions is None else conditions[:, :images]
        generators = [set_generator(seed, *visit) for visit in zip(batch.sets.epochs, batch.keys, strict=True)]
        draws = draw(objective, self._scheduler.config.num_train_timesteps, latents.shape[1:], generators)
        start = rollout_start(objective, images, of_step)
        if start is not None:
            context = self._rolled_out(latents, context, start, generators, conditions)
        return training_loss(module, self._scheduler, latents, context, objective, draws, conditions)

    def _rolled_out(
        self,
        latents: Tensor,
        context: Tensor,
        start: int,
        generators: list[torch.Generator],
        conditions: Tensor | None,
    ) -> Tensor:
        to_context = self._encoder.tokens_of_latents if self.module.config.variant == "dino" else None
        steps = self._config.objective.rollout_steps
        return roll_out(
            self.module, self._scheduler, latents, context, start, steps, generators, to_context, conditions
        )


def set_inputs(
    model: M2MModel, encoder: SetEncoder, sets: ImageSetBatch, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Latents [B, N, C, h, w] and what is attended to: latents again (Self), or tokens [B, N, S, D] (DINO); float32."""
    latents = encoder.latents(sets.images) if sets.latents is None else sets.latents  # type: ignore[arg-type]
    latents = latents.to(device, torch.float32, non_blocking=True)
    # As they are stored. A convolution leaves them with channels last, where torch's group norm on a CPU breaks down
    # behind frozen layers: it writes a gradient of its input that nobody has asked for.
    latents = latents.contiguous()
    if model.config.variant == "self":
        return latents, latents
    if sets.features is not None:
        tokens = sets.features
    else:
        tokens = encoder.tokens_of_latents(latents) if sets.images is None else encoder.tokens(sets.images)
    return latents, tokens.to(device, torch.float32, non_blocking=True)


def check_data(model: M2MModel, data: SetData, config: TrainConfig, encoder: SetEncoder) -> None:
    """Raise UserError where sets of this data cannot train this model."""
    dino = model.config.variant == "dino"
    if config.objective.rollout_probability and dino and not encoder.decodes:
        raise UserError("objective.rollout_probability of M2M-DINO needs the autoencoder and the vision encoder")
    first = data[0]
    check_conditions(task_of(config.task), first, config.data)
    if first.latents is None:
        return  # pictures: what encodes them belongs to the pipeline
    wanted, found = model.unet.config.in_channels, first.latents.shape[1]
    if found != wanted:
        raise UserError(f"data '{config.data}' has latents of {found} channels, the U-Net takes {wanted}")
    if not dino:
        return
    if first.features is None:
        if encoder.decodes:
            return  # the task makes them of the latents
        raise UserError(
            f"data '{config.data}' has no features, which variant 'dino' needs: `m2m data encode --features`"
        )
    if first.features.shape[-1] != model.config.context_dim:
        raise UserError(
            f"data '{config.data}' has features of width {first.features.shape[-1]}, "
            f"the model takes {model.config.context_dim}"
        )


def _check_fields(block: str, given: dict[str, Any], cls: type) -> None:
    known = set(inspect.signature(cls).parameters)
    unknown = sorted(set(given) - known)
    if unknown:
        raise UserError(f"{block}: {', '.join(unknown)} is no config field of diffusers' {cls.__name__}")
