"""Task conditions: nothing at the start, exact in the cache, and in the right places of both variants."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from m2m.model.conditions import ConditionConfig, ConditionEmbedder, conditions_of_sets
from m2m.model.context import Column, ContextReader
from m2m.model.context_window import ContextWindow
from m2m.types import UserError
from tests.model.reference import reference_prediction
from tests.tiny import saved_and_loaded, tiny_context, tiny_model, tiny_task_model

VARIANTS = ["self", "dino"]
CAMERA = ConditionConfig("camera", 3, frequencies=2, highest=4.0, width=16)


def numbers(sets: int, images: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(sets, images, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_a_task_model_starts_as_its_pre_trained_model_to_the_bit(variant: str) -> None:
    """Guards against an embedder whose random start disturbs what was learned."""
    model, noisy = tiny_model(variant), torch.randn(2, 3, 4, 8, 8)
    arguments = (noisy, tiny_context(model, 2, 3), torch.full((2, 3), 40), torch.tensor([True, False]))
    before = model(*arguments)
    model.add_condition(CAMERA, seed=1)
    after = model(*arguments, conditions=numbers(2, 3), keep_condition=torch.tensor([True, False]))
    assert torch.equal(before, after)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_cached_equals_recomputed_with_conditions(variant: str) -> None:
    """Guards against a condition that enters at another place than section 6.2 says, or only in one of the passes."""
    model = tiny_task_model(variant)
    counts = [0, 1, 2, 4]
    noisy, context, told = torch.randn(4, 1, 4, 8, 8), tiny_context(model, 4, 4), numbers(4, 5)
    cache = model.write_context(context, conditions=told[:, :4])
    reader = ContextReader([Column(cache, tuple(counts))])
    cached = model.denoise(noisy, torch.full((4, 1), 501), reader, told[:, 4:])
    for b, count in enumerate(counts):
        own = torch.cat([told[b, :count], told[b, 4:]])
        expected = reference_prediction(model, noisy[b, 0], 501, context[b, :count], own)
        assert (cached[b, 0] - expected).abs().max() < 1e-5, f"{count} context images"


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_training_forward_equals_sampler_forwards_with_conditions(variant: str) -> None:
    """Guards against draws or images that get a neighbour's condition in the parallel forward."""
    model, told = tiny_task_model(variant), numbers(2, 3)
    noisy, context = torch.randn(2, 6, 4, 8, 8), tiny_context(model, 2, 3)
    timesteps = torch.randint(0, 1000, (2, 6))
    parallel = model(noisy, context, timesteps, torch.tensor([True, True]), conditions=told)
    for place in range(6):
        i = place // 2
        reader = ContextReader([Column(model.write_context(context[:, :i], conditions=told[:, :i]), (i, i))])
        alone = model.denoise(noisy[:, place : place + 1], timesteps[:, place : place + 1], reader, told[:, i : i + 1])
        assert (parallel[:, place] - alone[:, 0]).abs().max() < 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_a_dropped_condition_is_none_at_all(variant: str) -> None:
    """Guards against dropout that embeds zeros, for zero is a camera and a position too."""
    model, noisy = tiny_task_model(variant), torch.randn(2, 3, 4, 8, 8)
    arguments = (noisy, tiny_context(model, 2, 3), torch.full((2, 3), 40), torch.tensor([True, True]))
    dropped = model(*arguments, conditions=numbers(2, 3), keep_condition=torch.tensor([False, True]))
    without, whole = model(*arguments), model(*arguments, conditions=numbers(2, 3))
    zeroed = model(*arguments, conditions=torch.zeros(2, 3, 3))
    assert torch.allclose(dropped[0], without[0], atol=1e-6) and torch.allclose(dropped[1], whole[1], atol=1e-6)
    assert not torch.allclose(zeroed[0], without[0], atol=1e-3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_has_a_gradient_when_all_conditions_are_dropped(variant: str) -> None:
    """Guards against processes that wait for each other's gradients (DDP) after a batch without any condition."""
    model = tiny_task_model(variant).train()
    noisy, keep = torch.randn(1, 2, 4, 8, 8), torch.tensor([False])
    predicted = model(
        noisy,
        tiny_context(model, 1, 2),
        torch.full((1, 2), 40),
        keep,
        conditions=numbers(1, 2),
        keep_condition=keep,
    )
    predicted.square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.added_parameters())
    assert not any(parameter.grad.any() for parameter in model.added_parameters())


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_saves_and_loads_itself(variant: str, tmp_path: Path) -> None:
    """Guards against a task that a checkpoint forgets."""
    model = tiny_task_model(variant)
    loaded = saved_and_loaded(model, tmp_path)
    assert loaded.condition == model.condition
    arguments = (torch.randn(1, 2, 4, 8, 8), tiny_context(model, 1, 2), torch.full((1, 2), 9), torch.tensor([True]))
    assert torch.equal(model(*arguments, conditions=numbers(1, 2)), loaded(*arguments, conditions=numbers(1, 2)))


@torch.no_grad()
def test_nearest_sees_the_images_with_the_nearest_conditions() -> None:
    """Guards against the newest or the farthest images in their place, and against an image that was dropped."""
    model = tiny_task_model("self")
    images, told = tiny_context(model, 1, 6)[0], torch.tensor([[float(x), 0, 0] for x in (0, 50, 2, 40, 3, 90)])
    window = ContextWindow(model, sets=1, size=2, policy="nearest", capacity=6)
    window.append(images, [0] * 6, given=True, conditions=told)
    noisy = torch.randn(1, 1, 4, 8, 8)
    for place, seen in ((1.0, [0, 2]), (44.0, [1, 3]), (80.0, [5, 1])):
        own = torch.tensor([[place, 0, 0]])
        window.look_from(own)
        ours = model.denoise(noisy, torch.tensor([[400]]), ContextReader([window.conditional()]), own.unsqueeze(1))
        expected = reference_prediction(model, noisy[0, 0], 400, images[seen], torch.cat([told[seen], own]))
        assert (ours[0, 0] - expected).abs().max() < 1e-5, f"from {place}"


def test_sinusoids_tell_positions_apart() -> None:
    """Guards against frequencies that are all alike, and a number itself that is lost."""
    embedder = ConditionEmbedder(ConditionConfig("position", 1, frequencies=3, lowest=0.01, highest=1.0, width=8))
    assert embedder.hidden.in_features == 7
    assert embedder._rates == pytest.approx([0.01, 0.1, 1.0])


def test_bad_conditions_say_what_would_be_right() -> None:
    """Guards against a condition that is taken for another, and silently for none."""
    with pytest.raises(UserError, match="condition 'camera': dim is 0: use 1 or more"):
        ConditionConfig("camera", 0)
    with pytest.raises(UserError, match="highest"):
        ConditionConfig("camera", 3, lowest=2.0, highest=1.0)
    with pytest.raises(UserError, match="an index is one number"):
        ConditionConfig("camera", 3, default="index")
    with pytest.raises(UserError, match="has the condition 'place' already"):
        tiny_task_model().add_condition(CAMERA)
    with pytest.raises(UserError, match="no task that would read them"):
        model = tiny_model("self")
        model.write_context(tiny_context(model, 1, 1), conditions=numbers(1, 1))
    with pytest.raises(UserError, match="2 numbers an image, the model takes 3"):
        tiny_task_model().condition_embedder(torch.zeros(1, 2))


def test_conditions_of_sets_are_checked() -> None:
    """Guards against a table that is one image short, or of words."""
    with pytest.raises(UserError, match=r"of shape \[2, 3\], not \[3, 3\]"):
        conditions_of_sets(CAMERA, [torch.zeros(2, 3)], [3])
    with pytest.raises(UserError, match="no table of numbers"):
        conditions_of_sets(CAMERA, [["left"]], [1])
    with pytest.raises(UserError, match="needs conditions: the camera of every"):
        conditions_of_sets(CAMERA, None, [3])
    (counted,) = conditions_of_sets(ConditionConfig("position", 1, default="index"), None, [3])
    assert counted.tolist() == [[0], [1], [2]]
    assert not math.isnan(float(counted.sum()))
