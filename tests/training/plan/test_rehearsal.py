"""A rehearsal against the same step with real tensors."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from m2m.diffusion.objective import Draws, ObjectiveConfig, training_loss
from m2m.operations import Operations
from m2m.training.encoding import SetEncoder
from m2m.training.plan.rehearsal import Rehearsal, rehearse, rollout_flops
from m2m.training.plan.storages import Storages, live_peak
from m2m.training.rollout import roll_out
from tests.tiny import tiny_autoencoder, tiny_context, tiny_encoder, tiny_model, tiny_scheduler, tiny_task_model
from tests.training.plan.outlines import IMAGES, SMALLEST, tiny_outline, tiny_settings

SETS = 2
KEEP = torch.tensor([False, True])


def peak(rehearsal: Rehearsal) -> int:
    return live_peak(event.size for event in rehearsal.events if not event.gradient)


def real_peak(variant: str, checkpointing: bool, told: bool) -> int:
    """Of what really lives in a step. told: of a model with a condition."""
    model = (tiny_task_model(variant) if told else tiny_model(variant)).train()
    if checkpointing:
        model.enable_gradient_checkpointing()
    latents = torch.zeros(SETS, IMAGES, 4, 8, 8)
    context = latents if variant == "self" else tiny_context(model, SETS, IMAGES)
    timesteps = torch.zeros(SETS, IMAGES, dtype=torch.int64)
    draws = Draws(timesteps, torch.zeros_like(latents), KEEP, KEEP)
    storages = Storages()
    with storages:
        conditions = torch.zeros(SETS, IMAGES, 3) if told else None
        loss, _ = training_loss(model, tiny_scheduler(), latents, context, ObjectiveConfig(), draws, conditions)
        loss.backward()
    return live_peak(event.size for event in storages.events)


@pytest.mark.parametrize(("variant", "checkpointing"), [("self", True), ("dino", False)])
@pytest.mark.parametrize("told", [False, True])
def test_it_holds_what_a_real_step_holds(variant: str, checkpointing: bool, told: bool) -> None:
    """Guards against operations that keep more on fake tensors than on real ones, or less."""
    config = tiny_settings(gradient_checkpointing=checkpointing)
    outline = tiny_outline(variant)
    if told:
        outline.model.add_condition(tiny_task_model().condition)
    planned = peak(rehearse(outline, config, SETS, "cpu", drop=True))
    assert abs(planned / real_peak(variant, checkpointing, told) - 1) < 0.01


def test_operations_are_those_of_a_real_step() -> None:
    """Guards against products that are not counted, attention's for instance, and against passes too many."""
    model, latents = tiny_model().train(), torch.zeros(1, IMAGES, 4, 8, 8)
    draws = Draws(torch.zeros(1, IMAGES, dtype=torch.int64), torch.zeros_like(latents), KEEP[1:], KEEP[1:])
    # The plain attention, for the counter does not know a CPU's fused one, whose backward makes one product more.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        training_loss(model, tiny_scheduler(), latents, latents, ObjectiveConfig(), draws)[0].backward()
    rehearsed = rehearse(tiny_outline(), tiny_settings(), 1, "cpu").flops
    assert 1 <= rehearsed / counter.get_total_flops() < 1.02


@pytest.mark.parametrize("variant", ["self", "dino"])
def test_rollouts_are_counted_as_they_are_run(variant: str) -> None:
    """Bug: eight more passes in a quarter of the steps that a plan's hours know nothing of."""
    images, steps = 5, 3
    model, encoder = tiny_model(variant), SetEncoder(tiny_autoencoder(), tiny_encoder())
    latents = torch.zeros(1, images, 4, 8, 8)
    context = latents if variant == "self" else tiny_context(model, 1, images)
    generators = [torch.Generator()]
    to_context = encoder.tokens_of_latents if variant == "dino" else None
    with Operations() as work:
        for start in range(1, images - 1):
            roll_out(model, tiny_scheduler(), latents, context, start, steps, generators, to_context)
    arrays = {"latents": latents.shape[1:], "features": context.shape[1:]}
    parts = {"autoencoder": tiny_autoencoder(), "vision_encoder": tiny_encoder()}
    outline = tiny_outline(variant, arrays=arrays, **parts)
    objective = ObjectiveConfig(rollout_probability=0.25, rollout_steps=steps)
    found = rollout_flops(outline, tiny_settings(objective=objective))
    assert found == pytest.approx(0.25 * work.flops / (images - 2), rel=1e-3)
    assert rollout_flops(outline, tiny_settings()) == 0


def test_what_changes_a_step_changes_its_rehearsal() -> None:
    """Guards against settings that the rehearsal ignores."""
    outline = tiny_outline(unet=SMALLEST)
    plain = rehearse(outline, tiny_settings(), SETS, "cpu")
    again = rehearse(outline, tiny_settings(gradient_checkpointing=True), SETS, "cpu")
    half = rehearse(outline, tiny_settings(precision="bfloat16"), SETS, "cpu")
    frozen = rehearse(outline, tiny_settings(trainable="image_set_attention", precision="bfloat16"), SETS, "cpu")
    assert peak(again) < 0.7 * peak(plain) and again.flops > 1.1 * plain.flops
    assert peak(half) < 0.8 * peak(plain) and set(half.products) == {torch.bfloat16}
    assert peak(frozen) < peak(half) and frozen.flops < 0.8 * half.flops


def test_pictures_are_encoded_first() -> None:
    """Guards against a plan without what encodes the data."""
    parts = {"autoencoder": tiny_autoencoder(), "vision_encoder": tiny_encoder()}
    pictures = tiny_outline("dino", SMALLEST, arrays={"images": (IMAGES, 64, 64, 3)}, **parts)
    encoded = rehearse(pictures, tiny_settings(), 1, "cpu")
    assert encoded.flops > rehearse(tiny_outline("dino", SMALLEST), tiny_settings(), 1, "cpu").flops
    assert pictures.encoder_bytes() == sum(t.nbytes for part in parts.values() for t in part.state_dict().values())
    assert all(not isinstance(t, FakeTensor) for part in parts.values() for t in part.parameters())
