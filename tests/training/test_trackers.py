"""Trackers by name, and the file of JSON lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate import PartialState, tracking
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from m2m.training.trackers import JsonLines, Trackers, _tracker, check_trackers
from m2m.types import UserError


@pytest.fixture
def state() -> Iterator[None]:
    """What accelerate's trackers ask for the rank."""
    PartialState()
    yield
    PartialState._reset_state()


@pytest.mark.parametrize("tail", ['{"step": 1, "lo', '{"step": 1}', '{"step": 2}\n', "[]\n", "\x00\x00\n", "{}\n"])
def test_lines_that_are_not_whole_are_cut_off(tmp_path: Path, tail: str) -> None:
    """Guards against a next line that is joined to half a line, or lost with it."""
    path = tmp_path / "lines.jsonl"
    path.write_text('{"step": 1, "loss": 0.5}\n' + tail)
    resumed = JsonLines(path, start=1)
    resumed.append(2, {"loss": 0.25})
    resumed.close()
    assert path.read_text() == '{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n'


class Notebook(tracking.GeneralTracker):
    """A tracker as accelerate lets anybody write one; without pictures, as several of its own are."""

    name = "notebook"
    requires_logging_directory = False
    tracker = None
    kept: dict[str, Any] = {}

    def __init__(self, project: str) -> None:
        super().__init__()
        self.kept.update(project=project, logged=[], finished=0)

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.kept["config"] = values

    def log(self, values: Mapping[str, float], step: int | None = None, **_: Any) -> None:
        self.kept["logged"].append((step, dict(values)))

    def finish(self) -> None:
        self.kept["finished"] += 1


def test_a_tracker_by_name_beside_tensorboard(tmp_path: Path, state: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against trackers that are started without the config, not ended, or fail on pictures they cannot take."""
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "notebook", Notebook)
    both = Trackers("tensorboard, notebook", tmp_path, 0, {"objective": {"noise_draws": 1}})
    both.log({"train/loss": 0.5}, step=2)
    both.log_picture("samples/grid", np.zeros((2, 2, 3), np.uint8), step=2)
    both.close()
    assert Notebook.kept == {
        "project": "m2m",
        "config": {"objective": {"noise_draws": 1}},
        "logged": [(2, {"train/loss": 0.5})],
        "finished": 1,
    }
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Tags()
    assert (events["scalars"], events["images"]) == (["train/loss"], ["samples/grid"])


def test_wandb_goes_on_with_the_run_of_its_folder(tmp_path: Path) -> None:
    """Guards against a new run at every start, and against two runs of equal names that write into one."""
    places = ((tmp_path / "a", 0), (tmp_path / "a", 3), (tmp_path / "b", 0))
    first, resumed, other = (_tracker("wandb", out, start).init_kwargs for out, start in places)
    assert first == resumed and first["id"] != other["id"]
    assert (first["dir"], first["name"], first["resume"]) == (str(tmp_path / "a"), "a", "allow")


def test_trackers_that_cannot_be_had_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a run of days without the curves that its owner asked for."""
    assert check_trackers("none") == check_trackers("") == []
    with pytest.raises(UserError, match=r"tracker 'tensorbord' is none of .*tensorboard.*wandb.*none"):
        check_trackers("tensorbord")
    monkeypatch.setattr(tracking, "_available_trackers", [])
    with pytest.raises(UserError, match=r"'tensorboard' is not installed: pip install 'm2m-diffusion\[train\]'"):
        check_trackers("tensorboard")
    with pytest.raises(UserError, match="'wandb' is not installed: pip install wandb"):
        check_trackers("none, wandb")
