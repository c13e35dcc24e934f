"""Steps that are not finite: all of them on record, and an end with the batches at hand when they do not stop."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from m2m.checkpoint import read_json
from m2m.training.guard import Guard
from m2m.training.loop import LoopConfig
from m2m.training.parallel import Processes
from m2m.training.step import StepResult
from m2m.types import UserError
from tests.training.test_state import file_limit
from tests.training.toys import ToyBatch, in_processes

NAN = float("nan")


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes(LoopConfig()) as processes:
        yield processes


def result(loss: float, finite: bool = False, rank: int = 0) -> StepResult:
    """A step of two micro-batches of two samples, of the `rank`-th process."""
    batches: list[Any] = [ToyBatch(range(i, i + 2), {"row": 8}) for i in (4 * rank, 4 * rank + 2)]
    return StepResult(torch.tensor(loss), {}, finite, batches)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "skipped.jsonl").read_text().splitlines()]


def test_every_skipped_step_is_on_record(processes: Processes, tmp_path: Path) -> None:
    """Guards against skipped steps that nobody can trace to their samples, and a loss that JSON cannot hold."""
    guard = Guard(tmp_path, processes, stop_after=3)
    guard.check(1, result(0.5, finite=True))
    assert not (tmp_path / "skipped.jsonl").exists()
    for step, loss in [(2, NAN), (3, float("inf")), (5, 0.25)]:
        guard.check(step, result(loss))
        guard.check(step + 1, result(0.5, finite=True))
    assert guard.skipped == 3
    keys = ["row 0", "row 1", "row 2", "row 3"]
    assert lines(tmp_path) == [
        {"step": step, "rank": 0, "loss": loss, "keys": keys} for step, loss in [(2, "nan"), (3, "inf"), (5, 0.25)]
    ]


def test_too_many_in_a_row_end_the_run(processes: Processes, tmp_path: Path) -> None:
    """Guards against a run that skips every step for days, a count that goes on over good steps, and a lost batch."""
    guard = Guard(tmp_path, processes, stop_after=3)
    for step in (1, 2, 4, 5):
        guard.check(step, result(NAN))
        if step == 2:
            guard.check(3, result(0.5, finite=True))
    with pytest.raises(UserError, match=f"3 steps in a row, up to step 6: .*'{tmp_path}/nonfinite/step-00000006'"):
        guard.check(6, result(NAN))
    folder = tmp_path / "nonfinite" / "step-00000006"
    assert len(list(folder.iterdir())) == 4
    for number, batch in enumerate(result(NAN).batches):
        name = f"rank-0-batch-{number}"
        assert torch.equal(load_file(folder / f"{name}.safetensors")["data"], batch.tensors()["data"])
        facts = {"step": 6, "rank": 0, "loss": "nan", "keys": list(batch.keys), "cursor": {"row": 8}}
        assert read_json(folder / f"{name}.json") == facts


def test_what_a_killed_run_recorded_is_replaced(processes: Processes, tmp_path: Path) -> None:
    """Guards against the same step on record twice, once by the run that was killed."""
    for steps in [(2, 7, 9), (7,)]:
        guard = Guard(tmp_path, processes, stop_after=9)
        for step in steps:
            guard.check(step, result(NAN))
    assert [line["step"] for line in lines(tmp_path)] == [2, 7]


def test_a_full_disk_does_not_hide_why_the_run_ends(processes: Processes, tmp_path: Path) -> None:
    """Guards against a traceback about a file where the user has to know about the losses."""
    large = StepResult(torch.tensor(NAN), {}, False, [ToyBatch(range(100), {})])
    # Room for the names of the samples, not for the samples.
    with file_limit(1400), pytest.raises(UserError, match="not finite 1 steps in a row.* cannot be written"):
        Guard(tmp_path, processes, stop_after=1).check(1, large)


def two(rank: int, folder: Path) -> None:
    """The loss of one process is finite; both skip the step, and both end."""
    with Processes(LoopConfig()) as processes:
        guard = Guard(folder, processes, stop_after=2)
        for step in (1, 2):
            loss = result(NAN if rank else 0.5, rank=rank)
            if step == 1:
                guard.check(step, loss)
                continue
            with pytest.raises(UserError, match="2 steps in a row"):
                guard.check(step, loss)


def test_two_processes_keep_one_record(tmp_path: Path) -> None:
    """Guards against samples of other processes that are missing, and a process that waits for one that has ended."""
    in_processes(2, two, tmp_path)
    rows = [(line["step"], line["rank"], line["loss"], line["keys"][0]) for line in lines(tmp_path)]
    assert rows == [(step, *own) for step in (1, 2) for own in [(0, 0.5, "row 0"), (1, "nan", "row 4")]]
    saved = {path.name for path in (tmp_path / "nonfinite" / "step-00000002").glob("*.safetensors")}
    assert saved == {f"rank-{rank}-batch-{number}.safetensors" for rank in (0, 1) for number in (0, 1)}
