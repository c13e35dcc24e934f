"""A training step without memory and without arithmetic: the real model, objective and backward on fake tensors.

What lives at each moment and what is computed is then known for any size in seconds, whatever the machine.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from m2m.diffusion.objective import Draws, training_loss
from m2m.model.context import Column, ContextReader
from m2m.model.unet import M2MModel
from m2m.operations import Operations
from m2m.training.encoding import SetEncoder
from m2m.training.image_sets import TrainConfig, set_inputs
from m2m.training.plan.kernels import kernels_of
from m2m.training.plan.outline import Outline, filled
from m2m.training.plan.storages import Event, Storages
from m2m.training.preparing import prepare
from m2m.training.rollout import inference
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
    with _networks(outline, config) as (model, encoder):
        storages, work = Storages(), Operations()
        _settle_gradients(model, storages)
        batch = outline.batch(sets)
        with kernels_of(device), storages, work:
            with _autocast(config):
                latents, context = set_inputs(model, encoder, batch, torch.device("cpu"))
                encoding = len(storages.events)
                draws = _draws(config, latents, keep)
                told = conditions_of(model, *latents.shape[:2])
                loss, _ = training_loss(model, scheduler, latents, context, config.objective, draws, told)
            loss.backward()
            del latents, context, draws, told, loss
        events = tuple(storages.events)
    return Rehearsal(events, encoding, work.flops, work.products())


def rollout_flops(outline: Outline, config: TrainConfig) -> float:
    """Operations a set that the samples in its context take, on average over the steps; see `m2m.training.rollout`."""
    objective = config.objective
    if not objective.rollout_probability:
        return 0.0
    with _networks(outline, config) as (model, encoder), inference(model), _autocast(config):
        latents, context = set_inputs(model, encoder, outline.batch(1), torch.device("cpu"))
        # A sample has 1..N-2 images before it, all equally likely. Operations grow with them along a straight line.
        ends = (1, latents.shape[1] - 2)
        mean = sum(_sample_flops(objective.rollout_steps, model, encoder, latents, context[:, :n]) for n in ends) / 2
    return objective.rollout_probability * mean


def _sample_flops(steps: int, model: M2MModel, encoder: SetEncoder, latents: Tensor, context: Tensor) -> int:
    """Of one sample: the pass that writes its context, `steps` passes that read it, and what makes tokens of it."""
    told, own = conditions_of(model, *context.shape[:2]), conditions_of(model, 1, 1)
    with Operations() as once:
        cache = model.write_context(context, conditions=told)
        reader = ContextReader([Column(cache, (context.shape[1],))])
        if model.config.variant == "dino":
            encoder.tokens_of_latents(latents[:, :1])
    with Operations() as each:
        model.denoise(latents[:, :1], torch.zeros(1, 1, dtype=torch.int64), reader, own)
    return once.flops + steps * each.flops


def conditions_of(model: M2MModel, sets: int, images: int) -> Tensor | None:
    """Conditions of that many images, values unknown, for a model that is told of them."""
    return None if model.condition is None else torch.empty(sets, images, model.condition.dim)


def model_to_train(outline: Outline, config: TrainConfig) -> M2MModel:
    """A copy of the outline's model, frozen and adapted as the run does it; still without weights."""
    model = copy.deepcopy(outline.model)
    set_trainable(model, config.trainable, config.lora_rank, config.frozen_precision, config.seed)
    return model


@contextmanager
def _networks(outline: Outline, config: TrainConfig) -> Iterator[tuple[M2MModel, SetEncoder]]:
    """The model in training mode and what encodes for it; inside, all new tensors are fake, as theirs are."""
    model = model_to_train(outline, config)
    with FakeTensorMode(allow_non_fake_inputs=True):
        prepare(filled(model), replace(config, compile=False))
        autoencoder, vision_encoder = (part and filled(copy.deepcopy(part)) for part in outline.encoders)
        yield model.train(), SetEncoder(autoencoder, vision_encoder)


def _autocast(config: TrainConfig) -> torch.autocast:
    return torch.autocast("cpu", getattr(torch, config.precision), enabled=config.precision != "float32")


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
        return Draws(timesteps, noise, keep, keep)
    return Draws(timesteps, noise, keep, keep, timesteps[:, :images], torch.empty(sets, images, *shape))
