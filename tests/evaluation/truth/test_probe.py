"""The probe: shapes, strict loading, and the accuracy of the one that is shipped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from m2m.data.worlds import World
from m2m.evaluation.truth.labelled import LabelledConfig, render_labelled
from m2m.evaluation.truth.probe import CLASSIFY_BATCH, TruthProbe, load_probe
from m2m.evaluation.truth.probe_training import accuracies
from m2m.types import UserError
from tests.evaluation.truth.random_probe import random_probe

ATTRIBUTES = {"colour": ["red", "green", "blue"], "count": [1, 2]}
# What issue 2 asks of the instrument; the category follows from the subject and is no worse.
WANTED = {"style": 0.97, "count": 0.97, "background": 0.97, "category": 0.9, "subject": 0.9}


def tiny_probe() -> TruthProbe:
    return random_probe(ATTRIBUTES, image_size=16)


def test_classify_gives_the_likeliest_value_of_every_picture_in_order() -> None:
    """Guards against batches of `classify` that are lost or exchanged."""
    draws = torch.Generator().manual_seed(1)
    colours = torch.rand(CLASSIFY_BATCH + 3, 3, 1, 1, generator=draws) * 2 - 1
    pixels = colours + 0.5 * torch.randn(CLASSIFY_BATCH + 3, 3, 16, 16, generator=draws)
    probe = tiny_probe()
    found = probe.classify(pixels)
    assert {name: own.dtype for name, own in found.items()} == dict.fromkeys(ATTRIBUTES, torch.int64)
    with torch.no_grad():
        logits = probe(pixels[-2:])
    assert {name: list(own.shape) for name, own in logits.items()} == {"colour": [2, 3], "count": [2, 2]}
    assert all(torch.equal(found[name][-2:], own.argmax(1)) for name, own in logits.items())
    assert all(own.unique().numel() > 1 and len(own) == len(pixels) for own in found.values())


def test_a_saved_probe_reads_the_same_and_knows_its_world(tmp_path: Path) -> None:
    """Guards against values of attributes that are lost on the way (a count that comes back as text)."""
    probe = tiny_probe()
    probe.save_pretrained(tmp_path)
    loaded = load_probe(tmp_path)
    loaded.check_attributes(ATTRIBUTES)
    pixels = torch.rand(4, 3, 16, 16) * 2 - 1
    assert all(torch.equal(own, probe.classify(pixels)[name]) for name, own in loaded.classify(pixels).items())
    with pytest.raises(UserError, match="another world"):
        loaded.check_attributes({**ATTRIBUTES, "count": [2, 1]})


@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, change: str) -> None:
    """Guards against a probe with a random head that judges models all the same."""
    tiny_probe().save_pretrained(tmp_path)
    path = next(tmp_path.glob("*.safetensors"))
    weights = load_file(path)
    if change == "missing":
        del weights["heads.count.weight"]
    else:
        weights["heads.style.weight"] = torch.zeros(4, 16)
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match=f"1 {change} weights"):
        load_probe(tmp_path)


def test_pictures_of_another_size_and_unknown_probes_are_refused(tmp_path: Path) -> None:
    """Guards against readings of pictures that the probe was never taught to read."""
    with pytest.raises(UserError, match=r"\[M, 3, 16, 16\]"):
        tiny_probe().classify(torch.zeros(1, 3, 32, 32))
    with pytest.raises(UserError, match="multiple of 4"):
        TruthProbe(attributes=ATTRIBUTES, image_size=18, widths=(8, 16), blocks=(0, 1))
    with pytest.raises(UserError, match="neither shipped nor a folder"):
        load_probe(tmp_path / "none")


def test_the_shipped_probe_is_as_exact_as_its_readings_are_trusted_to_be() -> None:
    """Guards against a renderer that has moved away from the probe that judges its pictures.

    The pictures are of other seeds than those it was trained and tested with. Of 300, a true share of 97% is seen as
    95% or less once in fifty times, hence the allowance.
    """
    probe = load_probe("probe-mini")
    probe.check_attributes(World.load("mini").attributes)
    fresh = render_labelled(LabelledConfig(world="mini", images=300, seed=1234))
    shares = accuracies(probe.classify(fresh.pixels()), fresh.labels)
    assert all(shares[name] >= wanted - 0.02 for name, wanted in WANTED.items()), shares
