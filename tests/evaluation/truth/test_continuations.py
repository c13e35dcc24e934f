"""Calling a pipeline on held-out sets."""

from __future__ import annotations

import pytest
import torch

from m2m.data.worlds import World
from m2m.evaluation.truth.continuations import SampleConfig, autoencoded, continuations, unconditional
from m2m.evaluation.truth.held_out import HeldOutConfig, HeldOutSet, held_out_sets, rendered
from m2m.pipeline import M2MPipeline
from m2m.types import UserError
from tests.tiny import tiny_pipeline


@pytest.fixture(scope="module")
def pipe() -> M2MPipeline:
    return tiny_pipeline("self")


@pytest.fixture(scope="module")
def sets() -> list[HeldOutSet]:
    return held_out_sets(World.load("mini"), HeldOutConfig(sets=3, given=2, generated=2, reference=2))


def test_images_do_not_depend_on_the_batch(pipe: M2MPipeline, sets: list[HeldOutSet]) -> None:
    """Guards against noise that belongs to the place in a batch: figures would change with --batch."""
    one = continuations(pipe, sets, SampleConfig(steps=2, batch=1))
    reports: list[tuple[int, int]] = []
    two = continuations(pipe, sets, SampleConfig(steps=2, batch=2), lambda *done: reports.append(done))
    assert one.shape == (3, 2, 3, 64, 64) and one.min() >= -1 and one.max() <= 1
    torch.testing.assert_close(one, two, atol=1e-4, rtol=0)
    assert reports == [(2, 3), (3, 3)]


def test_unconditional_images_know_nothing_and_all_differ(pipe: M2MPipeline, sets: list[HeldOutSet]) -> None:
    """Guards against a baseline that sees given images, or its own first image, or repeats one noise."""
    alone = unconditional(pipe, sets[:2], SampleConfig(steps=2))
    assert torch.equal(alone, unconditional(pipe, sets[1:], SampleConfig(steps=2)))
    guided = pipe([], num_images=1, num_inference_steps=2, guidance_scale=3.0, set_ids=["alone/0/1"], output_type="pt")
    torch.testing.assert_close(alone[0, 1], guided.images[0] * 2 - 1, atol=1e-4, rtol=0)
    images = alone.flatten(0, 1)
    assert all(not torch.equal(images[i], images[j]) for i in range(4) for j in range(i))


def test_the_seed_changes_the_images(pipe: M2MPipeline, sets: list[HeldOutSet]) -> None:
    """Guards against a seed that is not handed on."""
    first, second = (continuations(pipe, sets[:1], SampleConfig(steps=2, seed=seed)) for seed in (0, 1))
    assert not torch.equal(first, second)


def test_autoencoded_images_keep_their_places(pipe: M2MPipeline, sets: list[HeldOutSet]) -> None:
    """Guards against sets and images being exchanged on the way through the autoencoder."""
    images = rendered(sets)
    alone = autoencoded(pipe, images[1:2, 1:2])
    torch.testing.assert_close(autoencoded(pipe, images)[1, 1], alone[0, 0])


def test_sets_of_another_size_are_refused(pipe: M2MPipeline) -> None:
    """Guards against distances between pictures of two sizes, or a probe that judges resized ones unasked."""
    small = held_out_sets(World.load("mini"), HeldOutConfig(sets=1, given=1, generated=1, reference=2, size=32))
    with pytest.raises(UserError, match="64 pixels, the held-out sets have 32"):
        continuations(pipe, small, SampleConfig(steps=1))
