"""The training loop that every part shares: the image-set models, the autoencoder, the probe.

It knows a `Task` (a module, its batches and their loss) and budgets; it stops at `steps`, after `minutes`, or on
SIGTERM and SIGINT, always with a checkpoint and never within a step, and continues by itself where `out` holds one. The
loss of a micro-batch must be a function of the weights, the batch, the step's number and torch's global generator: then
stopping changes nothing. One process runs it, or several together: they stop at the same step, and write one
checkpoint.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from m2m.config import config_dict
from m2m.signals import stop_signals
from m2m.training.guard import Guard
from m2m.training.optimizer import StepConfig, check_step_config
from m2m.training.parallel import Processes
from m2m.training.preparing import prepare
from m2m.training.state import Keep, Position, checkpoints, load_checkpoint, save_checkpoint
from m2m.training.step import Optimisation, StepResult
from m2m.training.task import Share, Task
from m2m.training.watching import Check, Recorder, Report, Work
from m2m.types import UserError


@dataclass(frozen=True)
class LoopConfig(StepConfig):
    """Budget, places and reporting of a run.

    out: folder of the run (checkpoints, metrics, samples, resolved config). steps: its length, which the schedule
    needs; minutes: stop earlier than that, per call; 0 is no limit. branch: another run, or a checkpoint of it, to
    start from when `out` holds no checkpoint yet. keep_last: checkpoints that stay; keep_every: those of every so many
    steps stay for good (0: none). threads: of torch; 0 leaves them. parallel: how several processes share the weights,
    `ddp` (each holds all) or `fsdp` (each holds a part). compile: blocks of the U-Net, by torch.compile.
    gradient_checkpointing: compute activations a second time instead of keeping them. tracker: where numbers go
    (`tensorboard`, `wandb`, ..., or `none`). stop_after_nonfinite: so many steps in a row whose loss or gradient is not
    finite end the run.
    """

    out: str = "runs/run"
    steps: int = 10_000
    minutes: float = 0.0
    checkpoint_every: int = 500
    keep_last: int = 2
    keep_every: int = 0
    log_every: int = 20
    sample_every: int = 0
    seed: int = 0
    threads: int = 0
    device: str = "cpu"
    branch: str = ""
    parallel: str = "ddp"
    compile: bool = False
    gradient_checkpointing: bool = False
    tracker: str = "tensorboard"
    stop_after_nonfinite: int = 5


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended. reason: `steps`, `minutes`, or the signal's name; signal: its number, else 0."""

    step: int
    reason: str
    signal: int
    checkpoint: Path
    optimisation: Optimisation


def train(
    task: Task[Any],
    config: LoopConfig,
    resolved: dict[str, Any],
    processes: Processes,
    report: Report | None = None,
    checks: Sequence[Check] = (),
    work: Work | None = None,
) -> TrainingResult:
    """Train `task` until a budget ends, with checkpoints, numbers and samples below `config.out`.

    resolved: the whole config as plain values; a checkpoint of another one is refused. processes: all that were
    launched; each of them calls this. checks: looked at with the averaged weights in place. work: what a step does, for
    the speeds in the reports. Raises UserError for such a checkpoint, an impossible schedule or tracker, a module that
    cannot do what the config asks, or losses that are no longer finite.
    """
    from accelerate.utils import set_seed

    check_loop_config(config)
    if config.threads:
        torch.set_num_threads(config.threads)
    set_seed(config.seed + processes.rank)  # what a module draws itself, dropout, differs between processes
    prepare(task.module, config)
    optimisation = Optimisation(task.module, config, config.steps, processes)
    start, own = _resume(optimisation, config, resolved)
    task.module.train()
    with Recorder(config, processes, start.step, resolved, report, work) as recorder, stop_signals() as stopped:
        return _Run(task, optimisation, config, resolved, recorder, checks, stopped).go(start, own)


class _Run:
    """The steps of one call."""

    def __init__(
        self,
        task: Task[Any],
        optimisation: Optimisation,
        config: LoopConfig,
        resolved: dict[str, Any],
        recorder: Recorder,
        checks: Sequence[Check],
        stopped: list[int],
    ) -> None:
        self._task = task
        self._optimisation = optimisation
        self._processes = optimisation.processes
        self._config = config
        self._resolved = resolved
        self._recorder = recorder
        self._checks = [check for check in checks if check.every]
        self._stopped = stopped
        self._deadline = time.monotonic() + 60 * config.minutes if config.minutes else math.inf
        self._guard = Guard(config.out, self._processes, config.stop_after_nonfinite)
        self._reason, self._signal = "steps", 0

    def go(self, start: Position, saved: Path | None) -> TrainingResult:
        """All steps from `start`, of which `saved` is the checkpoint."""
        self._position, self._saved = start, saved
        if start.step < self._config.steps:
            self._train()
        self._recorder.flush()
        return TrainingResult(self._position.step, self._reason, self._signal, self._save(), self._optimisation)

    def _train(self) -> None:
        accumulation = self._task.accumulation(self._processes.ranks)
        share = Share(self._processes.rank, self._processes.ranks, accumulation)
        batches = self._recorder.waiting(self._task.batches(self._position.step, self._position.cursor, share))
        try:
            while self._position.step < self._config.steps:
                step = self._position.step
                with self._recorder.counted():
                    result = self._optimisation.step(step, batches, self._task.loss, accumulation, self._interrupted)
                if result is not None:
                    self._finish(result)
                if self._must_stop():
                    break
        finally:
            batches.close()

    def _finish(self, result: StepResult) -> None:
        """All that comes behind a step."""
        step = self._position.step + 1
        self._guard.check(step, result)
        self._recorder.add(step, result.loss, result.logs, result.finite)
        self._position, self._saved = Position(step, result.batches[-1].cursor), None
        with self._recorder.paused():
            self._check(step, [check for check in self._checks if step % check.every == 0])
            if step % self._config.checkpoint_every == 0:
                self._recorder.flush()
                self._save()

    def _check(self, step: int, due: Iterable[Check]) -> None:
        if not due:
            return
        device = self._processes.device
        # What a check draws must not move the generators that training draws from, or resuming would change the run.
        with (
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            self._optimisation.averaged(),
            self._processes.autocast(),
            torch.no_grad(),
        ):
            for check in due:
                if self._interrupted():
                    return
                self._recorder.checked(step, check.name, check.run(step))

    def _save(self) -> Path:
        """The checkpoint of where the run stands, written unless it is there."""
        if self._saved is None:
            keep = Keep(self._config.keep_last, self._config.keep_every)
            state = self._optimisation, self._position, self._resolved
            self._saved = save_checkpoint(self._config.out, *state, keep)
        return self._saved

    def _interrupted(self) -> bool:
        """Whether a signal has reached any process; asked within a step, where the minutes may run over."""
        return self._processes.any(bool(self._stopped))

    def _must_stop(self) -> bool:
        """Whether any process has a reason to stop; if so, all agree on it."""
        if not self._processes.any(bool(self._stopped) or time.monotonic() > self._deadline):
            return False
        self._signal = max(self._processes.gather_objects(self._stopped[0] if self._stopped else 0))
        self._reason = signal.Signals(self._signal).name if self._signal else "minutes"
        return True


def check_loop_config(config: LoopConfig) -> None:
    """Raise UserError for an impossible budget, or anything that `check_step_config` refuses."""
    check_step_config(config, config.steps)
    for name in ("steps", "checkpoint_every", "keep_last", "log_every", "stop_after_nonfinite"):
        if getattr(config, name) < 1:
            raise UserError(f"{name} must be at least 1, it is {getattr(config, name)}")
    for name in ("minutes", "keep_every"):
        if getattr(config, name) < 0:
            raise UserError(f"{name} must not be negative, it is {getattr(config, name)}")


def _resume(optimisation: Optimisation, config: LoopConfig, resolved: dict[str, Any]) -> tuple[Position, Path | None]:
    """Where to continue, and the checkpoint of `out` that holds it: `out`'s newest, else the branched-off one."""
    own = checkpoints(config.out)
    if own:
        return load_checkpoint(own[-1], optimisation, resolved, config_dict(type(config))), own[-1]
    if not config.branch:
        return Position(0, {}), None
    origin = Path(config.branch)
    folders = [origin] if (origin / "state.json").is_file() else checkpoints(origin)
    if not folders:
        raise UserError(f"branch: '{origin}' is no checkpoint and holds none; give the folder of a run")
    return load_checkpoint(folders[-1], optimisation, resolved, branch=True), None
