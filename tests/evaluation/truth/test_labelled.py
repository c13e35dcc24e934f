"""Labelled pictures: their truth, their reach, and folders that go on where they were cut off."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from m2m.data.worlds import World
from m2m.data.worlds.splits import is_held_out, is_withheld
from m2m.evaluation.truth import labelled
from m2m.evaluation.truth.labelled import LabelledConfig, LabelledStream, labelled_folder, render_labelled
from m2m.types import UserError

WORLD = World.load("mini")


def test_captions_reach_everything_that_models_never_see() -> None:
    """Guards against a probe that was never taught what models are never taught, and it must judge."""
    captions = labelled.truth_captions(WORLD, 2000, seed=0)
    counts = Counter(caption.subject for caption in captions)
    assert set(counts) == set(WORLD.subjects) and any(is_held_out(name) for name in counts)
    assert any(is_withheld(caption.subject, caption.style) for caption in captions)
    assert 0.06 < sum(caption.unseen_artist for caption in captions) / 2000 < 0.17
    assert all(set(caption.fixed) == set(WORLD.attributes) for caption in captions)


def test_labels_are_the_truth_of_the_pictures() -> None:
    """Guards against labels in another order than the pictures, or of another scene."""
    made = render_labelled(LabelledConfig(images=8, seed=3))
    captions = labelled.truth_captions(WORLD, 8, seed=3)
    truth = [WORLD.scene(caption, 0).attributes for caption in captions]
    for name, values in WORLD.attributes.items():
        assert [values[i] for i in made.labels[name].tolist()] == [scene[name] for scene in truth]
    assert made.images.shape == (8, 64, 64, 3) and len(made.images.flatten(1).unique(dim=0)) == 8
    pixels = made.pixels()
    assert pixels.shape == (8, 3, 64, 64) and -1 <= pixels.min() < 0 < pixels.max() <= 1


def test_a_folder_goes_on_at_its_first_missing_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against parts that repeat each other, and against pictures that depend on where a run was cut off."""
    monkeypatch.setattr(labelled, "PART", 3)
    config = LabelledConfig(images=7)
    whole = labelled_folder(tmp_path, config)
    assert len(whole) == 7 and len(whole.images.flatten(1).unique(dim=0)) == 7
    kept = (tmp_path / "part-0000.safetensors").stat().st_mtime_ns
    (tmp_path / "part-0001.safetensors").unlink()
    reports: list[tuple[int, int]] = []
    again = labelled_folder(tmp_path, config, progress=lambda *done: reports.append(done))
    assert torch.equal(again.images, whole.images) and all(
        torch.equal(again.labels[n], own) for n, own in whole.labels.items()
    )
    assert reports == [(6, 7)] and (tmp_path / "part-0000.safetensors").stat().st_mtime_ns == kept


def test_a_folder_of_other_pictures_is_refused(tmp_path: Path) -> None:
    """Guards against a probe that is tested on the pictures it was trained on."""
    labelled_folder(tmp_path, LabelledConfig(images=2))
    with pytest.raises(UserError, match="other labelled pictures"):
        labelled_folder(tmp_path, LabelledConfig(images=2, seed=1))


def test_an_epoch_shows_every_picture_once_with_its_own_label() -> None:
    """Guards against labels that lose their pictures in a batch, and pictures that an epoch leaves out."""
    made = render_labelled(LabelledConfig(images=6))
    stream = LabelledStream(made)
    batches = [stream.batch(2, seed=0, step=step) for step in range(3)]
    pixels = torch.cat([batch[0] for batch in batches])
    subjects = torch.cat([batch[1]["subject"] for batch in batches])
    own = made.pixels()
    places = [int((own == one).flatten(1).all(1).nonzero()) for one in pixels]
    assert sorted(places) == list(range(6))
    assert torch.equal(subjects, made.labels["subject"][places])
    assert torch.equal(stream.batch(2, seed=0, step=1)[0], batches[1][0])
