"""What everything stands on: cached = recomputed, causal, parallel = sequential, checkpointed = plain."""

from __future__ import annotations

import pytest
import torch

from m2m.model.context import Column, ContextReader
from m2m.model.unet import M2MModel
from tests.model.reference import reference_prediction
from tests.tiny import tiny_context, tiny_model

VARIANTS = ["self", "dino"]


def noisy_latents(sets: int, images: int) -> torch.Tensor:
    return torch.randn(sets, images, 4, 8, 8, generator=torch.Generator().manual_seed(2))


def cached_predictions(model: M2MModel, noisy: torch.Tensor, timestep: int, counts: list[int]) -> torch.Tensor:
    """What the sampler does: the context written once, then read by sets of different length in one batch."""
    context = tiny_context(model, len(counts), max(1, *counts))
    reader = ContextReader([Column(model.write_context(context), tuple(counts))])
    return model.denoise(noisy, torch.full(noisy.shape[:2], timestep), reader)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_cached_equals_recomputed_for_every_context_length(variant: str) -> None:
    """Guards against a cache that is stale, cut at the wrong place, or that gives a set another set's images."""
    model = tiny_model(variant)
    counts = list(range(9))
    noisy = noisy_latents(len(counts), 1)
    context = tiny_context(model, len(counts), 8)
    for timestep in (1, 501, 981):
        cached = cached_predictions(model, noisy, timestep, counts)
        for b, count in enumerate(counts):
            expected = reference_prediction(model, noisy[b, 0], timestep, context[b, :count])
            assert (cached[b, 0] - expected).abs().max() < 1e-5, f"{count} context images at t={timestep}"


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_training_forward_equals_sampler_forwards(variant: str) -> None:
    """Guards against a training pass whose image i sees another context than the sampler gives it."""
    model = tiny_model(variant)
    noisy, context = noisy_latents(2, 4), tiny_context(model, 2, 4)
    timesteps = torch.tensor([[10, 300, 600, 900], [981, 5, 77, 400]])
    parallel = model(noisy, context, timesteps, torch.tensor([True, True]))
    for i in range(4):
        reader = ContextReader([Column(model.write_context(context[:, :i]), (i, i))])
        alone = model.denoise(noisy[:, i : i + 1], timesteps[:, i : i + 1], reader)
        assert (parallel[:, i] - alone[:, 0]).abs().max() < 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_causal_to_the_bit(variant: str) -> None:
    """Guards against leaks: from the image itself, from later images, or from another set of the batch."""
    model = tiny_model(variant)
    noisy, context = noisy_latents(2, 4), tiny_context(model, 2, 4)
    timesteps, keep = torch.full((2, 4), 500), torch.tensor([True, True])
    before = model(noisy, context, timesteps, keep)
    for j in range(4):
        changed = context.clone()
        changed[0, j] += 1
        after = model(noisy, changed, timesteps, keep)
        assert torch.equal(after[0, : j + 1], before[0, : j + 1]), f"image {j} leaks backwards"
        assert torch.equal(after[1], before[1]), "another set leaks in"
        for i in range(j + 1, 4):
            assert not torch.equal(after[0, i], before[0, i]), f"image {i} does not see image {j}"


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_dropped_context_equals_no_context(variant: str) -> None:
    """Guards against a 'masked' row that attends to everything, as diffusers' additive -10000 masks do."""
    model = tiny_model(variant)
    noisy, context = noisy_latents(3, 3), tiny_context(model, 3, 3)
    timesteps = torch.full((3, 3), 500)
    mixed = model(noisy, context, timesteps, torch.tensor([True, False, True]))
    dropped = model(noisy, context, timesteps, torch.zeros(3, dtype=torch.bool))
    kept = model(noisy, context, timesteps, torch.ones(3, dtype=torch.bool))
    empty = [reference_prediction(model, noisy[1, i], 500, context[1, :0]) for i in range(3)]
    assert (mixed[1] - torch.stack(empty)).abs().max() < 1e-5
    assert torch.allclose(mixed[1], dropped[1], atol=1e-6)
    assert torch.allclose(mixed[[0, 2]], kept[[0, 2]], atol=1e-6)
    assert (kept[:, 1:] - dropped[:, 1:]).abs().max() > 1e-2


@torch.no_grad()
def test_zeros_null_context_attends_to_zeroed_latents() -> None:
    """Guards against ``null_context: zeros`` (the paper's words) silently doing what ``drop`` does, for M2M-Self."""
    model = tiny_model("self", null_context="zeros")
    noisy, context = noisy_latents(1, 3), tiny_context(model, 1, 3)
    timesteps = torch.full((1, 3), 500)
    dropped = model(noisy, context, timesteps, torch.tensor([False]))
    expected = [reference_prediction(model, noisy[0, i], 500, torch.zeros_like(context[0, :i])) for i in range(3)]
    assert (dropped[0] - torch.stack(expected)).abs().max() < 1e-5
    same = tiny_model("self")
    assert (same(noisy, context, timesteps, torch.tensor([False]))[0, 2] - dropped[0, 2]).abs().max() > 1e-3


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_draws_share_one_clean_pass(variant: str) -> None:
    """Guards against noisy draws that are paired with the wrong image's context."""
    model = tiny_model(variant)
    noisy, context = noisy_latents(2, 6), tiny_context(model, 2, 3)
    timesteps, keep = torch.randint(0, 1000, (2, 6)), torch.tensor([True, False])
    together = model(noisy, context, timesteps, keep)
    for k in range(2):
        alone = model(noisy[:, k::2], context, timesteps[:, k::2], keep)
        assert (together[:, k::2] - alone).abs().max() < 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
def test_checkpointed_gradients_equal_plain_gradients(variant: str) -> None:
    """Guards against a context whose mode or tensors differ when a checkpointed block runs a second time."""
    gradients = []
    for checkpointed in (False, True):
        model = tiny_model(variant).train()
        if checkpointed:
            model.enable_gradient_checkpointing()
            assert any(getattr(m, "gradient_checkpointing", False) for m in model.unet.modules())
        noisy, context = noisy_latents(2, 3), tiny_context(model, 2, 3)
        model(noisy, context, torch.full((2, 3), 300), torch.tensor([True, True])).square().mean().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, plain in gradients[0].items():
        assert plain is not None, f"{name} gets no gradient"
        assert torch.equal(plain, gradients[1][name]), name


def test_clean_images_pass_through_unchanged() -> None:
    """z' = [z_c; z_n'] (section 5.1): guards against clean images that attend, which would make the cache inexact."""
    model = tiny_model("self")
    context = tiny_context(model, 1, 3)
    together = model.write_context(context)
    for i in range(3):
        alone = model.write_context(context[:, i : i + 1])
        for layer, key in alone.keys.items():
            assert torch.allclose(key[:, 0], together.keys[layer][:, i], atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_dropped_batch_gives_every_parameter_a_gradient(variant: str) -> None:
    """Guards against a process that dropped all of its contexts and then reduces fewer gradients than the others."""
    noisy, timesteps = noisy_latents(2, 3), torch.full((2, 3), 500)
    keep = torch.zeros(2, dtype=torch.bool)
    for checkpointed in (False, True):
        model = tiny_model(variant).train()
        if checkpointed:
            model.enable_gradient_checkpointing()
        context = tiny_context(model, 2, 3)
        predicted = model(noisy, context, timesteps, keep)
        predicted.square().mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        for layer in model.image_set_attentions():
            assert not any(linear.weight.grad.any() for linear in (layer.to_q, layer.to_k, layer.to_v))
            assert layer.to_out[0].bias.grad.any()
        with torch.no_grad():
            assert torch.equal(model(noisy, context, timesteps, keep), predicted)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_dropped_context_may_hold_anything(variant: str) -> None:
    """Guards against a gradient path to an unread context that lets its NaN or infinity into the prediction."""
    model = tiny_model(variant)
    noisy, context = noisy_latents(2, 3), tiny_context(model, 2, 3)
    timesteps, keep = torch.full((2, 3), 500), torch.zeros(2, dtype=torch.bool)
    clean = model(noisy, context, timesteps, keep)
    assert torch.equal(model(noisy, torch.full_like(context, torch.nan), timesteps, keep), clean)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_attention_does_not_tell_how_many_images_agree(variant: str) -> None:
    """What docs/evaluation.md says of figure 6: the same image four times is that image once, whatever the weights."""
    model = tiny_model(variant)
    noisy, once = noisy_latents(1, 1), tiny_context(model, 1, 1)
    timestep = torch.tensor([[501]])
    seen = [model.write_context(context) for context in (once, once.expand(-1, 4, *once.shape[2:]))]
    one, four = (
        model.denoise(noisy, timestep, ContextReader([Column(cache, (count,))]))
        for cache, count in zip(seen, (1, 4), strict=True)
    )
    none = model.denoise(noisy, timestep, ContextReader([Column(seen[0], (0,))]))
    assert (one - four).abs().max() < 1e-5 and (one - none).abs().max() > 1e-2
