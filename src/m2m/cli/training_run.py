"""What the training commands share: the progress line, and how a run's end becomes an exit code."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from m2m.training.loop import Progress, TrainingResult


def print_progress(images_per_step: int) -> Callable[[Progress], None]:
    """A report callback that prints one line: step, loss, its parts, and images a second."""

    def report(progress: Progress) -> None:
        parts = " ".join(f"{name} {value:.4g}" for name, value in progress.logs.items())
        speed = progress.steps_per_second * images_per_step
        print(
            f"step {progress.step}/{progress.steps} loss {progress.loss:.4f} {parts} images/s {speed:.0f}", flush=True
        )

    return report


def end_of_run(result: TrainingResult) -> None:
    """Say why the run ended; a run that a signal stopped exits with 128 + its number, as a shell expects."""
    print(f"stopped by {result.reason} at step {result.step}: {result.checkpoint}")
    if result.signal:
        raise typer.Exit(128 + result.signal)
