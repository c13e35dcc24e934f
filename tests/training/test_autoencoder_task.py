"""The autoencoder's task: pictures of every set, the same at every resume, whatever they come from."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from m2m.config import config_dict
from m2m.training.autoencoder_task import AutoencoderConfig, AutoencoderTask, open_pictures, pictures
from m2m.training.loop import TrainingResult, train
from m2m.training.parallel import Processes
from m2m.training.task import Share
from m2m.types import UserError
from tests.data.reading.toy_shards import full_sets, write_folder
from tests.tiny import tiny_autoencoder
from tests.toy_shards import write_toy_shards

SPEC = "world:mini:train:7"


def config(out: Path | str = "unused", **changes: Any) -> AutoencoderConfig:
    """Four steps of three pictures of 16 pixels."""
    settings = {"data": SPEC, "size": 16, "batch_images": 3, "workers": 0, "out": str(out)}
    budget = {"steps": 4, "warmup_steps": 1, "threads": 1, "log_every": 1, "tracker": "none"}
    return AutoencoderConfig(**{**settings, **budget, **changes})


def task_of(settings: AutoencoderConfig) -> AutoencoderTask:
    return AutoencoderTask(tiny_autoencoder(), open_pictures(settings.data, settings), settings)


def run(settings: AutoencoderConfig) -> TrainingResult:
    with Processes(settings) as processes:
        return train(task_of(settings), settings, config_dict(settings), processes)


def test_an_epoch_shows_a_picture_of_every_set_and_the_next_one_others(tmp_path: Path) -> None:
    """Pictures that are never drawn, or the same one of each set for ever."""
    folder = write_folder(tmp_path / "pictures", full_sets(7, 5))
    data = open_pictures(str(folder), config(size=0))
    shown = torch.cat(list(islice(pictures(data, 7, seed=0), 6)))[:, 0, 0, :2].tolist()  # (set, number) of each picture
    epochs = [shown[start : start + 7] for start in range(0, 42, 7)]
    assert all(sorted(which for which, _ in epoch) == list(range(7)) for epoch in epochs)
    assert len({number for which, number in shown if which == 3}) > 1


@pytest.mark.parametrize("workers", [0, 1])
def test_the_pictures_of_a_step_follow_from_its_number(workers: int) -> None:
    """A stream whose state a resumed run would not have."""
    task = task_of(config(workers=workers))
    straight = [batch.data["images"] for batch in islice(task.batches(0, {}, Share()), 8)]
    resumed = next(task.batches(5, {}, Share()))
    assert resumed.keys == ("step 5",) and resumed.cursor == {}
    assert torch.equal(resumed.data["images"], straight[5]) and not torch.equal(straight[5], straight[0])


def test_resume_is_exact(tmp_path: Path) -> None:
    """Pictures, or draws from the posterior, that a resumed run would draw anew."""
    whole = run(config(tmp_path / "whole"))
    run(config(tmp_path / "cut", steps=2))
    resumed = run(config(tmp_path / "cut"))
    assert whole.step == resumed.step == 4
    for name, tensor in whole.optimisation.module.state_dict().items():
        assert torch.equal(tensor, resumed.optimisation.module.state_dict()[name]), name
    fresh = tiny_autoencoder().state_dict()
    assert any(not torch.equal(tensor, fresh[name]) for name, tensor in whole.optimisation.module.state_dict().items())


def test_mistakes_are_named(tmp_path: Path) -> None:
    """Latents taken for pictures, and processes that would all train the same."""
    latents = write_toy_shards(tmp_path / "latents")
    with pytest.raises(UserError, match="holds latents; an autoencoder trains on pictures"):
        open_pictures(str(latents), config(size=0))
    with pytest.raises(UserError, match="in one process, 2 were launched"):
        task_of(config()).accumulation(2)
    with pytest.raises(UserError, match="several sizes|do not stack"):
        uneven = write_folder(tmp_path / "uneven", full_sets(2, 1), sizes={"set001": (24, 16)})
        next(pictures(open_pictures(str(uneven), config(size=0)), 2, seed=0))
