"""Budgets, resuming, signals: stopping a run anywhere must not change what it becomes."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from m2m.checkpoint import read_json, write_json
from m2m.config import config_dict
from m2m.training import state as state_module
from m2m.training.loop import LoopConfig, TrainingResult, train
from m2m.training.state import checkpoints
from m2m.types import UserError
from tests.training.toys import ToyTask


def run(config: LoopConfig, task: ToyTask | None = None, **arguments: Any) -> TrainingResult:
    return train(task or ToyTask(), config, config_dict(config), **arguments)


def config(out: Path, **changes: Any) -> LoopConfig:
    settings: dict[str, Any] = {"out": str(out), "steps": 6, "log_every": 2, "warmup_steps": 2, "learning_rate": 0.01}
    return LoopConfig(**{**settings, **changes})


def weights(result: TrainingResult) -> list[torch.Tensor]:
    """Module, average and optimiser state."""
    optimisation = result.optimisation
    states = sorted(optimisation.optimizer.state_dict()["state"].items())
    moments = [value for _, own in states for _, value in sorted(own.items())]
    return [*optimisation.module.state_dict().values(), *optimisation.ema.shadow_params, *moments]


def assert_equal(one: TrainingResult, other: TrainingResult) -> None:
    assert len(weights(one)) == len(weights(other))
    assert all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def test_three_and_three_steps_are_six(tmp_path: Path) -> None:
    """Guards against state that a checkpoint forgets: moments, average, or the dropout's random generator."""
    straight = run(config(tmp_path / "straight"))
    first = run(config(tmp_path / "resumed", steps=3))
    task = ToyTask()
    torch.manual_seed(99)
    second = run(config(tmp_path / "resumed"), task)
    assert (first.step, second.step, task.steps) == (3, 6, [3, 4, 5])
    assert_equal(straight, second)


def test_sampling_changes_nothing(tmp_path: Path) -> None:
    """Guards against sample grids that move the generator or leave the averaged weights behind."""

    def samples(step: int) -> dict[str, np.ndarray]:
        torch.randn(1000)
        return {"grid": np.full((4, 6, 3), step, np.uint8)}

    plain = run(config(tmp_path / "plain"))
    sampled = run(config(tmp_path / "sampled", sample_every=2), samples=samples)
    assert_equal(plain, sampled)
    names = sorted(path.name for path in (tmp_path / "sampled" / "samples").iterdir())
    assert names == [f"grid-{step:08d}.png" for step in (2, 4, 6)]
    assert Image.open(tmp_path / "sampled" / "samples" / names[1]).getpixel((0, 0)) == (4, 4, 4)
    assert scalars(tmp_path / "sampled").Tags()["images"] == ["grid"]


def scalars(out: Path) -> EventAccumulator:
    return EventAccumulator(str(out / "tensorboard")).Reload()


def test_reports_are_means_of_what_passed(tmp_path: Path) -> None:
    """Guards against a log of the last step only, and scalars at the wrong step."""
    reports: list[Any] = []
    run(config(tmp_path, steps=5), report=reports.append)
    assert [report.step for report in reports] == [2, 4, 5]
    assert [report.logs["step_seen"] for report in reports] == [0.5, 2.5, 4.0]
    written = scalars(tmp_path).Scalars("train/loss")
    assert [event.step for event in written] == [2, 4, 5]
    assert written[0].value == pytest.approx(reports[0].loss)


def test_minutes_end_a_run_between_steps(tmp_path: Path) -> None:
    """Guards against a time budget that is only looked at when a checkpoint is due."""
    result = run(config(tmp_path, steps=10**6, minutes=0.002))
    assert result.reason == "minutes" and 0 < result.step < 10**6
    assert checkpoints(tmp_path) == [result.checkpoint]
    assert run(config(tmp_path, steps=result.step + 2)).step == result.step + 2


def test_a_signal_ends_a_run_behind_its_step(tmp_path: Path) -> None:
    """Guards against a half step, and against a handler that outlives the run."""
    former = signal.getsignal(signal.SIGTERM)

    class Signalled(ToyTask):
        def loss(self, step: int) -> Any:
            if step == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().loss(step)

    result = run(config(tmp_path, steps=100), Signalled())
    assert (result.step, result.reason, result.signal) == (4, "SIGTERM", signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is former
    assert_equal(run(config(tmp_path, steps=6)), run(config(tmp_path / "straight", steps=6)))


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    """Guards against a disk that fills up, and against removing the newest."""
    run(config(tmp_path, steps=5, checkpoint_every=1, keep_last=2))
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000004", "step-00000005"]


def test_a_finished_run_does_nothing_again(tmp_path: Path) -> None:
    """Guards against a repeated command that trains on, or writes its last checkpoint anew."""
    run(config(tmp_path))
    stamp = checkpoints(tmp_path)[-1].stat().st_mtime_ns
    task = ToyTask()
    assert run(config(tmp_path), task).step == 6
    assert task.steps == [] and checkpoints(tmp_path)[-1].stat().st_mtime_ns == stamp


def test_another_config_is_refused_and_budgets_are_not(tmp_path: Path) -> None:
    """Guards against a run that goes on with another rate than its log says."""
    run(config(tmp_path, steps=3))
    with pytest.raises(UserError, match="learning_rate was 0.01, now 0.02"):
        run(config(tmp_path, learning_rate=0.02))
    assert run(config(tmp_path, steps=4, minutes=5.0, checkpoint_every=7, log_every=1)).step == 4


def test_a_setting_that_is_newer_than_the_checkpoint(tmp_path: Path) -> None:
    """Guards against a long run that no later version can continue, and a new setting that slips in unnoticed."""
    result = run(config(tmp_path, steps=3))
    manifest = read_json(result.checkpoint / "state.json")
    del manifest["config"]["gradient_clip"]
    write_json(result.checkpoint / "state.json", manifest)
    with pytest.raises(UserError, match="gradient_clip was 1.0, now 0.5"):
        run(config(tmp_path, gradient_clip=0.5))
    assert run(config(tmp_path)).step == 6


def test_the_end_of_a_decaying_run_stays(tmp_path: Path) -> None:
    """Guards against a cosine that is resumed with another length and jumps."""
    run(config(tmp_path, schedule="cosine", minutes=1e-9))
    with pytest.raises(UserError, match="steps was 6, now 9"):
        run(config(tmp_path, schedule="cosine", steps=9))


def test_a_branch_cools_down_beside_its_trunk(tmp_path: Path) -> None:
    """Guards against a branch that starts from nothing, or writes into its trunk."""
    trunk = run(config(tmp_path / "trunk", steps=4))
    task = ToyTask()
    branch = config(tmp_path / "branch", schedule="wsd", cooldown_steps=2, branch=str(tmp_path / "trunk"))
    result = run(branch, task)
    assert task.steps == [4, 5] and result.step == 6
    assert [path.name for path in checkpoints(tmp_path / "trunk")] == [trunk.checkpoint.name]
    with pytest.raises(UserError, match="no checkpoint"):
        run(replace(branch, out=str(tmp_path / "new"), branch=str(tmp_path / "nothing")))


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    """Guards against a checkpoint of ruined weights over the last good one."""

    class Diverging(ToyTask):
        def loss(self, step: int) -> Any:
            loss, logs = super().loss(step)
            return loss * (float("nan") if step == 4 else 1), logs

    with pytest.raises(UserError, match="loss is nan"):
        run(config(tmp_path, checkpoint_every=1, keep_last=1), Diverging())
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000004"]


def test_a_kill_in_the_middle_of_a_save_leaves_the_former_checkpoint(tmp_path: Path) -> None:
    """Guards against a checkpoint that is replaced in place. The child really dies, by SIGKILL, before the manifest."""
    first = run(config(tmp_path, steps=3))
    child = os.fork()
    if child == 0:
        state_module.write_json = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        run(config(tmp_path))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2, "the child died too early to have left anything"
    assert checkpoints(tmp_path) == [first.checkpoint]
    assert_equal(run(config(tmp_path)), run(config(tmp_path / "straight")))
    assert not list((tmp_path / "checkpoints").glob(".*")), "the next save of that name removes what was left"


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    """Guards against a truncated file that loads as something else."""
    result = run(config(tmp_path, steps=3))
    path = result.checkpoint / "ema.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UserError, match="ema.safetensors' is damaged"):
        run(config(tmp_path))


def test_impossible_budgets_are_named(tmp_path: Path) -> None:
    """Guards against a division by zero in the middle of a run."""
    for key, value in [("steps", 0), ("log_every", 0), ("checkpoint_every", 0), ("keep_last", 0), ("minutes", -1.0)]:
        with pytest.raises(UserError, match=key):
            run(config(tmp_path, **{key: value}))
