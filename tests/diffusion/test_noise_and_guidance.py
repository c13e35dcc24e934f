"""Noise by (seed, set, image), and equations 6 and 7."""

from __future__ import annotations

import torch

from m2m.diffusion.guidance import branch_weights, guide, guide_by_task
from m2m.diffusion.noise import image_noise


def test_noise_is_a_function_of_seed_set_and_image() -> None:
    """Guards against two images of a run that start from the same noise, and against drawing from global state."""
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 11, 1), (0, 1, 11), (11, 0, 1)]
    noises = [image_noise(*key, (4, 8, 8)) for key in keys]
    for i, one in enumerate(noises):
        assert torch.equal(one, image_noise(*keys[i], (4, 8, 8)))
        assert all(not torch.equal(one, other) for other in noises[:i])
    stacked = torch.stack([image_noise(0, s, 0, (4, 8, 8)) for s in range(200)])
    assert abs(stacked.mean()) < 0.02 and abs(stacked.std() - 1) < 0.02


def test_noise_values_are_fixed_for_ever() -> None:
    """Guards against a change of hashing or of the generator, after which no published seed gives its images again."""
    expected = torch.tensor(NOISE_OF_SEED_0)
    assert torch.allclose(image_noise(0, 0, 0, (4,)), expected, atol=1e-6)


NOISE_OF_SEED_0 = [-0.405799, 0.536206, 1.798096, -0.173710]


def test_guidance_is_equation_6() -> None:
    """Guards against the branches exchanged, and against a scale of 1 that is not the conditional prediction."""
    conditional, unconditional = torch.tensor([3.0]), torch.tensor([1.0])
    assert guide(conditional, unconditional, 1.0).item() == 3.0
    assert guide(conditional, unconditional, 0.0).item() == 1.0
    assert guide(conditional, unconditional, 7.5).item() == 16.0
    assert guide(conditional.bfloat16(), unconditional.bfloat16(), 2.0).dtype == torch.float32


def counted(branches: list[torch.Tensor], context_scale: float, condition_scale: float) -> list[torch.Tensor | None]:
    """The branches without those that count for nothing."""
    weights = branch_weights(context_scale, condition_scale)
    return [own if weight else None for own, weight in zip(branches, weights, strict=True)]


def test_guidance_by_task_is_equation_7() -> None:
    """Guards against the two scales exchanged, and against a branch left out that equation 7 needs."""
    nothing, context, both = branches = list(torch.randn(3, 2, 4, 8, 8))
    for context_scale in (0.0, 1.0, 2.0, 7.5):
        for condition_scale in (0.0, 1.0, 2.0, 3.5):
            by_hand = nothing + context_scale * (context - nothing) + condition_scale * (both - context)
            ours = guide_by_task(counted(branches, context_scale, condition_scale), context_scale, condition_scale)
            assert (ours - by_hand).abs().max() < 1e-4, (context_scale, condition_scale)


def test_guidance_by_task_meets_equation_6_and_the_plain_prediction_exactly() -> None:
    """Guards against rounding where two or one branch say it all: s_C = 0, and s_I = s_C = 1."""
    nothing, context, both = branches = list(torch.randn(3, 2, 4, 8, 8))
    for scale in (0.5, 2.0, 7.5):
        assert torch.equal(guide_by_task(counted(branches, scale, 0.0), scale, 0.0), guide(context, nothing, scale))
    assert torch.equal(guide_by_task(counted(branches, 1.0, 1.0), 1.0, 1.0), both)
    assert branch_weights(1.0, 1.0) == (0, 0, 1)
