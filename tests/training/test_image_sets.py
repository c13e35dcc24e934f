"""The models' own task: equation 5 on stored sets, for both variants."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from einops import repeat

from m2m.data.reading.dataset import ReadConfig
from m2m.data.reading.sets import open_sets
from m2m.diffusion.objective import ObjectiveConfig
from m2m.training.image_sets import ImageSetTask, SetBatch, new_model, new_scheduler, set_inputs
from m2m.training.task import Share
from m2m.training.trainable import set_trainable
from m2m.types import UserError
from tests.tiny import CONTEXT_DIM, tiny_context, tiny_model
from tests.toy_shards import write_toy_shards
from tests.training.set_runs import ENCODER, first_batch, run, same_state, task_of, toy_config, wake


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_shards(tmp_path_factory.mktemp("toy") / "sets")


@pytest.mark.parametrize("variant", ["self", "dino"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_resume_is_exact(data: Path, tmp_path: Path, variant: str, precision: str) -> None:
    """Guards against noise, timesteps, dropout or batches that a resumed run draws anew."""
    changes = {"variant": variant, "precision": precision}
    straight = run(toy_config(data, tmp_path / "straight", **changes))
    run(toy_config(data, tmp_path / "resumed", steps=3, **changes))
    resumed = run(toy_config(data, tmp_path / "resumed", **changes))
    same_state(straight, resumed)


@pytest.mark.parametrize("variant", ["self", "dino"])
def test_one_set_is_learnt(tmp_path: Path, variant: str) -> None:
    """Guards against a loss whose gradient does not reach the weights, or reaches them with the wrong sign."""
    data = write_toy_shards(tmp_path / "one", sets=1)
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


def test_a_batch_and_its_noise_follow_from_the_cursor(data: Path, tmp_path: Path) -> None:
    """Guards against one generator that runs through all steps, and against a resumed run that reads from the start."""
    config = toy_config(data, tmp_path, objective=ObjectiveConfig(context_dropout=0.5, noise_draws=2))
    task, other = task_of(config), task_of(config)
    batches = task.batches(0, {}, Share())
    first, second = next(batches), next(batches)
    (again,) = [next(other.batches(1, first.cursor, Share()))]
    assert again.keys == second.keys != first.keys
    losses = [own.loss(own.module, batch, 1)[0].item() for own, batch in ((task, second), (other, again))]
    assert losses[0] == losses[1]
    assert first_batch(task, step=1).keys == second.keys, "a branch of an older run has no cursor, but its step number"


def test_shares_of_a_step_are_the_step(data: Path, tmp_path: Path) -> None:
    """Guards against other samples, or another noise, on another number of processes or micro-batches."""
    task = task_of(toy_config(data, tmp_path, batch_sets=4))
    whole = first_batch(task)
    for shares in ([Share(0, 2), Share(1, 2)], [Share(accumulation=2)]):
        parts = []
        for share in shares:
            stream = task.batches(0, {}, share)
            parts += [next(stream) for _ in range(share.accumulation)]
        assert sorted(key for part in parts for key in part.keys) == sorted(whole.keys)
        losses = torch.stack([task.loss(task.module, part, 0)[0] for part in parts])
        assert losses.mean().item() == pytest.approx(task.loss(task.module, whole, 0)[0].item(), abs=1e-6)
        assert max(part.cursor["position"] for part in parts) == whole.cursor["position"]


def test_micro_batches_must_share_a_step_evenly(data: Path, tmp_path: Path) -> None:
    """Guards against a batch that is silently rounded to what fits."""
    task = task_of(toy_config(data, tmp_path, batch_sets=6, micro_batch_sets=2))
    assert task.accumulation(1) == 3 and task.accumulation(3) == 1
    for ranks in (2, 4, 12):
        with pytest.raises(UserError, match="cannot share it evenly"):
            task.accumulation(ranks)


@pytest.mark.parametrize("variant", ["self", "dino"])
def test_pictures_train_as_their_latents(tmp_path: Path, variant: str) -> None:
    """Guards against pictures that are encoded in another range or order than the pipeline encodes them."""
    config = toy_config("world:mini:train:4", tmp_path, variant=variant)
    task = task_of(config)
    batch = first_batch(task)
    assert batch.sets.images is not None and batch.sets.latents is None
    encoded = replace(
        batch.sets, images=None, latents=ENCODER.latents(batch.sets.images), features=ENCODER.tokens(batch.sets.images)
    )
    losses = [task.loss(task.module, SetBatch(sets), 0)[0] for sets in (batch.sets, encoded)]
    assert torch.equal(*losses)


def test_blocks_behind_frozen_layers_train_on_pictures(tmp_path: Path) -> None:
    """Guards against a crash of the whole process: torch's group norm on a CPU writes the gradient of an input with
    channels last, as a convolution leaves latents, even where nobody asked for it (transformer_blocks)."""
    changes = {"trainable": "transformer_blocks", "frozen_precision": "float32"}
    task = task_of(toy_config("world:mini:train:4", tmp_path, **changes))
    latents, _ = set_inputs(task.module, ENCODER, first_batch(task).sets, torch.device("cpu"))
    assert latents.flatten(0, 1).is_contiguous()
    set_trainable(task.module, "transformer_blocks", frozen_precision="float32")
    task.loss(task.module, first_batch(task), 0)[0].backward()
    assert all((p.grad is not None) == p.requires_grad for p in task.module.parameters())


@pytest.mark.parametrize("variant", ["self", "dino"])
def test_options_of_the_objective_change_the_loss(data: Path, tmp_path: Path, variant: str) -> None:
    """Guards against an option that is read and never used."""
    options: list[dict[str, Any]] = [
        {"shared_timestep": True},
        {"min_snr_gamma": 1.0},
        {"random_set_length": True},
        {"rollout_probability": 1.0, "rollout_steps": 2},
        {"noise_draws": 2},
        {"context_dropout": 1.0},
    ]
    if variant == "self":
        options.append({"context_noise": 300})
    losses = []
    for option in [{}, *options]:
        objective = ObjectiveConfig(**{"context_dropout": 0.0, **option})
        task = task_of(toy_config(data, tmp_path, variant=variant, objective=objective))
        wake(task.module)
        losses.append(task.loss(task.module, first_batch(task), 3)[0].item())
    assert len(set(losses)) == len(losses), losses


def test_zero_terminal_snr_is_the_schedulers(data: Path, tmp_path: Path) -> None:
    """Guards against a last step that still shows the image, and against an epsilon model that divides by zero."""
    scheduler = {"prediction_type": "v_prediction", "beta_schedule": "scaled_linear"}
    rescaled = new_scheduler(toy_config(data, tmp_path, scheduler=scheduler, zero_terminal_snr=True))
    assert rescaled.alphas_cumprod[-1] < 1e-6 < new_scheduler(toy_config(data, tmp_path)).alphas_cumprod[-1]
    with pytest.raises(UserError, match="needs a model that predicts v"):
        new_scheduler(toy_config(data, tmp_path, zero_terminal_snr=True))


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
    with pytest.raises(UserError, match="features of width 24, the model takes 7"):
        task_of(toy_config(data, tmp_path, variant="dino"), width=7)
    plain = write_toy_shards(tmp_path / "plain", features=False)
    config = toy_config(plain, tmp_path, variant="dino")
    sets = open_sets(config.data, ReadConfig(images=3))
    with pytest.raises(UserError, match="no features, which variant 'dino' needs"):
        ImageSetTask(new_model(config, CONTEXT_DIM), new_scheduler(config), sets, config)


def test_missing_features_are_made_of_the_latents(data: Path, tmp_path: Path) -> None:
    """Guards against M2M-DINO on latents alone that stops at the first batch, or attends to the latents themselves."""
    plain = write_toy_shards(tmp_path / "plain", features=False)
    task = task_of(toy_config(plain, tmp_path, variant="dino"))
    latents, tokens = set_inputs(task.module, ENCODER, first_batch(task).sets, torch.device("cpu"))
    assert torch.equal(tokens, ENCODER.tokens_of_latents(latents))
