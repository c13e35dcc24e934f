"""The context that the model makes itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from m2m.diffusion.noise import image_generator
from m2m.diffusion.objective import ObjectiveConfig, draw, prediction_errors, training_loss
from m2m.model.unet import M2MModel
from m2m.training.rollout import inference, roll_out, rollout_start
from tests.model.reference import reference_prediction
from tests.tiny import (
    CONTEXT_DIM,
    TOKENS,
    pictures,
    tiny_context,
    tiny_model,
    tiny_pipeline,
    tiny_scheduler,
    tiny_task_model,
)

STEPS = 3
ZERO_TERMINAL = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
SCHEDULES = [{}, {"prediction_type": "v_prediction"}, ZERO_TERMINAL]


def generators(sets: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(b) for b in range(sets)]


def inputs(model: M2MModel, sets: int = 2, images: int = 4) -> tuple[Tensor, Tensor]:
    latents = torch.randn(sets, images, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    return latents, latents if model.config.variant == "self" else tiny_context(model, sets, images)


def to_tokens(latents: Tensor) -> Tensor:
    """Vision tokens of a kind, for a model that takes them: a fixed projection of the latents [B, 1, C, h, w]."""
    projection = torch.randn(4 * 8 * 8, TOKENS * CONTEXT_DIM, generator=torch.Generator().manual_seed(7)) / 16
    return (latents.flatten(2) @ projection).unflatten(2, (TOKENS, CONTEXT_DIM))


def rolled(model: M2MModel, start: int = 1, **schedule: object) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, context, and the context with one image that the model made."""
    latents, context = inputs(model)
    convert = to_tokens if model.config.variant == "dino" else None
    made = roll_out(model, tiny_scheduler(**schedule), latents, context, start, STEPS, generators(2), convert)
    return latents, context, made


@pytest.mark.parametrize("schedule", SCHEDULES, ids=["epsilon", "v", "zero_terminal"])
@pytest.mark.parametrize("variant", ["self", "dino"])
@torch.no_grad()
def test_a_rollout_is_ddim_over_the_true_images_before_it(variant: str, schedule: dict[str, object]) -> None:
    """Guards against a sample that sees itself or later images, or that follows another schedule than the run's."""
    model = tiny_model(variant)
    latents, context, made = rolled(model, start=2, **schedule)
    convert = to_tokens if variant == "dino" else lambda latents: latents
    for b, generator in enumerate(generators(2)):
        scheduler = tiny_scheduler(**schedule)
        scheduler.set_timesteps(STEPS)
        sample = torch.randn(latents.shape[2:], generator=generator)
        for timestep in scheduler.timesteps:
            predicted = reference_prediction(model, sample, int(timestep), context[b, :2])
            sample = scheduler.step(predicted, timestep, sample).prev_sample
        assert sample.isfinite().all()
        assert (made[b, 2] - convert(sample[None, None])[0, 0]).abs().max() < 1e-5
    others = [0, 1, 3]
    assert torch.equal(made[:, others], context[:, others])


def test_a_rollout_is_what_the_pipeline_makes() -> None:
    """Guards against training on images that sampling never makes."""
    pipe = tiny_pipeline("self")
    given = pictures(2)
    sampled = pipe(given, 1, STEPS, guidance_scale=1.0, seed=3, set_ids=["a"], output_type="latent").images[0]
    with torch.no_grad():
        context = torch.cat([pipe.encode(given), torch.zeros(2, 4, 8, 8)]).unsqueeze(0)
    noise = [image_generator(3, "a", 0)]
    made = roll_out(pipe.model, pipe.scheduler, context, context, 2, STEPS, noise)
    assert (made[0, 2] - sampled).abs().max() < 1e-5


@torch.no_grad()
def test_a_rollout_is_told_as_its_place_in_the_set_is() -> None:
    """Guards against conditions that go to the context alone, or are those of another image."""
    model = tiny_task_model("self")
    latents, context = inputs(model)
    told = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(8))
    made = roll_out(model, tiny_scheduler(), latents, context, 2, STEPS, generators(2), None, told)
    for b, generator in enumerate(generators(2)):
        scheduler = tiny_scheduler()
        scheduler.set_timesteps(STEPS)
        sample = torch.randn(latents.shape[2:], generator=generator)
        for timestep in scheduler.timesteps:
            predicted = reference_prediction(model, sample, int(timestep), context[b, :2], told[b, :3])
            sample = scheduler.step(predicted, timestep, sample).prev_sample
        assert (made[b, 2] - sample).abs().max() < 1e-4


@pytest.mark.parametrize("variant", ["self", "dino"])
def test_a_rollout_changes_later_losses_only(variant: str) -> None:
    """Guards against a replaced context that reaches the target, or that nobody sees."""
    model = tiny_model(variant)
    latents, context, made = rolled(model, start=1)
    config = ObjectiveConfig(context_dropout=0)
    draws = draw(config, 1000, (4, 4, 8, 8), generators(2))
    true, own = (prediction_errors(model, tiny_scheduler(), latents, c, draws) for c in (context, made))
    assert torch.equal(true[:, :2], own[:, :2])
    assert not torch.isclose(true[:, 2:], own[:, 2:]).any()


def test_a_rollout_leaves_no_trace() -> None:
    """Guards against global draws, a gradient, a model left in eval mode, and a scheduler left with few steps."""
    model, scheduler = tiny_model("self").train(), tiny_scheduler()
    model.unet.conv_in.eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    modes = [module.training for module in model.modules()]
    latents, context = inputs(model)
    before = context.clone()
    state = torch.get_rng_state()
    made = roll_out(model, scheduler, latents, context, 1, STEPS, generators(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert not made.requires_grad and torch.equal(context, before)
    assert scheduler.num_inference_steps is None
    assert torch.equal(made, roll_out(model, scheduler, latents, context, 1, STEPS, generators(2)))


def test_a_sets_rollout_does_not_depend_on_its_neighbours() -> None:
    """Guards against noise that changes with the batch or the number of processes."""
    model = tiny_model("self")
    latents, context, made = rolled(model)
    alone = roll_out(model, tiny_scheduler(), latents[1:], context[1:], 1, STEPS, generators(2)[1:])
    assert (alone[0] - made[1]).abs().max() < 1e-5
    assert (made[0, 1] - made[1, 1]).abs().max() > 0.1


def test_a_wrapped_model_rolls_out_the_same() -> None:
    """Guards against a wrapper for parallel training, which has none of the model's own methods."""
    model = tiny_model("self")
    latents, context, made = rolled(model)
    wrapped = torch.nn.DataParallel(model)
    again = roll_out(wrapped, tiny_scheduler(), latents, context, 1, STEPS, generators(2))
    assert torch.equal(again, made)


def test_gradients_survive_a_rollout_under_autocast() -> None:
    """Guards against weights that autocast cast without gradient in the rollout, and then reuses in training."""
    model = tiny_model("self").train()
    latents, context = inputs(model)
    config = ObjectiveConfig(context_dropout=0)
    draws = draw(config, 1000, (4, 4, 8, 8), generators(2))
    with torch.autocast("cpu", torch.bfloat16):
        made = roll_out(model, tiny_scheduler(), latents, context, 1, STEPS, generators(2))
        training_loss(model, tiny_scheduler(), latents, made, config, draws)[0].backward()
    assert made.dtype == torch.float32
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_modes_return_after_an_error() -> None:
    """Guards against a failed check that leaves the model in eval mode for the rest of the run."""
    model = tiny_model("self").train()
    with pytest.raises(RuntimeError), inference(model):
        assert not model.training
        raise RuntimeError
    assert all(module.training for module in model.modules())


def test_a_step_decides_which_image_is_rolled_out() -> None:
    """Guards against an image that belongs to no set yet, or the last one, which is nobody's context."""
    config = ObjectiveConfig(rollout_probability=0.5)
    generator = torch.Generator().manual_seed(0)
    starts = [rollout_start(config, 5, generator) for _ in range(200)]
    assert set(starts) == {None, 1, 2, 3} and 70 < starts.count(None) < 130
    assert rollout_start(ObjectiveConfig(rollout_probability=1.0), 2, generator) is None
    state = generator.get_state()
    assert rollout_start(ObjectiveConfig(), 5, generator) is None and torch.equal(generator.get_state(), state)
