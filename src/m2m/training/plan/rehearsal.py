"""A training step without memory and without arithmetic: the real model, objective and backward on fake tensors.

What lives at each moment and what is computed is then known for any size in seconds, whatever the machine.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from m2m.diffusion.objective import Draws, training_loss
from m2m.model.unet import M2MModel
from m2m.training.encoding import SetEncoder
from m2m.training.image_sets import TrainConfig, set_inputs
from m2m.training.operations import Operations
from m2m.training.plan.kernels import kernels_of
from m2m.training.plan.outline import Outline, filled
from m2m.training.plan.storages import Event, Storages
from m2m.training.preparing import prepare
from m2m.training.trainable import set_trainable


@dataclass(frozen=True)
class Rehearsal:
    """What one micro-batch does.

    events: of its storages, in order; weights are none of them. encoding: how many of the events belong to what is done
    to the data first, without gradient. flops: forward and backward, with what checkpointing computes again. products:
    how many different matrix products and convolutions there are, by their type.
    """

    events: Sequence[Event]
    encoding: int
    flops: int
    products: dict[torch.dtype, int]


def rehearse(outline: Outline, config: TrainConfig, sets: int, device: str, drop: bool = False) -> Rehearsal:
    """One micro-batch of `sets` sets on `device`; drop: one of them loses its context, which takes more memory."""
    # Made outside of the mode, for its values decide which way attention goes; fake tensors have none.
    keep = torch.tensor([not drop] + [True] * (sets - 1))
    scheduler = copy.deepcopy(outline.scheduler)  # it keeps what it has moved to a device, here fake tensors
    model = model_to_train(outline, config)
    with FakeTensorMode(allow_non_fake_inputs=True):
        prepare(filled(model), replace(config, compile=False))
        model.train()
        autoencoder, vision_encoder = (part and filled(copy.deepcopy(part)) for part in outline.encoders)
        encoder = SetEncoder(autoencoder, vision_encoder)
        storages, work = Storages(), Operations()
        _settle_gradients(model, storages)
        batch = outline.batch(sets)
        with kernels_of(device), storages, work:
            with torch.autocast("cpu", getattr(torch, config.precision), enabled=config.precision != "float32"):
                latents, context = set_inputs(model, encoder, batch, torch.device("cpu"))
                encoding = len(storages.events)
                draws = _draws(config, latents, keep)
                loss, _ = training_loss(model, scheduler, latents, context, config.objective, draws)
            loss.backward()
            del latents, context, draws, loss
        events = tuple(storages.events)
    return Rehearsal(events, encoding, work.flops, work.products())


def model_to_train(outline: Outline, config: TrainConfig) -> M2MModel:
    """A copy of the outline's model, frozen and adapted as the run does it; still without weights."""
    model = copy.deepcopy(outline.model)
    set_trainable(model, config.trainable, config.lora_rank, config.frozen_precision, config.seed)
    return model


def _settle_gradients(model: nn.Module, storages: Storages) -> None:
    def settle(parameter: Tensor) -> None:
        assert parameter.grad is not None
        storages.settle(parameter.grad)

    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(settle)


def _draws(config: TrainConfig, latents: Tensor, keep: Tensor) -> Draws:
    sets, images, *shape = latents.shape
    copies = images * config.objective.noise_draws
    timesteps, noise = torch.zeros(sets, copies, dtype=torch.int64), torch.empty(sets, copies, *shape)
    if not config.objective.context_noise:
        return Draws(timesteps, noise, keep)
    return Draws(timesteps, noise, keep, timesteps[:, :images], torch.empty(sets, images, *shape))
