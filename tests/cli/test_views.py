"""`m2m views` as a user calls it: on a tiny real pipeline with a camera condition that was saved to a folder."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from m2m.cli.main import main
from m2m.cli.views import as_asked
from m2m.data.cameras import look_at_origin
from m2m.loading import load_pipeline
from m2m.tasks.cameras import orbit, relative_cameras
from tests.cli.running import run_m2m
from tests.cli.sampling import images_in, record_in, save_pictures, save_task_model, stop_while_sampling
from tests.tiny import tiny_pipeline

ORBIT = "orbit:3,elevation=20"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_task_model(tmp_path_factory.mktemp("model") / "views", "camera")


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    return save_pictures(tmp_path, 1)


def views(model: Path, out: Path, given: list[str], cameras: str = ORBIT, *more: str) -> int:
    asked = ["--cameras", cameras, "--model", str(model), "--out", str(out), "--steps", "2"]
    return main(["views", *given, *asked, *more])


def save_cameras(file: Path, content: Any) -> str:
    file.write_text(json.dumps(content))
    return str(file)


def test_a_whole_run_from_the_shell(model: Path, given: list[str], tmp_path: Path) -> None:
    """Everything a user does first: nothing but the result on stdout, nothing on stderr, five kinds of files."""
    asked = ["--cameras", ORBIT, "--model", model, "--steps", "2"]
    result = run_m2m("views", *given, *asked, "--out", "new", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("3 images in ") and result.stdout.endswith("new/turnaround.gif\n")
    assert result.stderr.strip() == ""
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["000.png", "001.png", "002.png", "generation.json", "grid.png", "turnaround.gif"]


def test_views_are_made_nearest_first_and_numbered_as_asked(model: Path, given: list[str], tmp_path: Path) -> None:
    """An image under the number of another camera: the animation jumps, every comparison with the truth is wrong."""
    around = look_at_origin([0, 90, 20, -45], 20, 1)  # degrees; of the given image, then of the views
    assert views(model, tmp_path / "out", given, save_cameras(tmp_path / "cameras.json", around.tolist())) == 0
    order = record_in(tmp_path / "out")["order"]
    assert order == [1, 2, 0], "20 and -45 are nearest to the given one, then 90 to 20"
    pipe = load_pipeline(str(model), "cpu")
    pipe.set_progress_bar_config(disable=True)
    conditions = relative_cameras(around[[0, 2, 3, 1]])
    made = pipe(given, num_images=3, num_inference_steps=2, conditions=conditions).images
    found = images_in(tmp_path / "out")
    for image, number in zip(made, order, strict=True):
        assert np.array_equal(found[number], np.asarray(image))


def test_numbers_of_views_and_places_in_the_order() -> None:
    """The inverse of a permutation in the place of the permutation: alike for two views, wrong for three in a ring."""
    assert as_asked("abc", [1, 2, 0]) == ["c", "a", "b"]


def test_the_record_s_cameras_repeat_the_run(model: Path, given: list[str], tmp_path: Path) -> None:
    """A record that names "orbit:3" repeats something else once the meaning of an orbit changes."""
    assert views(model, tmp_path / "first", given, f"{ORBIT},azimuth=10", "--seed", "3", "--window", "2") == 0
    record = record_in(tmp_path / "first")
    cameras = save_cameras(tmp_path / "cameras.json", record["cameras"])
    assert views(model, tmp_path / "second", given, cameras, "--seed", "3", "--window", "2") == 0
    assert np.array_equal(images_in(tmp_path / "first"), images_in(tmp_path / "second"))
    assert record == record_in(tmp_path / "second")
    assert record["settings"]["window_policy"] == "nearest"


@pytest.mark.parametrize(
    "option",
    [("--seed", "1"), ("--guidance", "1"), ("--camera-guidance", "3"), ("--guidance-interval", "0:0.5")]
    + [("--window", "1"), ("--scheduler", "EulerDiscreteScheduler"), ("--cameras", "orbit:3,elevation=50")],
)
def test_every_option_reaches_the_pipeline(model: Path, given: list[str], tmp_path: Path, option: tuple[str]) -> None:
    """An option that is parsed and then forgotten gives the same images as before."""
    assert views(model, tmp_path / "plain", given) == 0
    assert views(model, tmp_path / "other", given, ORBIT, *option) == 0
    assert not np.array_equal(images_in(tmp_path / "plain")[1], images_in(tmp_path / "other")[1])


def test_the_models_own_window_holds_the_nearest_cameras(given: list[str], tmp_path: Path) -> None:
    """Views of a model that has a window are made of the last ones, or of the given one alone."""
    own = save_task_model(tmp_path / "model", "camera", default_window=2, default_window_policy="anchor")
    for name, more in (("own", ()), ("said", ("--window", "2")), ("all", ("--window", "all"))):
        assert views(own, tmp_path / name, given, ORBIT, *more) == 0
    assert np.array_equal(images_in(tmp_path / "own"), images_in(tmp_path / "said"))
    assert not np.array_equal(images_in(tmp_path / "own"), images_in(tmp_path / "all"))
    windows = [record_in(tmp_path / name)["settings"]["window"] for name in ("own", "said", "all")]
    assert windows == [2, 2, "all"]


def test_a_full_window_holds_the_nearest_cameras(model: Path, given: list[str], tmp_path: Path) -> None:
    """The newest images in the window: the view behind is made of its farthest neighbour, and drifts."""
    names = save_pictures(tmp_path, 2)
    ring = orbit(8, elevation=20)
    # The view that is asked for stands beside the first given image; the second one is on the other side.
    asked = {"given": ring[[0, 4]].tolist(), "views": ring[[1]].tolist()}
    cameras = save_cameras(tmp_path / "cameras.json", asked)
    changed = [names[0], str(tmp_path / "other.png")]
    Image.open(names[1]).rotate(90).save(changed[1])
    for window, same in (("1", True), ("2", False)):
        for name, files in (("one", names), ("two", changed)):
            assert views(model, tmp_path / f"{name}-{window}", files, cameras, "--window", window) == 0
        pair = [images_in(tmp_path / f"{name}-{window}") for name in ("one", "two")]
        assert np.array_equal(*pair) == same


@pytest.mark.parametrize(("cameras", "frames"), [("orbit:3", 4), ("orbit:3,azimuth=40", 3), ("orbit:1", 1)])
def test_the_animation_turns_once(model: Path, given: list[str], tmp_path: Path, cameras: str, frames: int) -> None:
    """A turn with a gap where the given image stands, or with the given image in the middle of other cameras."""
    assert views(model, tmp_path / "out", given, cameras, "--loop-milliseconds", "1200") == 0
    with Image.open(tmp_path / "out/turnaround.gif") as animation:
        assert animation.size == (256, 256)
        assert getattr(animation, "n_frames", 1) == frames
        assert frames == 1 or animation.info["duration"] == 1200 // frames


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("spiral:8", "cameras 'spiral:8' are unknown"),
        ("missing.json", "'missing.json' does not exist"),
        ([np.eye(4).tolist(), np.eye(3).tolist()], "is 3x3; it must be 3x4 (or 4x4)"),
        ([np.eye(4).tolist(), (2 * np.eye(3, 4)).tolist()], "is no rotation"),
        ({"given": orbit(2).tolist(), "views": orbit(3).tolist()}, "there are 1 given images"),
    ],
)
def test_wrong_cameras_are_one_line_and_leave_nothing(
    model: Path, given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], content: Any, expected: str,
) -> None:  # fmt: skip
    """A traceback of numpy, or an hour of sampling before the mistake shows."""
    monkeypatch.chdir(tmp_path)
    cameras = content if isinstance(content, str) else save_cameras(tmp_path / "cameras.json", content)
    before = sorted(tmp_path.rglob("*"))
    assert views(Path("a model that is not looked for"), tmp_path / "out", given, cameras) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("m2m: ") and errors.count("\n") == 1 and expected in errors, errors
    assert sorted(tmp_path.rglob("*")) == before


def test_a_model_without_cameras_is_one_line(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Eight pictures that have nothing to do with the cameras asked for, from a model that never saw one."""
    tiny_pipeline().save_pretrained(tmp_path / "plain")
    assert views(tmp_path / "plain", tmp_path / "out", given) == 2
    assert "has no camera condition; it was not fine-tuned for a task" in capsys.readouterr().err
    assert views(save_task_model(tmp_path / "steps", "position"), tmp_path / "out", given) == 2
    assert "it has the condition 'position': its command is m2m continue STEP1 STEP2" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_signal_in_the_middle_leaves_nothing(model: Path, given: list[str], tmp_path: Path) -> None:
    """A job's time limit: the shell's exit code, no traceback, no half-made folder that the next run refuses."""
    asked = ("--cameras", "orbit:900", "--model", model, "--out", tmp_path / "out", "--steps", "500")
    code, shown = stop_while_sampling(signal.SIGTERM, "views", *given, *asked)
    assert code == 143 and "Traceback" not in shown
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))
