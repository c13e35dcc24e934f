"""The probe's loss, its disturbances, and the figures about it."""

from __future__ import annotations

import math

import pytest
import torch

from m2m.data.worlds import World
from m2m.evaluation.truth.labelled import LabelledConfig, render_labelled
from m2m.evaluation.truth.probe import TruthProbe
from m2m.evaluation.truth.probe_training import ProbeLossConfig, accuracies, blurred, confusions, disturb, probe_loss

WORLD = World.load("mini")


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_blur_is_a_gaussian_of_each_pictures_own_width() -> None:
    """Guards against one blur for all pictures, colours that mix, and a blur that darkens."""
    point = torch.zeros(2, 3, 15, 15)
    point[:, 1, 7, 7] = 1.0
    out = blurred(point, torch.tensor([0.0, 1.0]))
    assert torch.equal(out[0], point[0])
    assert out[1, 0].abs().max() == 0 and out[1, 1].sum().item() == pytest.approx(1)
    assert (out[1, 1, 7, 8] / out[1, 1, 7, 7]).item() == pytest.approx(math.exp(-0.5))
    assert (out[1, 1, 9, 7] / out[1, 1, 7, 7]).item() == pytest.approx(math.exp(-2))
    torch.testing.assert_close(blurred(torch.ones(1, 3, 8, 8), torch.tensor([1.2])), torch.ones(1, 3, 8, 8))


def test_disturbances_are_mild_and_leave_some_pictures_alone() -> None:
    """Guards against a probe that never sees a clean rendering, or noise that hides what there is."""
    pixels = torch.rand(64, 3, 16, 16, generator=generator()) * 2 - 1
    out = disturb(pixels, ProbeLossConfig(), generator())
    untouched = (out - pixels).flatten(1).abs().amax(1) < 1e-6
    assert 4 < untouched.sum() < 30
    assert torch.equal(out, disturb(pixels, ProbeLossConfig(), generator()))
    still = ProbeLossConfig(blur=0.0, largest_noise=0.1)
    assert (disturb(pixels, still, generator()) - pixels).std(dim=(1, 2, 3)).max() < 0.11


def test_a_probe_learns_the_labels_of_a_few_pictures() -> None:
    """Guards against a head that is trained on another attribute's labels, or not at all."""
    torch.manual_seed(0)
    pictures = render_labelled(LabelledConfig(images=6, size=32))
    probe = TruthProbe(attributes=WORLD.attributes, image_size=32, widths=(16, 32), blocks=(0, 1))
    optimizer = torch.optim.AdamW(probe.parameters(), 1e-2)
    config = ProbeLossConfig(label_smoothing=0.0, blur=0.0, noise=0.0)
    pixels = pictures.pixels()
    losses = []
    chance = sum(math.log(len(values)) for values in WORLD.attributes.values())
    for _ in range(40):
        loss, right = probe_loss(probe, pixels, pictures.labels, config, generator())
        losses.append(float(loss.detach()))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[0] == pytest.approx(chance, rel=0.2)
    assert all(share == 1 for share in right.values()), right


def test_figures_name_what_was_taken_for_what() -> None:
    """Guards against confusions the wrong way round."""
    truth = {"pet": torch.tensor([0, 0, 1, 2]), "count": torch.tensor([1, 1, 1, 0])}
    found = {"count": truth["count"], "pet": torch.tensor([1, 1, 1, 0])}  # in another order, as after JSON
    assert accuracies(found, truth) == {"pet": 0.25, "count": 1.0}
    assert confusions(found["pet"], truth["pet"], ["cat", "dog", "cow"]) == [("cat", "dog", 2), ("cow", "cat", 1)]
    assert confusions(found["count"], truth["count"], ["one", "two"]) == []
