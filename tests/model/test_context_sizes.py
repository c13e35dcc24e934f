"""A model that is told how many images it is shown: the count enters, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from m2m.model.context import Column, ContextReader
from m2m.model.unet import M2MModel
from m2m.types import UserError
from tests.model.reference import reference_prediction
from tests.tiny import saved_and_loaded, tiny_context, tiny_model, tiny_task_model

VARIANTS = ["self", "dino"]
MOST = 3


def noisy_latents(sets: int, images: int) -> torch.Tensor:
    return torch.randn(sets, images, 4, 8, 8, generator=torch.Generator().manual_seed(2))


def shown(model: M2MModel, context: torch.Tensor, count: int) -> torch.Tensor:
    """The prediction for one noisy image that is shown so many images of `context`."""
    reader = ContextReader([Column(model.write_context(context), (count,))])
    return model.denoise(noisy_latents(1, 1), torch.tensor([[501]]), reader)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_a_model_that_learns_context_sizes_starts_as_it_was_to_the_bit(variant: str) -> None:
    """Guards against an embedding that disturbs a trained model before its first step."""
    plain, told = tiny_model(variant), tiny_model(variant)
    told.add_context_sizes(MOST)
    noisy, context = noisy_latents(2, 4), tiny_context(plain, 2, 4)
    call = (noisy, context, torch.full((2, 4), 500), torch.tensor([True, False]))
    assert told.config.context_sizes == MOST and torch.equal(told(*call), plain(*call))


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_it_tells_how_many_images_agree(variant: str) -> None:
    """Guards against a count that goes nowhere: without it the same image four times is that image once."""
    model = tiny_model(variant, context_sizes=MOST)
    once = tiny_context(model, 1, 1)
    alike = once.expand(-1, 5, *once.shape[2:])
    made = {count: shown(model, alike, count) for count in range(6)}
    pairs = [(made[count] - made[count + 1]).abs().max() for count in range(5)]
    assert min(pairs[:MOST]) > 1e-2
    assert max(pairs[MOST:]) < 1e-5, "more than the most are the most"


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_cached_equals_recomputed_with_context_sizes(variant: str) -> None:
    """Guards against the count of another set, or of the clean pass, in a batch of sets of different length."""
    model = tiny_model(variant, context_sizes=MOST)
    counts = list(range(6))
    noisy, context = noisy_latents(len(counts), 1), tiny_context(model, len(counts), 5)
    reader = ContextReader([Column(model.write_context(context), tuple(counts))])
    cached = model.denoise(noisy, torch.full((len(counts), 1), 501), reader)
    for b, count in enumerate(counts):
        expected = reference_prediction(model, noisy[b, 0], 501, context[b, :count])
        assert (cached[b, 0] - expected).abs().max() < 1e-5, f"{count} context images"


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_training_forward_equals_sampler_forwards_with_context_sizes(variant: str) -> None:
    """Guards against counts in another order than the images: of several draws, and of a set without its context."""
    model = tiny_model(variant, context_sizes=MOST)
    noisy, context = noisy_latents(3, 8), tiny_context(model, 3, 4)
    timesteps, keep = torch.randint(0, 1000, (3, 8)), torch.tensor([True, False, True])
    parallel = model(noisy, context, timesteps, keep)
    for i in range(4):
        column = Column(model.write_context(context[:, :i]), (i, 0, i))
        for draw in (2 * i, 2 * i + 1):
            here = slice(draw, draw + 1)
            alone = model.denoise(noisy[:, here], timesteps[:, here], ContextReader([column]))
            assert (parallel[:, draw] - alone[:, 0]).abs().max() < 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_image_that_is_shown_none_stays_as_in_the_base(variant: str) -> None:
    """Guards against an unconditional branch of guidance that is no longer what the base makes of it; and against a
    process whose contexts are all dropped, and which then reduces fewer gradients than the others."""
    told, plain = tiny_model(variant, context_sizes=MOST).train(), tiny_model(variant)
    plain.load_state_dict({name: told.state_dict()[name] for name in plain.state_dict()})
    noisy, context = noisy_latents(2, 4), tiny_context(told, 2, 4)
    call = (noisy, context, torch.full((2, 4), 300), torch.tensor([False, False]))
    predicted = told(*call)
    assert torch.equal(predicted, plain(*call))
    predicted.square().mean().backward()
    assert all(p.grad is not None and not p.grad.any() for p in told.added_parameters())
    told.zero_grad()
    told(*call[:3], torch.tensor([True, False])).square().mean().backward()
    assert all(p.grad.any() for p in told.added_parameters())


@pytest.mark.parametrize("variant", VARIANTS)
def test_saves_and_loads_itself(variant: str, tmp_path: Path) -> None:
    """Guards against embedders that are lost on disk, or built anew without them (`m2m derive`, `from_scratch`)."""
    model = tiny_task_model(variant, context_sizes=MOST)
    loaded = saved_and_loaded(model, tmp_path)
    assert loaded.config.context_sizes == MOST
    context = tiny_context(model, 1, 2)
    with torch.no_grad():
        assert torch.equal(shown(loaded, context, 2), shown(model, context, 2))
    assert loaded.rebuilt().state_dict().keys() == model.state_dict().keys()


def test_bad_sizes_say_what_would_be_right() -> None:
    """Guards against a traceback, and against an embedder that is thrown away in silence."""
    with pytest.raises(UserError, match="context_sizes is -1: it must be 0"):
        tiny_model(context_sizes=-1)
    with pytest.raises(UserError, match="told context sizes up to 3 already: use 3, or leave them out"):
        tiny_model(context_sizes=MOST).add_context_sizes(4)
