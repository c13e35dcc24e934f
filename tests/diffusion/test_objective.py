"""Equation 5 and what it draws."""

from __future__ import annotations

import pytest
import torch

from m2m.diffusion.objective import ObjectiveConfig, add_noise, prediction_target, training_loss
from tests.tiny import tiny_context, tiny_model, tiny_scheduler


def loss_of(model, config: ObjectiveConfig, scheduler=None, seed: int = 0, latents=None):
    latents = torch.randn(3, 3, 4, 8, 8, generator=torch.Generator().manual_seed(5)) if latents is None else latents
    context = latents if model.config.variant == "self" else tiny_context(model, 3, 3)
    generator = torch.Generator().manual_seed(seed)
    return training_loss(model, scheduler or tiny_scheduler(), latents, context, config, generator)


@pytest.mark.parametrize("variant", ["self", "dino"])
def test_the_generator_decides_the_loss(variant: str) -> None:
    """Guards against a draw from the global generator, which would make a resumed run another run."""
    model = tiny_model(variant)
    first = loss_of(model, ObjectiveConfig())[0]
    torch.manual_seed(1)
    assert torch.equal(first, loss_of(model, ObjectiveConfig())[0])
    assert not torch.equal(first, loss_of(model, ObjectiveConfig(), seed=1)[0])


def test_perfect_prediction_has_no_loss() -> None:
    """Guards against a target that does not belong to the noise that was added: an oracle must reach zero."""
    scheduler = tiny_scheduler(prediction_type="v_prediction")
    latents = torch.randn(2, 2, 4, 8, 8)

    def oracle(noisy, context, timesteps, keep, levels):
        clean = latents.repeat_interleave(2, dim=1)
        alphas = scheduler.alphas_cumprod[timesteps].sqrt()[..., None, None, None]
        sigmas = (1 - scheduler.alphas_cumprod[timesteps]).sqrt()[..., None, None, None]
        noise = (noisy - alphas * clean) / sigmas
        return alphas * noise - sigmas * clean

    config = ObjectiveConfig(noise_draws=2)
    loss, _ = training_loss(oracle, scheduler, latents, latents, config, torch.Generator().manual_seed(0))
    assert loss < 1e-6


def test_epsilon_is_the_papers_target() -> None:
    """Equation 5: guards against a prediction type that is read from somewhere else than the scheduler."""
    noise, clean, t = torch.randn(1, 1, 4, 8, 8), torch.randn(1, 1, 4, 8, 8), torch.tensor([[300]])
    assert torch.equal(prediction_target(tiny_scheduler(), clean, noise, t), noise)
    velocity = prediction_target(tiny_scheduler(prediction_type="v_prediction"), clean, noise, t)
    assert not torch.allclose(velocity, noise)
    with pytest.raises(ValueError, match="cannot be trained"):
        prediction_target(tiny_scheduler(prediction_type="sample"), clean, noise, t)


def test_full_dropout_makes_the_context_irrelevant() -> None:
    """Guards against a dropout that leaves part of the context visible (section 6.1: the unconditional objective)."""
    model = tiny_model("self")
    latents = torch.randn(3, 3, 4, 8, 8)
    config = ObjectiveConfig(context_dropout=1.0)
    losses = []
    for context in (latents, latents.flip(0)):
        generator = torch.Generator().manual_seed(0)
        losses.append(training_loss(model, tiny_scheduler(), latents, context, config, generator)[0])
    assert torch.equal(*losses)


def test_shared_timestep_is_one_per_set_and_draw() -> None:
    """Guards against ``shared_timestep`` that shares between sets, or not at all."""
    seen = []

    def spy(noisy, context, timesteps, keep, levels):
        seen.append(timesteps)
        return torch.zeros_like(noisy)

    latents = torch.randn(6, 3, 4, 8, 8)
    for shared in (True, False):
        config = ObjectiveConfig(shared_timestep=shared, noise_draws=2)
        training_loss(spy, tiny_scheduler(), latents, latents, config, torch.Generator().manual_seed(0))
    shared, independent = (t.unflatten(1, (3, 2)) for t in seen)
    assert (shared == shared[:, :1]).all() and len(shared[:, 0, 0].unique()) > 1
    assert not (independent == independent[:, :1]).all()


def test_context_noise_reaches_the_model_with_its_level() -> None:
    """Guards against a noised context whose level the model is not told."""
    seen = {}

    def spy(noisy, context, timesteps, keep, levels):
        seen.update(context=context, levels=levels)
        return torch.zeros_like(noisy)

    latents = torch.randn(4, 3, 4, 8, 8)
    config = ObjectiveConfig(context_noise=200)
    training_loss(spy, tiny_scheduler(), latents, latents, config, torch.Generator().manual_seed(0))
    assert seen["levels"].shape == (4, 3) and seen["levels"].min() >= 0 and seen["levels"].max() <= 200
    distance = (seen["context"] - latents).square().mean(dim=(2, 3, 4)).sqrt().flatten()
    order = seen["levels"].flatten().argsort()
    assert torch.corrcoef(torch.stack([seen["levels"].flatten()[order].float(), distance[order]]))[0, 1] > 0.9


def test_add_noise_follows_the_schedule() -> None:
    """Guards against sets and images folded in another order than their timesteps."""
    scheduler = tiny_scheduler()
    clean, noise = torch.zeros(2, 2, 1, 1, 1), torch.ones(2, 2, 1, 1, 1)
    timesteps = torch.tensor([[0, 100], [500, 999]])
    expected = (1 - scheduler.alphas_cumprod[timesteps]).sqrt()
    assert torch.allclose(add_noise(scheduler, clean, noise, timesteps)[..., 0, 0, 0], expected)
