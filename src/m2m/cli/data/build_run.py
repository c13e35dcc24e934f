"""What the commands that build shards share: the progress line, signals that stop a run gently, and how a run ends."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from m2m.data.factory.folder import FAILED
from m2m.signals import stop_signals

if TYPE_CHECKING:
    from m2m.data.factory.build import BuildProgress, BuildReport
    from m2m.data.factory.settings import BuildSettings
    from m2m.data.factory.sources import SetSource

SHOWN_FAILURES = 5


def run_build(source: SetSource, settings: BuildSettings) -> None:
    """Build with a progress line, and end as `end_of_build` says. Raises UserError."""
    from m2m.data.factory.build import build

    with stop_signals() as received, progress_line() as progress:
        report = build(source, settings, progress, lambda: bool(received))
    end_of_build(report, settings.out, received)


def end_of_build(report: BuildReport, out: Path, received: Sequence[int] = ()) -> None:
    """Say what was made and what was not. Exit code 1: shards failed; 128 + number: a signal stopped the run."""
    whole = len(report.wanted) - len(report.failed) - len(report.left)
    summary = f"{whole} of {len(report.wanted)} shards are whole, {len(report.made)} of them new: {out}"
    for failure in report.failed[:SHOWN_FAILURES]:
        _say(f"{failure.name} failed {failure.attempts} times: {failure.error}")
    if received and (report.left or not report.wanted):  # none wanted: stopped before that was known
        _say(f"stopped by {signal.Signals(received[0]).name}; the same command continues. {summary}")
        raise typer.Exit(128 + received[0])
    if report.failed:
        failed = f"{len(report.failed)} shards are set aside, see '{out / FAILED}'"
        _say(f"{failed}; the same command tries them again. {summary}")
        raise typer.Exit(1)
    print(summary)


@contextmanager
def progress_line() -> Iterator[Callable[[BuildProgress], None]]:
    """A line on a terminal: whole shards, images of this run, images a second. Give what it yields to `build`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("shards"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    start, console = time.monotonic(), Console(stderr=True)
    with Progress(
        *columns, TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=None)

        def show(state: BuildProgress) -> None:
            speed = state.images / max(1e-9, time.monotonic() - start)
            text = f"{state.images} images, {speed:.1f} images/s"
            bar.update(task, completed=state.shards, total=state.shards_total, description=text)

        yield show


def _say(line: str) -> None:
    print(f"m2m: {line}", file=sys.stderr)
