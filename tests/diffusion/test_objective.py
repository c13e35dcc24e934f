"""Equation 5, its options, and what it draws."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor

from m2m.diffusion.objective import (
    Draws,
    ObjectiveConfig,
    add_noise,
    check_objective,
    draw,
    min_snr_weights,
    prediction_errors,
    prediction_target,
    set_length,
    shifted,
    training_loss,
)
from m2m.types import UserError
from tests.tiny import tiny_context, tiny_model, tiny_scheduler

EVERYTHING = ObjectiveConfig(context_dropout=0.5, noise_draws=2, context_noise=200)
ZERO_TERMINAL = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}


def draws_of(config: ObjectiveConfig, sets: list[int], images: int = 3) -> Draws:
    """The draws of sets that are known by a number."""
    return draw(config, 1000, (images, 4, 8, 8), [torch.Generator().manual_seed(number) for number in sets])


def latents_of(sets: int, images: int = 3) -> Tensor:
    return torch.randn(sets, images, 4, 8, 8, generator=torch.Generator().manual_seed(5))


class Spy:
    """Stands where the model stands, keeps what it is given, and predicts nothing."""

    def __call__(
        self, noisy: Tensor, context: Tensor, timesteps: Tensor, keep: Tensor, levels: Tensor | None, *task: Tensor
    ) -> Tensor:
        self.context, self.timesteps, self.levels, self.task = context, timesteps, levels, task
        return torch.zeros_like(noisy)


def tensors_of(draws: Draws) -> dict[str, Tensor]:
    return {field.name: getattr(draws, field.name) for field in fields(draws)}


@pytest.mark.parametrize("shared", [False, True])
def test_a_sets_draws_depend_on_nothing_but_its_generator(shared: bool) -> None:
    """Guards against a step whose noise changes with the batch, the micro-batch or the number of processes."""
    config = ObjectiveConfig(0.5, noise_draws=2, shared_timestep=shared, context_noise=200)
    together = tensors_of(draws_of(config, [3, 1, 4, 15]))
    torch.manual_seed(1)
    halves = [tensors_of(draws_of(config, half)) for half in ([3, 1], [4, 15])]
    alone = tensors_of(draws_of(config, [4]))
    for name, tensor in together.items():
        assert torch.equal(tensor, torch.cat([half[name] for half in halves])), name
        assert torch.equal(tensor[2:3], alone[name]), name
    assert not torch.equal(together["noise"][0], together["noise"][1])


def test_the_loss_draws_nothing_itself() -> None:
    """Guards against a draw from the global generator, which would make a resumed run another run."""
    model, latents = tiny_model("self"), latents_of(3)
    state = torch.get_rng_state()
    draws = draws_of(EVERYTHING, [0, 1, 2])
    first = training_loss(model, tiny_scheduler(), latents, latents, EVERYTHING, draws)[0]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, training_loss(model, tiny_scheduler(), latents, latents, EVERYTHING, draws)[0])
    others = draws_of(EVERYTHING, [3, 4, 5])
    assert not torch.equal(first, training_loss(model, tiny_scheduler(), latents, latents, EVERYTHING, others)[0])


@pytest.mark.parametrize("variant", ["self", "dino"])
def test_the_loss_of_a_batch_is_the_mean_of_its_sets(variant: str) -> None:
    """Guards against sets, images or copies folded in one order and unfolded in another."""
    model, latents, context = tiny_model(variant), latents_of(2), tiny_context(tiny_model(variant), 2, 3)
    config, scheduler = ObjectiveConfig(context_dropout=0, noise_draws=2), tiny_scheduler()
    loss, logs = training_loss(model, scheduler, latents, context, config, draws_of(config, [0, 1]))
    errors = [
        prediction_errors(model, scheduler, latents[b : b + 1], context[b : b + 1], draws_of(config, [b]))
        for b in range(2)
    ]
    per_image = torch.cat(errors).mean(dim=(0, 2))
    assert abs(loss - per_image.mean()) < 1e-6
    assert abs(logs["loss_first"] - per_image[0]) < 1e-6 and abs(logs["loss_last"] - per_image[-1]) < 1e-6
    assert loss.requires_grad and not any(log.requires_grad for log in logs.values())


def test_perfect_prediction_has_no_loss() -> None:
    """Guards against a target that does not belong to the noise that was added: an oracle must reach zero."""
    scheduler, latents = tiny_scheduler(prediction_type="v_prediction"), latents_of(2)

    def oracle(noisy: Tensor, context: Tensor, timesteps: Tensor, keep: Tensor, levels: Any) -> Tensor:
        clean = latents.repeat_interleave(2, dim=1)
        alphas = scheduler.alphas_cumprod[timesteps].sqrt()[..., None, None, None]
        sigmas = (1 - scheduler.alphas_cumprod[timesteps]).sqrt()[..., None, None, None]
        noise = (noisy - alphas * clean) / sigmas
        return alphas * noise - sigmas * clean

    config = ObjectiveConfig(noise_draws=2)
    loss, _ = training_loss(oracle, scheduler, latents, latents, config, draws_of(config, [0, 1]))
    assert loss < 1e-6


def test_epsilon_is_the_papers_target() -> None:
    """Equation 5: guards against a prediction type that is read from somewhere else than the scheduler."""
    noise, clean, t = torch.randn(1, 1, 4, 8, 8), torch.randn(1, 1, 4, 8, 8), torch.tensor([[300]])
    assert torch.equal(prediction_target(tiny_scheduler(), clean, noise, t), noise)
    velocity = prediction_target(tiny_scheduler(prediction_type="v_prediction"), clean, noise, t)
    assert not torch.allclose(velocity, noise)
    with pytest.raises(UserError, match="cannot be trained"):
        prediction_target(tiny_scheduler(prediction_type="sample"), clean, noise, t)


def test_full_dropout_makes_the_context_irrelevant() -> None:
    """Guards against a dropout that leaves part of the context visible (section 6.1: the unconditional objective)."""
    model, latents = tiny_model("self"), latents_of(3)
    config = ObjectiveConfig(context_dropout=1.0)
    draws = draws_of(config, [0, 1, 2])
    losses = [
        training_loss(model, tiny_scheduler(), latents, context, config, draws)[0]
        for context in (latents, latents.flip(0))
    ]
    assert torch.equal(*losses)


def test_dropout_takes_its_share_of_the_sets() -> None:
    """Guards against a chance that is taken for its opposite, or that all sets of a batch share."""
    keep = draws_of(ObjectiveConfig(context_dropout=0.2), list(range(400)), images=1).keep
    assert 0.7 < keep.float().mean() < 0.9
    assert draws_of(ObjectiveConfig(context_dropout=0.0), list(range(50)), images=1).keep.all()


def test_shared_timestep_is_one_per_set_and_copy() -> None:
    """Guards against ``shared_timestep`` that shares between sets or copies, or not at all."""
    drawn = {
        shared: draws_of(ObjectiveConfig(shared_timestep=shared, noise_draws=2), list(range(6))).timesteps
        for shared in (True, False)
    }
    shared, independent = (drawn[key].unflatten(1, (3, 2)) for key in (True, False))
    assert (shared == shared[:, :1]).all() and len(shared[:, 0].unique()) > 6
    assert not (independent == independent[:, :1]).all()


def test_timesteps_cover_the_schedule() -> None:
    """Guards against a range that misses its ends, which then stay untrained."""
    config = ObjectiveConfig(noise_draws=50)
    timesteps = draw(config, 10, (3, 1, 1, 1), [torch.Generator().manual_seed(0)]).timesteps
    assert timesteps.unique().tolist() == list(range(10))


def test_context_noise_reaches_the_model_with_its_level() -> None:
    """Guards against a noised context whose level the model is not told."""
    spy, latents, config = Spy(), latents_of(4), ObjectiveConfig(context_noise=200)
    training_loss(spy, tiny_scheduler(), latents, latents, config, draws_of(config, list(range(4))))
    assert spy.levels.shape == (4, 3) and spy.levels.min() >= 0 and spy.levels.max() <= 200
    distance = (spy.context - latents).square().mean(dim=(2, 3, 4)).sqrt().flatten()
    levels = spy.levels.flatten()
    order = levels.argsort()
    assert torch.corrcoef(torch.stack([levels[order].float(), distance[order]]))[0, 1] > 0.9


def test_add_noise_follows_the_schedule() -> None:
    """Guards against sets and images folded in another order than their timesteps."""
    scheduler = tiny_scheduler()
    clean, noise = torch.zeros(2, 2, 1, 1, 1), torch.ones(2, 2, 1, 1, 1)
    timesteps = torch.tensor([[0, 100], [500, 999]])
    expected = (1 - scheduler.alphas_cumprod[timesteps]).sqrt()
    assert torch.allclose(add_noise(scheduler, clean, noise, timesteps)[..., 0, 0, 0], expected)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_min_snr_weights_follow_their_equation(kind: str) -> None:
    """Hang et al. (2023): guards against the weight of epsilon being given to v, or the signal taken for the noise."""
    scheduler, timesteps = tiny_scheduler(prediction_type=kind), torch.tensor([[0, 100], [500, 999]])
    alphas = scheduler.alphas_cumprod.double()[timesteps]
    snr = alphas / (1 - alphas)
    expected = torch.minimum(snr, torch.tensor(5.0)) / (snr if kind == "epsilon" else snr + 1)
    weights = min_snr_weights(scheduler, timesteps, 5.0)
    assert weights.dtype == torch.float32 and torch.allclose(weights.double(), expected, rtol=1e-4)
    assert weights[0, 0] < 0.01 and (weights[1, 1] == 1) == (kind == "epsilon")


def test_min_snr_weights_every_copy_by_its_own_timestep() -> None:
    """Guards against weights that meet the errors in another order than (images, copies)."""
    model, latents, scheduler = tiny_model("self"), latents_of(2), tiny_scheduler()
    config = ObjectiveConfig(noise_draws=2, min_snr_gamma=5)
    draws = draws_of(config, [0, 1])
    errors = prediction_errors(model, scheduler, latents, latents, draws)
    weights = min_snr_weights(scheduler, draws.timesteps, 5)
    expected = sum(errors[b, i, k] * weights[b, 2 * i + k] for b in range(2) for i in range(3) for k in range(2)) / 12
    assert abs(training_loss(model, scheduler, latents, latents, config, draws)[0] - expected) < 1e-6


def test_zero_terminal_schedule_trains() -> None:
    """Guards against 0 / 0 at the last timestep, whose signal-to-noise ratio is zero."""
    scheduler, latents = tiny_scheduler(**ZERO_TERMINAL), latents_of(1)
    config = ObjectiveConfig(min_snr_gamma=5)
    draws = draws_of(config, [0])
    draws.timesteps.fill_(999)
    assert min_snr_weights(scheduler, draws.timesteps, 5).eq(0).all()
    assert prediction_errors(tiny_model(), scheduler, latents, latents, draws).isfinite().all()
    assert training_loss(tiny_model(), scheduler, latents, latents, config, draws)[0] == 0
    epsilon = tiny_scheduler(**{**ZERO_TERMINAL, "prediction_type": "epsilon"})
    assert min_snr_weights(epsilon, draws.timesteps, 5).eq(1).all()
    with pytest.raises(UserError, match="v_prediction"):
        check_objective(ObjectiveConfig(), 3, "self", epsilon)


def test_shifted_timesteps_have_the_median_of_their_equation() -> None:
    """Guards against a shift towards low noise, one out of range, and one that changes other draws."""
    plain = draws_of(ObjectiveConfig(), list(range(500)))
    drawn = draws_of(ObjectiveConfig(timestep_shift=3.0), list(range(500)))
    assert drawn.timesteps.min() >= 0 and drawn.timesteps.max() <= 999
    assert (drawn.timesteps > 750).double().mean().item() == pytest.approx(0.5, abs=0.03)
    assert torch.equal(drawn.noise, plain.noise) and torch.equal(drawn.keep, plain.keep)
    assert torch.equal(shifted(plain.timesteps, 1000, 1.0), plain.timesteps)
    assert shifted(torch.tensor([0, 499, 999]), 1000, 3.0).tolist() == [1, 749, 999]


def test_random_set_length_reaches_every_length() -> None:
    """Guards against a length that never is N, and against a draw where the option is off."""
    generator = torch.Generator().manual_seed(0)
    lengths = {set_length(ObjectiveConfig(random_set_length=True), 5, generator) for _ in range(100)}
    assert lengths == {2, 3, 4, 5}
    state = generator.get_state()
    assert set_length(ObjectiveConfig(), 5, generator) == 5 and torch.equal(generator.get_state(), state)


@pytest.mark.parametrize(
    ("options", "images", "variant", "words"),
    [
        ({"context_dropout": 1.5}, 4, "self", "context_dropout is 1.5: use 0 to 1"),
        ({"context_dropout": float("nan")}, 4, "self", "context_dropout"),
        ({"noise_draws": 0}, 4, "self", "noise_draws is 0: use 1 or more"),
        ({"context_noise": 1000}, 4, "self", r"context_noise is 1000: use 0 \(clean\) to 999"),
        ({"context_noise": 10}, 4, "dino", "M2M-Self"),
        ({"min_snr_gamma": -1.0}, 4, "self", "min_snr_gamma"),
        ({"min_snr_gamma": float("inf")}, 4, "self", "min_snr_gamma"),
        ({"timestep_shift": 0.0}, 4, "self", r"timestep_shift is 0.0: use 1 \(uniform\) or more"),
        ({"timestep_shift": float("nan")}, 4, "self", "timestep_shift"),
        ({"random_set_length": True}, 2, "self", "3 or more images"),
        ({"rollout_probability": 1.1}, 4, "self", "rollout_probability is 1.1: use 0 to 1"),
        ({"rollout_probability": 0.5}, 2, "self", "3 or more images"),
        ({"rollout_steps": 0}, 4, "self", "rollout_steps is 0: use 1 to 999"),
        ({"rollout_steps": 1000}, 4, "self", "rollout_steps"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], images: int, variant: str, words: str) -> None:
    """Guards against an option that trains something else than it says, hours into a run."""
    with pytest.raises(UserError, match=words):
        check_objective(ObjectiveConfig(**options), images, variant, tiny_scheduler())


def test_options_in_range_are_taken() -> None:
    """Guards against a check that refuses what the README offers."""
    most = ObjectiveConfig(1.0, 4, True, 999, 5.0, True, 1.0, 999)
    check_objective(most, 3, "self", tiny_scheduler())
    check_objective(ObjectiveConfig(), 1, "dino", tiny_scheduler(**ZERO_TERMINAL))


def test_condition_dropout_is_that_of_section_6_2() -> None:
    """Guards against a condition that stays where its context went, and against other shares than 10% and 10%."""
    drawn = draws_of(ObjectiveConfig(), list(range(4000)), images=1)
    assert drawn.keep_condition is not None
    assert not (drawn.keep_condition & ~drawn.keep).any()
    alone = drawn.keep & ~drawn.keep_condition
    assert 0.085 < (~drawn.keep).float().mean() < 0.115
    assert 0.085 < alone.float().mean() < 0.115


def test_conditions_and_their_dropout_reach_the_model() -> None:
    """Guards against a task whose conditions the objective forgets."""
    spy, latents, draws = Spy(), latents_of(2), draws_of(ObjectiveConfig(), [1, 2])
    conditions = torch.randn(2, 3, 5)
    training_loss(spy, tiny_scheduler(), latents, latents, ObjectiveConfig(), draws, conditions)
    assert torch.equal(spy.task[0], conditions) and spy.task[1] is draws.keep_condition
    training_loss(spy, tiny_scheduler(), latents, latents, ObjectiveConfig(), draws)
    assert spy.task == ()
