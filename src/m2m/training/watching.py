"""What a run shows of itself while it trains: its losses, its speed, what it waits for, and the results of its checks.

Every process takes part, for the numbers of all of them are joined; the main one alone writes. Numbers go to the
trackers (`m2m.training.trackers`), to `out/metrics.jsonl` and to a report callback, pictures to the trackers and to
`out/samples`.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m2m.checkpoint import atomic_write
from m2m.operations import Operations
from m2m.training.parallel import mean_by_name
from m2m.training.trackers import JsonLines, Trackers, check_trackers

if TYPE_CHECKING:
    from m2m.training.loop import LoopConfig
    from m2m.training.parallel import Processes

T = TypeVar("T")
GB = 1e9  # bytes


@dataclass(frozen=True)
class Check:
    """Something that is looked at every `every` steps, in every process and with the averaged weights in place.

    run: from the number of steps done to scalars and uint8 pictures [H, W, 3], by name. Those of the main process are
    recorded, as `name/...`.
    """

    name: str
    every: int
    run: Callable[[int], Mapping[str, float | NDArray[np.uint8]]]


@dataclass(frozen=True)
class Work:
    """What one step does, over all processes. sets: of images (or pictures, where there are no sets); flops: floating
    point operations, forward and backward; 0: those of the first step are counted."""

    sets: int = 0
    flops: float = 0.0


@dataclass(frozen=True)
class Progress:
    """Given to the `report` callback every `log_every` steps: what has passed since the last report.

    loss, logs: means over steps and processes, skipped steps left out (NaN where all were skipped). skipped: steps
    whose loss or gradient was not finite. steps_per_second, sets_per_second: without checks and saving. tflops: of one
    device. waiting: share of the time, 0..1, that the slowest process waited for data. memory_gb: the most that a
    process has held so far, on its GPU, or in all where it has none. seconds_left: to the last step, with checks and
    saving as often as until now.
    """

    step: int
    steps: int
    loss: float
    logs: Mapping[str, float]
    steps_per_second: float
    sets_per_second: float = 0.0
    tflops: float = 0.0
    waiting: float = 0.0
    memory_gb: float = 0.0
    skipped: int = 0
    seconds_left: float = 0.0

    def numbers(self) -> dict[str, float]:
        """All but the step and the time that is left, by name; without those that are unknown."""
        known = {"sets_per_second": self.sets_per_second, "tflops": self.tflops}
        return {
            "loss": self.loss,
            **self.logs,
            "steps_per_second": self.steps_per_second,
            **{name: value for name, value in known.items() if value},
            "waiting": self.waiting,
            "memory_gb": self.memory_gb,
            "skipped": float(self.skipped),
        }


Report = Callable[[Progress], None]


class Waiting(Generic[T]):
    """An iterator around another; `seconds` is the time that `next` has taken so far."""

    def __init__(self, inner: Iterator[T]) -> None:
        self._inner = inner
        self.seconds = 0.0

    def __iter__(self) -> Waiting[T]:
        return self

    def __next__(self) -> T:
        started = time.monotonic()
        try:
            return next(self._inner)
        finally:
            self.seconds += time.monotonic() - started

    def close(self) -> None:
        """Close the inner iterator, where it can be closed: a generator ends its worker processes."""
        if close := getattr(self._inner, "close", None):
            close()


class Recorder:
    """Collects the numbers of a run; a context manager, entered by every process.

    start: steps done before; what a former run recorded behind it is dropped, for those steps come again. resolved: the
    whole config, for trackers that keep one. Every process must call `add` and `flush` for the same steps.
    Raises UserError, in every process, for a tracker that does not exist or is not installed.
    """

    def __init__(
        self,
        config: LoopConfig,
        processes: Processes,
        start: int,
        resolved: Mapping[str, Any],
        report: Report | None = None,
        work: Work | None = None,
    ) -> None:
        check_trackers(config.tracker)
        self._config = config
        self._processes = processes
        self._start = start
        self._resolved = resolved
        self._report = report
        self._work = work or Work()
        self._flops = self._work.flops / processes.ranks  # of this process
        self._writers: tuple[Trackers, JsonLines] | None = None
        self._waiting: Waiting[Any] | None = None
        self._paused = False

    def __enter__(self) -> Recorder:
        out = Path(self._config.out)
        if self._processes.is_main and self._start < self._config.steps:
            trackers = Trackers(self._config.tracker, out, self._start, self._resolved)
            self._writers = trackers, JsonLines(out / "metrics.jsonl", self._start)
        self._began = self._ticked = time.monotonic()
        self._clear()
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._writers or ():
            writer.close()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Around a step. The operations of the first one are counted, for the TFLOP/s of all: what compiling leaves."""
        if self._flops or self._config.compile:
            yield
            return
        with Operations() as operations:
            yield
        self._flops = operations.flops

    def waiting(self, batches: Iterator[T]) -> Waiting[T]:
        """The same batches; the time that they are waited for is reported."""
        self._waiting = waiting = Waiting(batches)
        return waiting

    def add(self, step: int, loss: Tensor, logs: Mapping[str, float | Tensor], finite: bool = True) -> None:
        """Take in a step, `step` being the number of steps done; reports every `log_every` steps.

        loss, logs: on any device; they are not read before the report, for reading waits for the device.
        """
        self._step = step
        if finite:
            self._losses.append(loss)
            self._logs.append(logs)
        else:
            self._skipped += 1
        if step % self._config.log_every == 0:
            self.flush()

    def flush(self) -> None:
        """Report what has gathered since the last report, if anything."""
        steps = len(self._losses) + self._skipped
        if not steps:
            return
        own = self._means()  # waits for the device: the clock is read behind it
        self._tick()
        waited = self._waiting.seconds - self._waited if self._waiting else 0.0
        share = min(1.0, waited / max(1e-9, self._seconds))
        everyone = self._processes.gather_objects((own, share, memory_gb(self._processes.device)))
        if self._writers:
            means, shares, memory = zip(*everyone, strict=True)
            self._write(self._progress(mean_by_name(means), steps, max(shares), max(memory)))
        self._ticked = time.monotonic()
        self._clear()

    def checked(self, step: int, name: str, values: Mapping[str, float | NDArray[np.uint8]]) -> None:
        """Record what a check has found; scalars as `name/key`, pictures also as `out/samples/key-00000100.png`."""
        if not self._writers:
            return
        trackers, lines = self._writers
        scalars = {f"{name}/{key}": float(value) for key, value in values.items() if not isinstance(value, np.ndarray)}
        if scalars:
            trackers.log(scalars, step)
            lines.append(step, scalars)
        for key, value in values.items():
            if isinstance(value, np.ndarray):
                trackers.log_picture(f"{name}/{key}", value, step)
                _save_picture(value, Path(self._config.out) / "samples" / f"{key}-{step:08d}.png")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Around checks and saving: their time is none of the steps'."""
        self._tick()
        self._paused = True
        try:
            yield
        finally:
            self._tick()
            self._paused = False

    def _tick(self) -> None:
        """Count the time since the last tick as time of steps, unless they are paused."""
        now = time.monotonic()
        self._seconds += 0.0 if self._paused else now - self._ticked
        self._ticked = now

    def _clear(self) -> None:
        self._losses: list[Tensor] = []
        self._logs: list[Mapping[str, Any]] = []
        self._skipped = 0
        self._seconds = 0.0
        self._waited = self._waiting.seconds if self._waiting else 0.0

    def _means(self) -> dict[str, float]:
        """This process's means of the loss and of every log that any of the steps had."""
        if not self._losses:
            return {}
        means: dict[str, Any] = {"loss": torch.stack(self._losses).float().mean(), **mean_by_name(self._logs)}
        return {name: float(value) for name, value in means.items()}

    def _progress(self, means: dict[str, float], steps: int, waiting: float, memory: float) -> Progress:
        loss = means.pop("loss", math.nan)
        speed = steps / max(1e-9, self._seconds)
        done = self._step - self._start
        return Progress(
            step=self._step,
            steps=self._config.steps,
            loss=loss,
            logs=means,
            steps_per_second=speed,
            sets_per_second=speed * self._work.sets,
            tflops=speed * self._flops / 1e12,
            waiting=waiting,
            memory_gb=memory,
            skipped=self._skipped,
            seconds_left=(time.monotonic() - self._began) / done * (self._config.steps - self._step),
        )

    def _write(self, progress: Progress) -> None:
        assert self._writers
        trackers, lines = self._writers
        numbers = {f"train/{name}": value for name, value in progress.numbers().items()}
        trackers.log(numbers, progress.step)
        lines.append(progress.step, numbers)
        if self._report:
            self._report(progress)


def memory_gb(device: torch.device) -> float:
    """The most that this process has held so far, in 10^9 bytes: on its GPU, or of the machine where it has none."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GB
    try:
        # Not getrusage: its peak is that of the process which started this one, where that was larger.
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM")) / GB
    except (OSError, StopIteration):  # no Linux
        import resource

        unit = 1 if sys.platform == "darwin" else 1 << 10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GB


def _save_picture(picture: NDArray[np.uint8], path: Path) -> None:
    from PIL import Image

    with atomic_write(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")
