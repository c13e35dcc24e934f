"""The safety checker: what it rejects is no picture, and it changes nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from m2m.data.generators import Generator, GeneratorOptions, open_generator
from m2m.types import UserError
from tests.data.generators.pipelines import processor, safety_checker, save_checker, save_stable_diffusion
from tests.model.bases import edit_weights

CAPTIONS, SEEDS = ["a cat"] * 4, [1, 2, 3, 4]


def opened(folder: Path, **options: Any) -> Generator:
    return open_generator(GeneratorOptions(f"diffusers:{folder}", steps=2, device="cpu", **options))


def test_only_what_is_rejected_is_none(stable_diffusion: Path, tmp_path: Path) -> None:
    """A verdict on the wrong picture, or a black one stored in its place. The threshold lies between the pictures."""
    plain = opened(stable_diffusion).generate(CAPTIONS, SEEDS)
    scores = likeness_to_concepts(plain)
    threshold = float(np.sort(scores)[1:3].mean())
    checker = save_checker(tmp_path / "checker", safety_checker(threshold))
    checked = opened(stable_diffusion, safety_checker=str(checker)).generate(CAPTIONS, SEEDS)
    assert [picture is None for picture in checked] == list(scores > threshold)
    for before, after in zip(plain, checked, strict=True):
        assert after is None or np.array_equal(before, after)


@torch.no_grad()
def likeness_to_concepts(pictures: list[Any]) -> np.ndarray:
    """The largest cosine of each picture to a concept, which the checker compares with its threshold."""
    checker = safety_checker(threshold=0.0).eval()
    inputs = processor()(list(pictures), return_tensors="pt")["pixel_values"]
    embedded = checker.visual_projection(checker.vision_model(inputs)[1])
    likeness = torch.nn.functional.cosine_similarity(embedded[:, None], checker.concept_embeds[None], dim=-1)
    return likeness.max(dim=1).values.numpy()


def test_the_pipelines_own_checker(tmp_path: Path) -> None:
    """Stable Diffusion 1.x brings one; it is off unless asked for, and part of the settings when on."""
    folder = save_stable_diffusion(tmp_path / "sd", safety_checker(threshold=-1.0))
    assert all(picture is not None for picture in opened(folder).generate(CAPTIONS, SEEDS))
    checked = opened(folder, safety_checker="model")
    assert checked.generate(CAPTIONS, SEEDS) == [None] * 4
    off, on = opened(folder).settings(), checked.settings()
    assert {key for key in on if on[key] != off[key]} == {"safety_checker_sha256"}


def test_checkers_that_cannot_be_loaded(stable_diffusion: Path, tmp_path: Path) -> None:
    """A checker with a random weight passes what it should not."""
    for name, message in ((str(stable_diffusion), "holds no"), ("owner/checker", "the hub did not give it")):
        with pytest.raises(UserError, match=message):
            opened(stable_diffusion, safety_checker=name)
    checker = save_checker(tmp_path / "checker", safety_checker(threshold=0.0))
    edit_weights(checker / "model.safetensors", concept_embeds=None)
    with pytest.raises(UserError, match="'safety_checker' needs"):
        opened(stable_diffusion, safety_checker=str(checker))
