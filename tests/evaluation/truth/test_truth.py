"""The truth about images of captioned sets."""

import numpy as np
import torch
from torch import Tensor

from m2m.data.worlds import World
from m2m.evaluation.truth.probe import load_probe
from m2m.evaluation.truth.truth import Truth, truth_of

CAPTIONS = ("three cats on plain white, flat style", "a penguin", "owls, pixel art style")
IMAGES = 4


def read(truth: Truth, sets: list[Tensor]) -> dict[str, Tensor]:
    """What the probe sees in every set."""
    found = [truth.read(own) for own in sets]
    return {name: torch.stack([own[name] for own in found]) for name in found[0]}


def painted(world: World, captions: tuple[str, ...]) -> list[Tensor]:
    """Renderings of each caption, uint8 [N, 64, 64, 3]."""
    return [torch.from_numpy(np.stack(world.sample_set(text, list(range(IMAGES)), 64))) for text in captions]


def test_rendered_sets_are_right_and_those_of_another_caption_are_not() -> None:
    """Labels in another order than the probe's would score at chance, or everything as right."""
    world = World.load("mini")
    truth = Truth(load_probe(), world, CAPTIONS)
    sets = painted(world, CAPTIONS)
    own, other = (truth.right(read(truth, found)) for found in (sets, sets[1:] + sets[:1]))
    assert own["subject"].shape == (3, IMAGES)
    assert float(own["subject"].mean()) > 90 > 10 > float(other["subject"].mean())
    assert torch.isnan(own["style"][1]).all(), "the second caption leaves the style free"
    assert float(own["count"][:2].mean()) > 80
    success = truth.success(read(truth, sets))
    assert success.shape == (3,) and float(success.min()) > 80


def test_freedom_is_of_the_images_up_to_a_position_and_100_for_rendered_sets() -> None:
    """A set that repeats one image must lose all of it; the first image alone has none to lose."""
    world = World.load("mini")
    truth = Truth(load_probe(), world, CAPTIONS)
    rendered = read(truth, painted(world, CAPTIONS))
    repeated = {name: own[:, :1].expand(-1, IMAGES) for name, own in rendered.items()}
    free = {own.name: own.values for own in truth.scores(rendered, rendered)}["freedom"]
    none = {own.name: own.values for own in truth.scores(repeated, rendered)}["freedom"]
    assert free[0] is None and none[0] is None
    assert free[1:] == (100.0,) * (IMAGES - 1)
    assert none[1:] == (0.0,) * (IMAGES - 1)


def test_there_is_no_truth_about_captions_of_no_tiny_world() -> None:
    """Sets of photographs must be evaluated without it, not end in an error."""
    world, probe = World.load("mini"), load_probe()
    assert truth_of(probe, world, ["a photograph of a harbour"]) is None
    assert truth_of(probe, world, [CAPTIONS[0], ""]) is None
    assert truth_of(probe, world, CAPTIONS) is not None


def test_pictures_of_another_size_are_read_too() -> None:
    """A model of 128 pixels would end in the probe's error."""
    world = World.load("mini")
    truth = Truth(load_probe(), world, CAPTIONS[1:2])
    large = torch.from_numpy(np.stack(world.sample_set(CAPTIONS[1], [0, 1], 128)))
    assert float(truth.right({name: own[None] for name, own in truth.read(large).items()})["subject"].mean()) == 100
