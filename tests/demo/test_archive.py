"""The ZIP: everything to make the same images again, for each of the three tabs, through the command line itself."""

from __future__ import annotations

import json
import shlex
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from m2m.cli.main import main
from m2m.demo.archive import turn_around, write_archive
from m2m.demo.desk import Desk, Run
from m2m.demo.engine import Engine, load_engine
from m2m.demo.images_tab import asked_again
from m2m.demo.sampling import Ended, Ticket, stream
from m2m.demo.views_tab import AROUND, cameras_of, run_of
from m2m.pipeline import M2MPipeline
from m2m.sampling_record import Settings, conditions_of
from m2m.sampling_request import ALL
from tests.cli.sampling import images_in, save_task_model
from tests.tiny import pictures, tiny_pipeline

SETTINGS = Settings(3, 3, 2.0, None, 2, "DDIMScheduler", seed=7, window_policy="anchor")


def done(run: Run) -> Run:
    *_, last = stream(run.engine, run.given, run.settings, Ticket(), run.conditions)
    assert isinstance(last, Ended)
    return run.with_images(last.images)


@pytest.fixture(scope="module")
def images_engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = tmp_path_factory.mktemp("images") / "model"
    tiny_pipeline().save_pretrained(folder)
    return load_engine(str(folder), "cpu")


def views_run(tmp_path: Path) -> Run:
    engine = load_engine(str(save_task_model(tmp_path / "model", "camera")), "cpu", "camera")
    cameras = cameras_of(1, AROUND, 4, 0, 0, 20, "0")
    return run_of(engine, pictures(1), cameras, Settings(4, 3, 2.0, None, 2, None, seed=3))


def steps_run(tmp_path: Path) -> Run:
    engine = load_engine(str(save_task_model(tmp_path / "model", "position")), "cpu", "position")
    settings = Settings(2, 3, 2.0, None, None, None, seed=3)
    return Run(engine, tuple(pictures(2)), settings, conditions_of("visual_procedure", 4))


def repeated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """The images that the command in the record makes, typed in the folder of the record."""
    command = json.loads((folder / "generation.json").read_text())["command"]
    monkeypatch.chdir(folder)
    assert main(shlex.split(command)[1:]) == 0
    return images_in(folder / "repeated")


def unpacked(tmp_path: Path, runs: list[Run]) -> Path:
    with zipfile.ZipFile(write_archive(tmp_path / "m2m.zip", runs)) as archive:
        archive.extractall(tmp_path / "out")
    return tmp_path / "out"


def test_images_are_made_again_from_the_zip_alone(
    images_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting that is not written down, or a given picture that is not in it as it was used, makes other images."""
    run = done(Run(images_engine, tuple(pictures(2, size=96)), SETTINGS))
    folder = unpacked(tmp_path, [run])
    assert Image.open(folder / "grid.png").size > (3 * 128, 128)
    assert np.array_equal(repeated(folder, monkeypatch), images_in(folder))


def test_another_seed_makes_one_image_from_what_the_chosen_one_was_shown(
    images_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same seed, or shown other images than it was, it would be the same image, or one of another set."""
    run = done(Run(images_engine, tuple(pictures(1)), SETTINGS))
    again, joins = asked_again(Desk(runs=[run], chosen_result=2))
    assert joins
    assert (again.settings.num_images, again.settings.seed) == (1, 8)
    assert [*again.given] == [*run.given, run.images[1]], "a window of two, the given one in it"
    folder = unpacked(tmp_path, [run, done(again)]) / "again-1"
    assert np.array_equal(repeated(folder, monkeypatch), images_in(folder))


@pytest.mark.parametrize(
    ("window", "policy", "given", "seen"),
    [
        (ALL, "anchor", 2, "g0 g1 m0 m1 m2"),
        (4, "anchor", 2, "g0 g1 m1 m2"),
        (1, "anchor", 2, "g0 g1"),
        (1, "anchor", 0, "m0"),
        (3, "anchor", 0, "m0 m1 m2"),
        (2, "sliding", 2, "m1 m2"),
        (4, "sliding", 2, "g1 m0 m1 m2"),
        (None, None, 1, "g0 m2"),
    ],
)
def test_what_an_image_was_shown(
    images_engine: Engine, window: int | str | None, policy: str | None, given: int, seen: str
) -> None:
    """An image that is made again from images that the first one never saw."""
    pipe = M2MPipeline(**images_engine.pipe.components, default_window=2, default_window_policy="anchor")
    named = {f"g{number}": picture for number, picture in enumerate(pictures(given, seed=1))}
    made = {f"m{number}": picture for number, picture in enumerate(pictures(4, seed=2))}
    settings = replace(SETTINGS, window=window, window_policy=policy)
    run = Run(replace(images_engine, pipe=pipe), tuple(named.values()), settings, images=tuple(made.values()))
    found = {id(picture): name for name, picture in {**named, **made}.items()}
    assert " ".join(found[id(picture)] for picture in run.seen_by(3)) == seen


@pytest.mark.parametrize("window", [(2, "anchor"), (ALL, "sliding")])
def test_the_archive_holds_the_models_own_window(
    window: tuple[int | str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command leaves a choice to the model, which on another day has another one; or cannot say "all"."""
    pipe = tiny_pipeline()
    pipe.register_to_config(default_window=2, default_window_policy="anchor")
    pipe.save_pretrained(tmp_path / "model")
    engine = load_engine(str(tmp_path / "model"), "cpu")
    chosen = replace(SETTINGS, window=None if window[0] == 2 else ALL, window_policy=None)
    folder = unpacked(tmp_path, [done(Run(engine, tuple(pictures(1)), chosen))])
    record = json.loads((folder / "generation.json").read_text())
    assert (record["settings"]["window"], record["settings"]["window_policy"]) == window
    assert shlex.join(["--window", str(window[0]), "--window-policy", window[1]]) in record["command"]
    assert np.array_equal(repeated(folder, monkeypatch), images_in(folder))


@pytest.mark.parametrize("make", [views_run, steps_run])
def test_task_runs_are_made_again_from_the_zip_alone(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cameras or positions that are not written down, or views in the order in which they were made."""
    folder = unpacked(tmp_path, [done(make(tmp_path))])
    assert np.array_equal(repeated(folder, monkeypatch), images_in(folder))


def test_a_stopped_turn_is_made_again_as_far_as_it_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record of the views that were asked for, not of those that are there."""
    run = done(views_run(tmp_path))
    stopped = run.with_images(run.images[:3]).finished()
    folder = unpacked(tmp_path, [stopped])
    assert len(images_in(folder)) == 3
    assert np.array_equal(repeated(folder, monkeypatch), images_in(folder))


def test_a_turn_begins_with_the_given_picture(tmp_path: Path) -> None:
    """The given picture's camera is the first place of the orbit: without it the turn has a gap."""
    gif = turn_around(done(views_run(tmp_path)), tmp_path)
    assert gif is not None
    with Image.open(tmp_path / "turnaround.gif") as animation:
        assert getattr(animation, "n_frames", 1) == 5
