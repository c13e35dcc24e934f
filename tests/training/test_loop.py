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
from accelerate.utils import set_seed
from torch import Tensor

from m2m.checkpoint import read_json, write_json
from m2m.training import state as state_module
from m2m.training.loop import LoopConfig, TrainingResult
from m2m.training.state import checkpoints
from m2m.training.watching import Check
from m2m.types import UserError
from tests.training.toys import ROWS, ToyBatch, ToyTask, run, toy_config


class Signalled(ToyTask):
    """SIGTERM comes in the `call`-th loss (from 0)."""

    def __init__(self, call: int, micro: int = 0) -> None:
        super().__init__(micro)
        self._call = call

    def loss(self, module: Any, batch: ToyBatch, step: int) -> Any:
        if len(self.steps) == self._call:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().loss(module, batch, step)


class Spoiled(ToyTask):
    """The loss of some steps is no number."""

    def __init__(self, *spoiled: int) -> None:
        super().__init__()
        self._spoiled = spoiled

    def loss(self, module: Any, batch: ToyBatch, step: int) -> Any:
        loss, logs = super().loss(module, batch, step)
        return loss * (float("nan") if step in self._spoiled else 1), logs


def weights(result: TrainingResult) -> list[Tensor]:
    """Module, average and optimiser state."""
    optimisation = result.optimisation
    states = [optimisation.optimizer.state.get(parameter, {}) for parameter in optimisation.trained.values()]
    moments = [value for own in states for _, value in sorted(own.items())]
    return [*optimisation.module.state_dict().values(), *optimisation.average.tensors().values(), *moments]


def assert_equal(one: TrainingResult, other: TrainingResult) -> None:
    assert len(weights(one)) == len(weights(other))
    assert all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


@pytest.mark.parametrize("micro", [0, 2])
def test_three_and_three_steps_are_six(tmp_path: Path, micro: int) -> None:
    """Guards against state that a checkpoint forgets: moments, average, the cursor, or dropout's random generator."""
    straight = run(toy_config(tmp_path / "straight"), ToyTask(micro))
    first = run(toy_config(tmp_path / "resumed", steps=3), ToyTask(micro))
    task = ToyTask(micro)
    torch.manual_seed(99)
    second = run(toy_config(tmp_path / "resumed"), task)
    assert (first.step, second.step) == (3, 6)
    assert task.steps == [step for step in (3, 4, 5) for _ in range(ROWS // (micro or ROWS))]
    assert_equal(straight, second)


def test_checks_look_at_the_average_and_change_nothing(tmp_path: Path) -> None:
    """Guards against checks that move the generators, train, or leave the averaged weights behind."""
    seen: list[Any] = []
    task = ToyTask()

    def look(step: int) -> dict[str, Any]:
        torch.randn(1000)
        seen.append((step, task.module.training, torch.is_grad_enabled(), task.module[0].weight.clone()))  # type: ignore
        return {"grid": np.full((4, 6, 3), step, np.uint8), "number": 1.5}

    plain = run(toy_config(tmp_path / "plain"))
    checks = [Check("look", 2, look), Check("never", 0, lambda step: {"number": 1 / 0})]
    checked = run(toy_config(tmp_path / "checked"), task, checks=checks)
    assert_equal(plain, checked)
    assert [entry[:3] for entry in seen] == [(step, False, False) for step in (2, 4, 6)]
    assert torch.equal(seen[-1][3], checked.optimisation.average.tensors()["0.weight"])
    assert not torch.equal(seen[-1][3], checked.optimisation.trained["0.weight"])
    names = sorted(path.name for path in (tmp_path / "checked" / "samples").iterdir())
    assert names == [f"grid-{step:08d}.png" for step in (2, 4, 6)]


def test_nothing_but_the_module_draws(tmp_path: Path) -> None:
    """Guards against a loop whose own draws shift those of the module, so that an option changes the run."""
    run(toy_config(tmp_path, checkpoint_every=2), ToyTask(dropout=0.0))
    after = torch.get_rng_state()
    set_seed(LoopConfig().seed)
    assert torch.equal(after, torch.get_rng_state())


def test_reports_come_on_time_and_at_the_end(tmp_path: Path) -> None:
    """Guards against the last steps of a run that nobody hears of."""
    reports: list[Any] = []
    run(toy_config(tmp_path, steps=5), report=reports.append)
    assert [report.step for report in reports] == [2, 4, 5]
    assert [report.logs["step_seen"] for report in reports] == [0.5, 2.5, 4.0]


def test_minutes_end_a_run_between_steps(tmp_path: Path) -> None:
    """Guards against a time budget that is only looked at when a checkpoint is due."""
    result = run(toy_config(tmp_path, steps=10**6, minutes=0.002))
    assert result.reason == "minutes" and 0 < result.step < 10**6
    assert checkpoints(tmp_path) == [result.checkpoint]
    assert run(toy_config(tmp_path, steps=result.step + 2)).step == result.step + 2


def test_a_signal_ends_a_run_behind_its_step(tmp_path: Path) -> None:
    """Guards against a half step, and against a handler that outlives the run."""
    former = signal.getsignal(signal.SIGTERM)
    result = run(toy_config(tmp_path, steps=100), Signalled(call=3))
    assert (result.step, result.reason, result.signal) == (4, "SIGTERM", signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is former
    assert_equal(run(toy_config(tmp_path)), run(toy_config(tmp_path / "straight")))


def test_a_signal_between_micro_batches_waits_for_none_of_the_rest(tmp_path: Path) -> None:
    """Guards against a stop that takes a whole long step, and against half of one in the checkpoint."""
    task = Signalled(call=19, micro=2)  # the second of six in step 3
    result = run(toy_config(tmp_path, steps=100), task)
    assert (result.step, result.reason, task.steps[-2:]) == (3, "SIGTERM", [3, 3])
    resumed = run(toy_config(tmp_path), ToyTask(micro=2))
    assert_equal(resumed, run(toy_config(tmp_path / "straight"), ToyTask(micro=2)))


def test_old_checkpoints_go_but_some_stay(tmp_path: Path) -> None:
    """Guards against a disk that fills up, and against settings that never reach the checkpoints."""
    run(toy_config(tmp_path, steps=5, checkpoint_every=1, keep_last=1, keep_every=2))
    assert [path.name for path in checkpoints(tmp_path)] == [f"step-0000000{step}" for step in (2, 4, 5)]


def test_a_finished_run_does_nothing_again(tmp_path: Path) -> None:
    """Guards against a repeated command that trains on, or writes its last checkpoint anew."""
    run(toy_config(tmp_path))
    stamp = checkpoints(tmp_path)[-1].stat().st_mtime_ns
    task = ToyTask()
    assert run(toy_config(tmp_path), task).step == 6
    assert task.steps == [] and checkpoints(tmp_path)[-1].stat().st_mtime_ns == stamp


def test_another_config_is_refused_and_budgets_are_not(tmp_path: Path) -> None:
    """Guards against a run that goes on with another rate than its log says, and one that no later version goes on."""
    result = run(toy_config(tmp_path, steps=3))
    manifest = read_json(result.checkpoint / "state.json")
    del manifest["config"]["gradient_clip"]
    write_json(result.checkpoint / "state.json", manifest)
    with pytest.raises(UserError, match="learning_rate was 0.01, now 0.02"):
        run(toy_config(tmp_path, learning_rate=0.02))
    with pytest.raises(UserError, match="gradient_clip was 1.0, now 0.5"):
        run(toy_config(tmp_path, gradient_clip=0.5))
    assert run(toy_config(tmp_path, steps=4, minutes=5.0, checkpoint_every=7, log_every=1)).step == 4


def test_a_branch_cools_down_beside_its_trunk(tmp_path: Path) -> None:
    """Guards against a branch that starts from nothing, or writes into its trunk."""
    trunk = run(toy_config(tmp_path / "trunk", steps=4))
    task = ToyTask()
    branch = toy_config(tmp_path / "branch", schedule="wsd", cooldown_steps=2, branch=str(tmp_path / "trunk"))
    result = run(branch, task)
    assert task.steps == [4, 5] and result.step == 6
    assert [path.name for path in checkpoints(tmp_path / "trunk")] == [trunk.checkpoint.name]
    with pytest.raises(UserError, match="no checkpoint"):
        run(replace(branch, out=str(tmp_path / "new"), branch=str(tmp_path / "nothing")))


def test_a_skipped_step_is_survived(tmp_path: Path) -> None:
    """Guards against one bad sample that ends a run of days, and a resumed run that counts it otherwise."""
    straight = run(toy_config(tmp_path / "straight"), Spoiled(1, 2, 4))
    run(toy_config(tmp_path / "resumed", steps=3), Spoiled(1, 2, 4))
    assert_equal(straight, run(toy_config(tmp_path / "resumed"), Spoiled(1, 2, 4)))
    assert all(tensor.isfinite().all() for tensor in weights(straight))
    assert len((tmp_path / "straight" / "skipped.jsonl").read_text().splitlines()) == 3


def test_skipped_steps_in_a_row_end_the_run(tmp_path: Path) -> None:
    """Guards against a ruined run that goes on for days, and a checkpoint of it over the last good one."""
    config = toy_config(tmp_path, checkpoint_every=1, keep_last=1, stop_after_nonfinite=2)
    with pytest.raises(UserError, match="not finite 2 steps in a row"):
        run(config, Spoiled(2, 4, 5))
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000005"]
    assert list((tmp_path / "nonfinite").rglob("*.safetensors"))


def test_a_kill_in_the_middle_of_a_save_leaves_the_former_checkpoint(tmp_path: Path) -> None:
    """Guards against a checkpoint that is replaced in place. The child really dies, by SIGKILL, before the manifest."""
    first = run(toy_config(tmp_path, steps=3))
    child = os.fork()
    if child == 0:
        state_module.write_json = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        run(toy_config(tmp_path))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2, "the child died too early to have left anything"
    assert checkpoints(tmp_path) == [first.checkpoint]
    assert_equal(run(toy_config(tmp_path)), run(toy_config(tmp_path / "straight")))
    assert not list((tmp_path / "checkpoints").glob(".*")), "the next save removes what was left"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"log_every": 0}, "log_every"),
        ({"checkpoint_every": 0}, "checkpoint_every"),
        ({"keep_last": 0}, "keep_last"),
        ({"stop_after_nonfinite": 0}, "stop_after_nonfinite"),
        ({"keep_every": -1}, "keep_every must not be negative"),
        ({"minutes": -1.0}, "minutes"),
        ({"parallel": "zero"}, "parallel 'zero' is not one of ddp, fsdp"),
        ({"precision": "half"}, "precision 'half'"),
        ({"gradient_checkpointing": True}, "gradient_checkpointing: Sequential has no blocks"),
        ({"compile": True}, "compile: Sequential has no blocks"),
    ],
)
def test_impossible_settings_are_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    """Guards against a division by zero in the middle of a run, and an option that silently does nothing."""
    with pytest.raises(UserError, match=words):
        run(toy_config(tmp_path, **changes))
