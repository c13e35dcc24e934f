"""The models' own task: equation 5 on stored sets, for both variants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from einops import repeat

from m2m.config import config_dict
from m2m.data.latents import LatentSets
from m2m.diffusion.objective import ObjectiveConfig
from m2m.training.image_sets import ImageSetTask, TrainConfig, new_model, new_scheduler
from m2m.training.loop import TrainingResult, train
from m2m.types import UserError
from tests.tiny import CONTEXT_DIM, tiny_context, tiny_model
from tests.training.toys import toy_config, write_toy_sets


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_sets(tmp_path_factory.mktemp("toy") / "sets")


def task_of(config: TrainConfig) -> ImageSetTask:
    return ImageSetTask(new_model(config, CONTEXT_DIM), new_scheduler(config), LatentSets(config.data), config)


def run(config: TrainConfig, **arguments: Any) -> TrainingResult:
    return train(task_of(config), config, config_dict(config), **arguments)


@pytest.mark.parametrize("variant", ["self", "dino"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_resume_is_exact(data: Path, tmp_path: Path, variant: str, precision: str) -> None:
    """Guards against noise, timesteps, dropout or batches that a resumed run draws anew."""
    changes = {"variant": variant, "precision": precision}
    straight = run(toy_config(data, tmp_path / "straight", **changes))
    run(toy_config(data, tmp_path / "resumed", steps=3, **changes))
    resumed = run(toy_config(data, tmp_path / "resumed", **changes))
    for name, tensor in straight.optimisation.module.state_dict().items():
        assert torch.equal(tensor, resumed.optimisation.module.state_dict()[name]), name
    averages = zip(straight.optimisation.ema.shadow_params, resumed.optimisation.ema.shadow_params, strict=True)
    assert all(torch.equal(one, other) for one, other in averages)


@pytest.mark.parametrize("variant", ["self", "dino"])
def test_one_set_is_learnt(tmp_path: Path, variant: str) -> None:
    """Guards against a loss whose gradient does not reach the weights, or reaches them with the wrong sign."""
    data = write_toy_sets(tmp_path / "one", sets=1)
    objective = ObjectiveConfig(noise_draws=4)
    changes = {"variant": variant, "objective": objective, "steps": 30, "batch_sets": 1, "learning_rate": 5e-3}
    reports: list[Any] = []
    scheduler = {"prediction_type": "v_prediction", "beta_schedule": "scaled_linear"}
    config = toy_config(data, tmp_path / "out", scheduler=scheduler, log_every=10, **changes)
    result = run(config, report=reports.append)
    assert reports[-1].loss < 0.75 * reports[0].loss
    start = new_model(config, CONTEXT_DIM).image_set_attention_parameters()
    moved = result.optimisation.module.image_set_attention_parameters()
    assert all(not torch.equal(a, b) for a, b in zip(start, moved, strict=True)), "image-set attention was not trained"


def test_bfloat16_is_near_float32(data: Path, tmp_path: Path) -> None:
    """Guards against autocast that is switched on in name only, and against weights that become bfloat16."""
    plain = run(toy_config(data, tmp_path / "plain", steps=1))
    half = run(toy_config(data, tmp_path / "half", steps=1, precision="bfloat16"))
    states = plain.optimisation.module.state_dict(), half.optimisation.module.state_dict()
    assert all(tensor.dtype == torch.float32 for tensor in states[1].values())
    differences = [(a - b).abs().max().item() for a, b in zip(states[0].values(), states[1].values(), strict=True)]
    assert 0 < max(differences) < 0.01


def test_draws_that_coincide_are_one_draw() -> None:
    """Guards against noisy copies that are folded in another order than the images they belong to."""
    model = tiny_model("self")
    context = tiny_context(model, sets=2, images=3)
    noisy, timesteps = torch.randn_like(context), torch.randint(0, 1000, (2, 3))
    keep = torch.tensor([True, False])
    once = model(noisy, context, timesteps, keep)
    twice = model(
        repeat(noisy, "b n c h w -> b (n k) c h w", k=2), context, repeat(timesteps, "b n -> b (n k)", k=2), keep
    )
    assert torch.allclose(twice, repeat(once, "b n c h w -> b (n k) c h w", k=2), atol=1e-5)


def test_the_loss_of_a_step_does_not_depend_on_the_steps_before(data: Path, tmp_path: Path) -> None:
    """Guards against one generator that runs through all steps."""
    config = toy_config(data, tmp_path, objective=ObjectiveConfig(context_dropout=0.5, noise_draws=2))
    task, other = task_of(config), task_of(config)
    for step in range(3):
        task.loss(step)
    assert task.loss(3)[0].item() == other.loss(3)[0].item() != other.loss(4)[0].item()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"unet": {"sample_sise": 8, "block_out_channels": [16, 32]}}, "unet: sample_sise"),
        ({"scheduler": {"beta_shedule": "linear"}}, "scheduler: beta_shedule"),
    ],
)
def test_fields_that_diffusers_would_ignore_are_named(
    data: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    """Guards against a misspelt field of the U-Net or scheduler that silently stays at its default."""
    with pytest.raises(UserError, match=words):
        task_of(toy_config(data, tmp_path, **changes))


def test_data_that_does_not_fit_is_named(data: Path, tmp_path: Path) -> None:
    """Guards against a shape error from inside the first convolution."""
    config = toy_config(data, tmp_path)
    wide = {**config.unet, "in_channels": 6, "out_channels": 6}
    with pytest.raises(UserError, match="latents of 4 channels, the U-Net takes 6"):
        task_of(toy_config(data, tmp_path, unet=wide))
    dino = toy_config(data, tmp_path, variant="dino")
    with pytest.raises(UserError, match="features of width 24, the model takes 7"):
        ImageSetTask(new_model(dino, 7), new_scheduler(dino), LatentSets(data), dino)
    plain = write_toy_sets(tmp_path / "plain", settings={"arrays": ["latents"]})
    with pytest.raises(UserError, match="no features.npy"):
        ImageSetTask(new_model(dino, CONTEXT_DIM), new_scheduler(dino), LatentSets(plain), dino)
