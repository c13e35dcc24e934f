"""The training loop that every part shares: the image-set models, the autoencoder, the probe.

It knows a `Task` (a module and the loss of a step) and budgets; it stops at `steps`, after `minutes`, or on SIGTERM and
SIGINT, always behind a whole step and with a checkpoint, and continues by itself where `out` holds one. The loss of a
step must be a function of the weights, the step's number and torch's global generator: then stopping changes nothing.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from m2m.config import config_dict
from m2m.signals import stop_signals
from m2m.training.state import checkpoint_folder, checkpoints, load_checkpoint, save_checkpoint
from m2m.training.step import Optimisation, StepConfig
from m2m.types import UserError


@dataclass(frozen=True)
class LoopConfig(StepConfig):
    """Budget, places and reporting of a run.

    out: folder of the run (checkpoints, TensorBoard, samples, resolved config). steps: its length, which the schedule
    needs; minutes: stop earlier than that, per call; 0 is no limit. branch: another run, or a checkpoint of it, to
    start from when `out` holds no checkpoint yet. threads: of torch; 0 leaves them.
    """

    out: str = "runs/run"
    steps: int = 10_000
    minutes: float = 0.0
    checkpoint_every: int = 500
    keep_last: int = 2
    log_every: int = 20
    sample_every: int = 0
    seed: int = 0
    threads: int = 0
    device: str = "cpu"
    branch: str = ""


class Task(Protocol):
    """What is trained: `module`, on its device, and the loss of a step with logs (scalars, by name)."""

    @property
    def module(self) -> nn.Module:
        """The parameters that move."""
        ...

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """The loss of step `step` (from 0), a scalar, and what to log beside it."""
        ...


@dataclass(frozen=True)
class Progress:
    """Given to the `report` callback every `log_every` steps: means since the last report."""

    step: int
    steps: int
    loss: float
    logs: Mapping[str, float]
    steps_per_second: float


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended. reason: `steps`, `minutes`, or the signal's name; signal: its number, else 0."""

    step: int
    reason: str
    signal: int
    checkpoint: Path
    optimisation: Optimisation


Report = Callable[[Progress], None]
Samples = Callable[[int], Mapping[str, NDArray[np.uint8]]]


def train(
    task: Task,
    config: LoopConfig,
    resolved: dict[str, Any],
    report: Report | None = None,
    samples: Samples | None = None,
) -> TrainingResult:
    """Train `task` until a budget ends, with checkpoints, scalars and samples below `config.out`.

    resolved: the whole config as plain values; a checkpoint of another one is refused.
    samples: called every `sample_every` steps with the averaged weights in place; gives uint8 pictures [H, W, 3].
    Raises UserError for such a checkpoint, an impossible schedule, or a loss that is no longer finite.
    """
    _check_budget(config)
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    optimisation = Optimisation(task.module, config, config.steps)
    start = _resume(optimisation, config, resolved)
    task.module.train()
    with _Recorder(config, report) as recorder, stop_signals() as stopped:
        return _run(task, optimisation, config, resolved, start, recorder, samples, stopped)


def _run(
    task: Task,
    optimisation: Optimisation,
    config: LoopConfig,
    resolved: dict[str, Any],
    step: int,
    recorder: _Recorder,
    samples: Samples | None,
    stopped: list[int],
) -> TrainingResult:
    deadline = time.monotonic() + 60 * config.minutes if config.minutes else math.inf
    reason = "steps"
    while step < config.steps:
        loss, logs = optimisation.step(step, partial(task.loss, step))
        step += 1
        recorder.add(step, loss, logs)
        if samples and config.sample_every and step % config.sample_every == 0:
            _sample(optimisation, samples, step, recorder)
        if step % config.checkpoint_every == 0:
            recorder.flush()
            save_checkpoint(config.out, optimisation, step, resolved, config.keep_last)
        if stopped or time.monotonic() > deadline:
            reason = signal.Signals(stopped[0]).name if stopped else "minutes"
            break
    recorder.flush()
    last = checkpoint_folder(config.out, step)
    if not last.exists():
        save_checkpoint(config.out, optimisation, step, resolved, config.keep_last)
    return TrainingResult(step, reason, stopped[0] if stopped else 0, last, optimisation)


def _check_budget(config: LoopConfig) -> None:
    for name in ("steps", "checkpoint_every", "keep_last", "log_every"):
        if getattr(config, name) < 1:
            raise UserError(f"{name} must be at least 1, it is {getattr(config, name)}")
    if config.minutes < 0:
        raise UserError(f"minutes must not be negative, it is {config.minutes}")


def _resume(optimisation: Optimisation, config: LoopConfig, resolved: dict[str, Any]) -> int:
    """The step to continue from: `out`'s newest checkpoint, else the branched-off one, else 0."""
    own = checkpoints(config.out)
    if own:
        return load_checkpoint(own[-1], optimisation, resolved, config_dict(type(config)))
    if not config.branch:
        return 0
    origin = Path(config.branch)
    folders = [origin] if (origin / "state.json").is_file() else checkpoints(origin)
    if not folders:
        raise UserError(f"branch: '{origin}' is no checkpoint and holds none")
    return load_checkpoint(folders[-1], optimisation, resolved, branch=True)


def _sample(optimisation: Optimisation, samples: Samples, step: int, recorder: _Recorder) -> None:
    # What sampling draws must not move the generator that training draws from, or resuming would change the run.
    with torch.random.fork_rng(), optimisation.averaged(), torch.no_grad():
        recorder.pictures(step, samples(step))


class _Recorder:
    """Collects scalars, and hands means of them to TensorBoard and to the report callback."""

    def __init__(self, config: LoopConfig, report: Report | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._config = config
        self._report = report
        self._writer = SummaryWriter(str(Path(config.out) / "tensorboard"))
        self._losses: list[Tensor] = []
        self._logs: list[dict[str, float]] = []
        self._step = 0
        self._since = time.monotonic()

    def __enter__(self) -> _Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def add(self, step: int, loss: Tensor, logs: dict[str, float]) -> None:
        self._step = step
        self._losses.append(loss)
        self._logs.append(logs)
        if step % self._config.log_every == 0:
            self.flush()

    def flush(self) -> None:
        """Report what has gathered. Raises UserError for a loss that is not finite, before a checkpoint keeps it."""
        if not self._losses:
            return
        loss = float(torch.stack(self._losses).float().mean())
        if not math.isfinite(loss):
            raise UserError(f"the loss is {loss} at step {self._step}: lower learning_rate, or use precision=float32")
        logs = {name: float(np.mean([own[name] for own in self._logs if name in own])) for name in self._logs[-1]}
        speed = len(self._losses) / max(1e-9, time.monotonic() - self._since)
        for name, value in {"loss": loss, **logs, "steps_per_second": speed}.items():
            self._writer.add_scalar(f"train/{name}", value, self._step)
        if self._report:
            self._report(Progress(self._step, self._config.steps, loss, logs, speed))
        self._losses, self._logs, self._since = [], [], time.monotonic()

    def pictures(self, step: int, pictures: Mapping[str, NDArray[np.uint8]]) -> None:
        """Sample grids to TensorBoard and, as PNG, below `out/samples`."""
        from PIL import Image

        folder = Path(self._config.out) / "samples"
        folder.mkdir(parents=True, exist_ok=True)
        for name, picture in pictures.items():
            self._writer.add_image(name, picture, step, dataformats="HWC")
            Image.fromarray(picture).save(folder / f"{name}-{step:08d}.png")
        self._since = time.monotonic()
