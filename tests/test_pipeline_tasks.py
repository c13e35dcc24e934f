"""The sampler of a fine-tuned task: equation 7 around the plain way, conditions of several sets, window "nearest"."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from m2m.diffusion.noise import image_noise
from m2m.pipeline import M2MPipeline
from m2m.types import UserError
from tests.model.reference import reference_prediction
from tests.tiny import pictures, tiny_pipeline, tiny_task_model

VARIANTS = ["self", "dino"]
STEPS = 3


def task_pipeline(variant: str = "self", default: str = "", dim: int = 3) -> M2MPipeline:
    return tiny_pipeline(variant, model=tiny_task_model(variant, default, dim))


def numbers(images: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(images, 3, generator=torch.Generator().manual_seed(seed))


def features_of(pipe: M2MPipeline, latents: torch.Tensor) -> torch.Tensor:
    return latents if pipe.model.config.variant == "self" else pipe._tokens(pipe.decode(latents))


def by_hand(pipe: M2MPipeline, given, told: torch.Tensor, scales: tuple[float, float], set_id: int) -> torch.Tensor:
    """Equation 7 with every clean image run again in every branch at every step."""
    if pipe.model.config.variant == "self":
        seen = pipe.encode(given)
    else:
        seen = pipe._tokens(torch.cat([pipe._pixels(image) for image in given]))
    made = []
    for index in range(len(told) - len(given)):
        count = len(given) + index
        pipe.scheduler.set_timesteps(STEPS)
        latents = image_noise(7, set_id, index, (4, 8, 8))
        for t in pipe.scheduler.timesteps:
            nothing = reference_prediction(pipe.model, latents, int(t), seen[:0])
            context = reference_prediction(pipe.model, latents, int(t), seen)
            both = reference_prediction(pipe.model, latents, int(t), seen, told[: count + 1])
            predicted = nothing + scales[0] * (context - nothing) + scales[1] * (both - context)
            latents = pipe.scheduler.step(predicted, t, latents).prev_sample
        made.append(latents)
        seen = torch.cat([seen, features_of(pipe, latents[None])])
    return torch.stack(made)


@pytest.mark.parametrize("scales", [(2.0, 3.0), (1.0, 1.0), (2.0, 2.0), (1.0, 3.0), (2.0, 0.0)])
@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_pipeline_equals_equation_7_by_hand(variant: str, scales: tuple[float, float]) -> None:
    """Guards against a context that keeps its conditions where equation 7 has none, a branch too few, and conditions
    of another image or set: sets of 1 and 2 images in one batch, images that go back in with their condition."""
    pipe = task_pipeline(variant)
    sets, told = [pictures(1, seed=1), pictures(2, seed=2)], [numbers(3, 1), numbers(4, 2)]
    made = pipe(
        sets,
        2,
        STEPS,
        guidance_scale=scales[0],
        condition_guidance_scale=scales[1],
        conditions=told,
        seed=7,
        output_type="latent",
    ).images
    for b in range(2):
        expected = by_hand(pipe, sets[b], told[b], scales, set_id=b)
        assert (made[b] - expected).abs().max() < 1e-4 * expected.abs().max().clamp(min=1), f"set {b}"


@pytest.mark.parametrize("scales", [(2.0, 3.0), (1.0, 1.0), (2.0, 0.0)])
@torch.no_grad()
def test_the_papers_way_gives_the_same_images(scales: tuple[float, float]) -> None:
    """Guards against a branch that reads a context which another branch alone has run again, or nobody."""
    pipe = task_pipeline()
    arguments = {"num_images": 2, "num_inference_steps": STEPS, "output_type": "latent", "conditions": numbers(4)}
    guidance = {"guidance_scale": scales[0], "condition_guidance_scale": scales[1]}
    cached = pipe(pictures(2), **arguments, **guidance).images
    recomputed = pipe(pictures(2), **arguments, **guidance, reuse_context=False).images
    assert (cached - recomputed).abs().max() < 1e-4


@torch.no_grad()
def test_without_a_given_image_the_condition_still_guides() -> None:
    """Guards against a first image that is told nothing because there is no context to go with it."""
    pipe = task_pipeline()
    arguments = {
        "num_images": 1,
        "num_inference_steps": STEPS,
        "output_type": "latent",
        "condition_guidance_scale": 2.0,
    }
    one, other = (pipe([], conditions=numbers(1, seed), **arguments).images for seed in (1, 2))
    assert (one - other).abs().max() > 1e-3


@torch.no_grad()
def test_nearest_window_looks_from_each_new_image() -> None:
    """Guards against a window that keeps the last images whatever the cameras say: the far image changes nothing."""
    pipe = task_pipeline()
    told = np.array([[0, 0, 0], [50, 0, 0], [1, 0, 0], [49, 0, 0]], dtype=np.float32)
    arguments = {"num_images": 2, "num_inference_steps": STEPS, "output_type": "latent", "conditions": told}
    near, far = pictures(2, seed=1)
    other = pictures(1, seed=5)[0]
    looked = {"window": 1, "window_policy": "nearest", "guidance_scale": 2.0}
    whole = pipe([near, far], **arguments, **looked).images
    far_changed = pipe([near, other], **arguments, **looked).images
    near_changed = pipe([other, far], **arguments, **looked).images
    assert torch.equal(whole[0], far_changed[0]) and not torch.equal(whole[1], far_changed[1])
    assert not torch.equal(whole[0], near_changed[0]) and torch.equal(whole[1], near_changed[1])


@torch.no_grad()
def test_positions_count_the_images_where_nobody_says_otherwise() -> None:
    """Guards against a default that starts anew at the first generated image."""
    pipe = task_pipeline(default="index", dim=1)
    arguments = {"num_images": 2, "num_inference_steps": STEPS, "output_type": "latent"}
    told = torch.arange(4, dtype=torch.float32).unsqueeze(1)
    by_default = pipe(pictures(2), **arguments).images
    assert torch.equal(by_default, pipe(pictures(2), conditions=told, **arguments).images)
    assert not torch.equal(by_default, pipe(pictures(2), conditions=told + 1, **arguments).images)


def test_bad_calls_say_what_would_be_right() -> None:
    """Guards against conditions that are ignored, and against a task model that samples as if it had no task."""
    plain, task = tiny_pipeline(), task_pipeline()
    with pytest.raises(UserError, match="fine-tuned for no task"):
        plain(pictures(1), conditions=numbers(5))
    with pytest.raises(UserError, match="condition_guidance_scale is for models"):
        plain(pictures(1), condition_guidance_scale=2.0)
    with pytest.raises(UserError, match="needs conditions: the place of every"):
        task(pictures(1))
    with pytest.raises(UserError, match=r"of shape \[3, 3\], not \[5, 3\]"):
        task(pictures(1), conditions=numbers(3))
