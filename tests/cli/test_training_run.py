"""How a run shows itself on a terminal and in a log file, and with which exit code it ends."""

from __future__ import annotations

import io
import re
import signal
from pathlib import Path

import pytest
import torch
import typer
from rich.console import Console

from m2m.cli.training_run import end_of_run, shown_progress
from m2m.training.loop import LoopConfig, TrainingResult
from m2m.training.optimizer import StepConfig
from m2m.training.parallel import Processes
from m2m.training.step import Optimisation
from m2m.training.watching import Progress


def progress(step: int = 20, **changes: float) -> Progress:
    numbers = {
        "sets_per_second": 512.3,
        "tflops": 87.31,
        "waiting": 0.004,
        "memory_gb": 21.34,
        "seconds_left": 99_999.6,
    }
    return Progress(step, 1000, 0.12344, {"loss_first": 0.2, "learning_rate": 1e-5}, 2.0, **{**numbers, **changes})


def test_a_log_file_gets_a_line_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against control characters in a log file, and against lines that wait in a buffer until the run ends."""
    with shown_progress(console=Console(file=io.StringIO())) as report:
        report(progress())
        assert capsys.readouterr().out == (
            "step 20/1000 loss 0.1234 loss_first 0.2 learning_rate 1e-05 sets/s 512 TFLOP/s 87.3 "
            "waiting 0.4% memory 21.3GB left 27:46:40\n"
        )
        report(progress(40, sets_per_second=0, tflops=0, skipped=2))
    line = capsys.readouterr().out
    assert "sets/s" not in line and "TFLOP/s" not in line, "what is unknown is no zero"
    assert line.endswith("memory 21.3GB skipped 2 left 27:46:40\n")


@pytest.mark.parametrize("width", [40, 120])
def test_a_terminal_shows_the_last_report(width: int) -> None:
    """Guards against numbers that a narrow terminal cuts off, and lines that pile up."""
    screen = io.StringIO()
    with shown_progress("images", Console(file=screen, force_terminal=True, width=width)) as report:
        assert "step" not in screen.getvalue(), "nothing is known before the first report"
        report(progress(20))
        report(progress(40))
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    last = re.sub(r"\s+", " ", shown.rsplit("step", 1)[1])
    assert "40/1000" in last and "images/s 512" in last and "left 27:46:40" in last


def test_the_end_is_told_by_the_main_process_and_by_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards against a scheduler that takes a stopped run for a finished one, and the same line from every process."""
    with Processes(LoopConfig()) as processes:
        optimisation = Optimisation(torch.nn.Linear(1, 1), StepConfig(), 1, processes)
    finished = TrainingResult(7, "steps", 0, tmp_path, optimisation)
    end_of_run(finished)
    assert capsys.readouterr().out == f"stopped by steps at step 7: {tmp_path}\n"
    stopped = TrainingResult(7, "SIGTERM", signal.SIGTERM, tmp_path, optimisation)
    with pytest.raises(typer.Exit) as end:
        end_of_run(stopped, main=False)
    assert end.value.exit_code == 143
    assert capsys.readouterr().out == ""
