"""What a run shows of itself: means, speeds, trackers, lines of a file; and that resuming leaves no doubles."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from m2m.training import watching
from m2m.training.loop import LoopConfig
from m2m.training.parallel import Processes
from m2m.training.watching import Check, Progress, Recorder, Waiting, Work, memory_gb
from m2m.types import UserError
from tests.training.toys import ToyTask, in_processes, run, toy_config

MEASURED = {"steps_per_second", "waiting", "memory_gb"}


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes(LoopConfig()) as alone:
        yield alone


def recorder(out: Path, processes: Processes, start: int = 0, **changes: Any) -> Recorder:
    extras = {name: changes.pop(name) for name in ("report", "work") if name in changes}
    config = LoopConfig(**{"out": str(out), "steps": 8, "log_every": 2, **changes})
    return Recorder(config, processes, start, {"seed": 0, "objective": {"noise_draws": 1}}, **extras)


def add(recorder: Recorder, *steps: int) -> None:
    """Steps whose loss is their number, with the rate as a number and one part of the loss still on the device."""
    for step in steps:
        recorder.add(step, torch.tensor(float(step)), {"learning_rate": 0.5, "loss_first": torch.tensor(2.0 * step)})


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def scalars(out: Path, name: str) -> dict[int, float]:
    events = EventAccumulator(str(out / "tensorboard")).Reload()
    found = [(event.step, event.value) for event in events.Scalars(name)]
    assert len(found) == len(dict(found)), "a step that is there twice"
    return dict(found)


def test_means_go_to_the_report_the_file_and_tensorboard(tmp_path: Path, processes: Processes) -> None:
    """Guards against three places that say different things, or the last step in place of the mean."""
    reports: list[Progress] = []
    with recorder(tmp_path, processes, report=reports.append) as watched:
        add(watched, 1, 2, 3)
        watched.flush()
        watched.flush()
    assert [(report.step, report.loss, report.logs["loss_first"]) for report in reports] == [(2, 1.5, 3.0), (3, 3, 6)]
    assert scalars(tmp_path, "train/loss") == {2: 1.5, 3: 3.0}
    first = lines(tmp_path)[0]
    assert {name: value for name, value in first.items() if name.removeprefix("train/") not in MEASURED} == {
        "step": 2,
        "train/loss": 1.5,
        "train/learning_rate": 0.5,
        "train/loss_first": 3.0,
        "train/skipped": 0.0,
    }
    assert all(first[f"train/{name}"] >= 0 for name in MEASURED)


def test_speeds_are_those_of_the_steps(tmp_path: Path, processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against sets a second that fall when a checkpoint is saved, and a time left that forgets the saving."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(watching, "time", SimpleNamespace(monotonic=lambda: clock.now))
    reports: list[Progress] = []

    def batches() -> Iterator[int]:
        while True:
            clock.now += 0.5
            yield 0

    with recorder(tmp_path, processes, start=2, report=reports.append, work=Work(sets=6, flops=3e12)) as watched:
        waited = watched.waiting(batches())
        for step in (3, 4, 5):
            next(waited)
            clock.now += 1.5
            add(watched, step)
            with watched.paused():
                clock.now += 10.0
        with watched.paused():
            watched.flush()
    for report in reports:
        assert (report.steps_per_second, report.sets_per_second, report.tflops) == (0.5, 3.0, 1.5)
        assert report.waiting == 0.25
    # Steps 3 and 4 have taken 14 seconds, 10 of them saving: 7 a step, and 4 steps are left. Then 12 a step, and 3.
    assert [report.seconds_left for report in reports] == [28.0, 36.0]


def test_a_skipped_step_is_counted_and_spoils_no_mean(tmp_path: Path, processes: Processes) -> None:
    """Guards against a loss that is NaN in the log because of one bad sample, and against JSON that nobody can read."""
    reports: list[Progress] = []
    with recorder(tmp_path, processes, report=reports.append) as watched:
        add(watched, 1)
        watched.add(2, torch.tensor(float("nan")), {"learning_rate": 0.5}, finite=False)
        watched.add(3, torch.tensor(float("inf")), {}, finite=False)
        watched.flush()
    assert [(report.loss, report.skipped) for report in reports][0] == (1.0, 1)
    assert np.isnan(reports[1].loss) and reports[1].skipped == 1
    first, second = lines(tmp_path)
    assert (first["train/loss"], second["train/loss"], second["train/skipped"]) == (1.0, None, 1.0)


def test_waiting_measures_the_time_in_next(tmp_path: Path) -> None:
    """Guards against a share of waiting that is nothing because the last wait, or one that fails, is not counted."""

    def slow() -> Iterator[int]:
        time.sleep(0.02)
        yield 1
        time.sleep(0.03)

    waiting = Waiting(slow())
    assert list(waiting) == [1]
    assert waiting.seconds >= 0.05
    closed = []

    def closing() -> Iterator[int]:
        try:
            yield 1
        finally:
            closed.append(True)

    waiting = Waiting(closing())
    next(waiting)
    waiting.close()
    assert closed == [True], "worker processes would go on"


def test_a_resumed_run_has_every_step_once(tmp_path: Path, processes: Processes) -> None:
    """Guards against plots with doubles, and a file that cannot be read after a kill in the middle of a line."""
    with recorder(tmp_path, processes) as watched:
        add(watched, 1, 2, 3, 4, 5, 6)
        watched.checked(6, "validation", {"loss": 6.0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "train/lo')
    time.sleep(1.1)  # TensorBoard reads its files in the order of the seconds in their names
    # Killed at step 7, and the newest checkpoint is that of step 3: steps 4 to 6 come again, with other losses.
    with recorder(tmp_path, processes, start=3) as watched:
        add(watched, 4)
        watched.add(5, torch.tensor(50.0), {})
        watched.add(6, torch.tensor(60.0), {})
    assert [(line["step"], line["train/loss"]) for line in lines(tmp_path)] == [(2, 1.5), (4, 4.0), (6, 55.0)]
    assert scalars(tmp_path, "train/loss") == {2: 1.5, 4: 4.0, 6: 55.0}


def test_a_finished_run_records_nothing(tmp_path: Path, processes: Processes) -> None:
    """Guards against a run that is opened anew at a service, every time that its export is wanted."""
    with recorder(tmp_path / "run", processes, start=8) as watched:
        watched.flush()
    assert not (tmp_path / "run").exists()


def test_pictures_and_scalars_of_a_check(tmp_path: Path, processes: Processes) -> None:
    """Guards against a check that overwrites its pictures, or is mixed up with the numbers of training."""
    picture = np.zeros((4, 6, 3), np.uint8)
    with recorder(tmp_path, processes) as watched:
        for step in (2, 4):
            watched.checked(step, "validation", {"loss": np.float32(step), "grid": picture + step})
    assert lines(tmp_path) == [{"step": step, "validation/loss": float(step)} for step in (2, 4)]
    assert scalars(tmp_path, "validation/loss") == {2: 2.0, 4: 4.0}
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["grid-00000002.png", "grid-00000004.png"]
    with Image.open(tmp_path / "samples" / "grid-00000004.png") as stored:
        assert (stored.size, stored.getpixel((0, 0))) == ((6, 4), (4, 4, 4))
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(image.step, image.width) for image in events.Images("validation/grid")] == [(2, 6), (4, 6)]


def test_no_tracker_leaves_the_file(tmp_path: Path, processes: Processes) -> None:
    """Guards against numbers that are lost where no tracker is wanted."""
    with recorder(tmp_path, processes, tracker="none") as watched:
        add(watched, 1, 2)
    assert [line["step"] for line in lines(tmp_path)] == [2]
    assert not (tmp_path / "tensorboard").exists()


def test_a_recorder_refuses_a_tracker_before_it_is_entered(tmp_path: Path, processes: Processes) -> None:
    """Guards against one process that ends with an error while the others wait for it."""
    with pytest.raises(UserError, match="tracker 'tensorbord'"):
        recorder(tmp_path, processes, tracker="tensorbord")


def test_memory_is_the_peak_of_this_process() -> None:
    """Guards against a number in other units, and against what is held now in place of the peak."""
    before = memory_gb(torch.device("cpu"))
    size = before * 1.1  # more than has ever been held, so that neither the former peak nor what is left will do
    held = torch.ones(int(size * 1e9) // 4)
    del held
    assert size < memory_gb(torch.device("cpu")) < before + size + 0.1


def test_a_check_sees_the_averaged_weights_and_is_recorded(tmp_path: Path) -> None:
    """Guards against validation of the raw weights, at other steps, or whose numbers end nowhere."""
    task = ToyTask()

    def look(step: int) -> dict[str, float | np.ndarray]:
        return {"weight": task.module[0].weight.sum().item(), "grid": np.full((2, 2, 3), step, np.uint8)}

    config = toy_config(tmp_path, tracker="tensorboard", log_every=6)
    result = run(config, task, checks=[Check("validation", 3, look), Check("never", 0, look)])
    found = {line["step"]: line["validation/weight"] for line in lines(tmp_path) if "validation/weight" in line}
    assert list(found) == [3, 6]
    with result.optimisation.averaged():
        averaged = look(6)["weight"]
    assert found[6] == averaged != look(6)["weight"]
    assert scalars(tmp_path, "validation/weight") == pytest.approx(found)
    assert (tmp_path / "samples" / "grid-00000006.png").exists()
    assert [line["step"] for line in lines(tmp_path) if "train/loss" in line] == [6]


def test_what_a_killed_run_recorded_behind_its_checkpoint_comes_once(tmp_path: Path) -> None:
    """Guards against a loop that tells the recorder another start than that of the checkpoint."""
    config = toy_config(tmp_path, tracker="tensorboard", log_every=1, checkpoint_every=2, keep_last=9)
    run(config)
    straight = {line["step"]: line["train/loss"] for line in lines(tmp_path)}
    for step in (4, 6):  # as if it had died before the next checkpoint
        shutil.rmtree(tmp_path / "checkpoints" / f"step-{step:08d}")
    run(config)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert {line["step"]: line["train/loss"] for line in lines(tmp_path)} == straight
    assert scalars(tmp_path, "train/loss") == pytest.approx(straight)


def _two(rank: int, folder: Path) -> None:
    reports: list[Progress] = []
    out = folder / f"rank-{rank}"
    with Processes(LoopConfig()) as both, recorder(out, both, report=reports.append, work=Work(4, 2e12)) as watched:
        own = {"seen_first": 1.0} if rank else {}
        if rank:
            next(watched.waiting(time.sleep(0.01) for _ in range(1)))
        for step in (1, 2):
            watched.add(step, torch.tensor(float(rank)), {"rank": torch.tensor(rank * 10.0), **own})
    if rank:
        assert not reports and not out.exists(), "the main process alone writes"
        return
    (report,) = reports
    assert (report.loss, report.logs) == (0.5, {"rank": 5.0, "seen_first": 1.0})
    assert report.tflops == pytest.approx(report.sets_per_second / 4), "of one device: half of what both did"
    assert report.waiting > 0, "the other process has waited, and this one for it"
    assert [line["train/loss"] for line in lines(out)] == [0.5]


def test_two_processes_are_joined(tmp_path: Path) -> None:
    """Guards against the main process's losses in place of the mean, and files that all processes write."""
    in_processes(2, _two, tmp_path)
