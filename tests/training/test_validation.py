"""Validation losses: fixed sets, fixed noise, means by noise level and by length of the context."""

from __future__ import annotations

import pytest
import torch

from m2m.diffusion.objective import ObjectiveConfig, draw, prediction_errors
from m2m.model.unet import M2MModel
from m2m.training import validation
from m2m.training.seeds import set_generator
from m2m.training.validation import validation_losses
from tests.tiny import tiny_context, tiny_model, tiny_scheduler, tiny_task_model

BUCKETS = ["timestep_0-249", "timestep_250-499", "timestep_500-749", "timestep_750-999"]


def losses(model: M2MModel, sets: int = 3, **options: int) -> dict[str, float]:
    latents = torch.randn(3, 3, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    context = latents if model.config.variant == "self" else tiny_context(model, 3, 3)
    return validation_losses(model, tiny_scheduler(), latents[:sets], context[:sets], **options)


@pytest.mark.parametrize("variant", ["self", "dino"])
def test_same_weights_same_numbers(variant: str) -> None:
    """Guards against a validation loss that moves with the noise, the mode or the batch instead of the weights."""
    model = tiny_model(variant).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    state = torch.get_rng_state()
    first = losses(model)
    assert losses(model) == first
    assert torch.equal(torch.get_rng_state(), state) and all(module.training for module in model.modules())
    assert losses(model, batch_sets=2) == pytest.approx(first, rel=1e-5)
    with torch.no_grad():
        model.unet.conv_out.weight.add_(0.01)
    changed = losses(model)
    assert all(changed[name] != value for name, value in first.items())
    assert losses(model, seed=1) != changed


def test_large_sets_are_run_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that training takes in micro-batches is too large with each image in every bucket, at 512 pixels."""
    seen = []
    model = tiny_model("self")
    model.register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0])))
    whole = losses(model, batch_sets=3)
    monkeypatch.setattr(validation, "PLACES", 2 * 3 * 4 * 8 * 8)  # two sets of three images in four buckets
    assert losses(model, batch_sets=3) == pytest.approx(whole, rel=1e-5)
    monkeypatch.setattr(validation, "PLACES", 1)
    losses(model, batch_sets=3)
    assert seen == [3, 2, 1, 1, 1, 1]


def test_every_part_has_equally_many_samples() -> None:
    """Guards against a mean over buckets, or over context lengths, that is not the mean of all."""
    found = losses(tiny_model("self"))
    lengths = [f"context_{i}" for i in range(3)]
    assert list(found) == ["loss", *BUCKETS, *lengths]
    for parts in (BUCKETS, lengths):
        assert sum(found[name] for name in parts) / len(parts) == pytest.approx(found["loss"], rel=1e-5)


def test_a_bucket_holds_its_own_timesteps() -> None:
    """Guards against noise levels that are booked in another bucket, and against ends that nothing reaches."""
    seen = []

    def note(_module: object, arguments: tuple[torch.Tensor, ...]) -> None:
        seen.append(arguments[2])

    model = tiny_model("self")
    model.register_forward_pre_hook(note)
    losses(model)
    timesteps = torch.cat(seen).unflatten(1, (3, 4))  # [S, N, K]
    assert torch.equal(timesteps // 250, torch.arange(4).expand(3, 3, 4))
    assert len(timesteps.unique()) > 30


@pytest.mark.parametrize("variant", ["self", "dino"])
def test_every_set_hears_its_own_conditions(variant: str) -> None:
    """Guards against conditions of the first sets for all batches, or a tenth of them dropped as in training."""
    model = tiny_task_model(variant)
    latents = torch.randn(3, 3, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    context = latents if variant == "self" else tiny_context(model, 3, 3)
    told = torch.randn(3, 3, 3, generator=torch.Generator().manual_seed(6))

    def loss(sets: slice, conditions: torch.Tensor | None, batch_sets: int) -> float:
        inputs = latents[sets], context[sets]
        return validation_losses(model, tiny_scheduler(), *inputs, batch_sets=batch_sets, conditions=conditions)["loss"]

    everything = slice(None)
    assert loss(everything, told, 1) == pytest.approx(loss(everything, told, 3), rel=1e-5)
    assert loss(everything, told, 1) != loss(everything, None, 1)
    changed = told.clone()
    changed[2] += 0.5
    assert loss(everything, changed, 1) != loss(everything, told, 1)
    assert loss(slice(2), changed[:2], 1) == loss(slice(2), told[:2], 1)


def test_numbers_are_those_of_the_objective() -> None:
    """Guards against a dropped or noised context, or weights, in what should be equation 5 alone."""
    model = tiny_model("self")
    found = losses(model, sets=1, buckets=1, seed=4)
    config = ObjectiveConfig(context_dropout=0)
    draws = draw(config, 1000, (3, 4, 8, 8), [set_generator(4, 0, 0)])
    latents = torch.randn(3, 3, 4, 8, 8, generator=torch.Generator().manual_seed(5))[:1]
    with torch.no_grad():
        errors = prediction_errors(model, tiny_scheduler(), latents, latents, draws)[0, :, 0]
    assert found["timestep_0-999"] == found["loss"] == pytest.approx(float(errors.mean()), rel=1e-5)
    assert [found[f"context_{i}"] for i in range(3)] == pytest.approx(errors.tolist(), rel=1e-5)
