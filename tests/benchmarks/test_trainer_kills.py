"""The benchmark that kills the trainer: that it sees what it is there to see."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from m2m.training.state import checkpoints
from tests.training.toys import run, toy_config

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))  # as for a script: its neighbours are imported by their bare names
    return import_module("trainer_scene")


def toy(out: Path, **changes: Any) -> Path:
    """A run of six steps with a checkpoint every third."""
    run(toy_config(out, **{"log_every": 1, "checkpoint_every": 3, **changes}))
    return out


@pytest.fixture
def watched(scene: Any, tmp_path: Path) -> Any:
    """A run that was continued once, and what it should come to."""
    straight = toy(tmp_path / "straight", checkpoint_every=1, keep_last=6)
    expected = {step: scene.contents(folder) for step, folder in enumerate(checkpoints(straight), start=1)}
    toy(tmp_path / "out", steps=4)
    return scene.Run(toy(tmp_path / "out"), expected, scene.losses(straight))


def test_a_run_that_is_as_it_should_be(watched: Any) -> None:
    """Guards against a benchmark that misses something in every run, whose misses would not be believed."""
    assert watched.look() == (6, 6)
    watched.last_look()
    assert watched.misses == []


def test_other_weights_are_noticed(watched: Any, tmp_path: Path) -> None:
    """A checkpoint of the same size, of which one file belongs to another run."""
    other = checkpoints(toy(tmp_path / "other", learning_rate=0.02))[-1]
    shutil.copy(other / "ema.safetensors", checkpoints(watched.folder)[-1])
    watched.look()
    assert watched.misses == ["out: the checkpoint of step 6 is not the undisturbed one"]


def test_lost_steps_are_noticed(watched: Any) -> None:
    """The newest checkpoint is gone: what lies before it is whole, and still too old."""
    watched.look()
    for folder in checkpoints(watched.folder)[1:]:
        shutil.rmtree(folder)
    assert watched.look() == (6, 4)
    assert watched.misses == ["out: the checkpoint of step 6 is gone, the newest is 4"]
    shutil.rmtree(watched.folder / "checkpoints")
    watched.look()
    assert "out: step 6 was done, and only 0 is kept" in watched.misses


def test_other_samples_are_noticed(scene: Any, watched: Any) -> None:
    """Another loss in one step, as other samples would give, and a step that stands on record twice."""
    record = watched.folder / "metrics.jsonl"
    lines = record.read_text().splitlines(keepends=True)
    record.write_text("".join([*lines[:2], lines[2].replace('"train/loss": ', '"train/loss": 1'), *lines[3:]]))
    watched.last_look()
    assert watched.misses == ["out: steps [3] have other losses than undisturbed"]
    record.write_text("".join([*lines, lines[-1]]))
    with pytest.raises(ValueError, match="a step twice"):
        scene.losses(watched.folder)


def test_a_limit_serves_where_no_disk_can_be_mounted(scene: Any, tmp_path: Path) -> None:
    """Guards against a full disk that is never full."""
    code = f"import sys; sys.stdin.read(1); open({str(tmp_path / 'file')!r}, 'wb').write(bytes(5000))"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        import_module("trainer_kills").SmallDisk(tmp_path, mounted=False).leave(100, process)
        _, errors = process.communicate(b"x")
    assert b"File too large" in errors and (tmp_path / "file").stat().st_size == 100
