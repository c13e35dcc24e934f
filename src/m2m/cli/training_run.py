"""What the training commands share: how a run shows itself, and how its end becomes an exit code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from m2m.training.loop import TrainingResult
    from m2m.training.watching import Progress


@contextmanager
def shown_progress(unit: str = "sets", console: Console | None = None) -> Iterator[Callable[[Progress], None]]:
    """A report callback for the trainer: a live display on a terminal, else one line a report, for a log file.

    unit: what a step is made of, for its rate. The trainer calls it in the main process alone, so others show nothing.
    """
    from rich.console import Console

    console = console or Console()
    if not console.is_terminal:
        yield partial(_print_line, unit=unit)
        return
    from rich.console import Group
    from rich.live import Live
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    bar = Bar(TextColumn("step"), BarColumn(None), MofNCompleteColumn(), TimeElapsedColumn(), expand=True)
    task = bar.add_task("", total=None)

    def report(progress: Progress) -> None:
        bar.update(task, completed=progress.step, total=progress.steps)
        live.update(Group(bar, Text(progress_text(progress, unit))))

    # Nothing is shown before the first report: nobody knows yet where the run continues.
    with Live(console=console) as live:
        yield report


def _print_line(progress: Progress, unit: str) -> None:
    print(f"step {progress.step}/{progress.steps} {progress_text(progress, unit)}", flush=True)


def progress_text(progress: Progress, unit: str) -> str:
    """The loss, its parts and what goes with it, then speed, waiting, memory and the time left; without the unknown."""
    logs = {name: f"{value:.4g}" for name, value in progress.logs.items()}
    parts = {"loss": f"{progress.loss:.4f}", **logs, **_cost(progress, unit)}
    return " ".join(f"{name} {value}" for name, value in parts.items())


def _cost(progress: Progress, unit: str) -> dict[str, str]:
    parts = {}
    if progress.sets_per_second:
        parts[f"{unit}/s"] = f"{progress.sets_per_second:.3g}"
    if progress.tflops:
        parts["TFLOP/s"] = f"{progress.tflops:.3g}"
    parts["waiting"] = f"{progress.waiting:.1%}"
    parts["memory"] = f"{progress.memory_gb:.1f}GB"
    if progress.skipped:
        parts["skipped"] = str(progress.skipped)
    left = round(progress.seconds_left)
    parts["left"] = f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02}"
    return parts


def end_of_run(result: TrainingResult, main: bool = True) -> None:
    """Say why the run ended and where, in the main process.

    A run that a signal stopped exits with 128 + its number, as a shell expects.
    """
    if main:
        print(f"stopped by {result.reason} at step {result.step}: {result.checkpoint}")
    if result.signal:
        raise typer.Exit(128 + result.signal)
