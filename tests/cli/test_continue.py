"""`m2m continue` as a user calls it: on a tiny real pipeline with a position condition that was saved to a folder."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m2m.cli.main import main
from m2m.loading import load_pipeline
from tests.cli.running import run_m2m
from tests.cli.sampling import images_in, record_in, save_pictures, save_task_model, stop_while_sampling
from tests.tiny import tiny_pipeline


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_task_model(tmp_path_factory.mktemp("model") / "steps", "position")


@pytest.fixture
def steps(tmp_path: Path) -> list[str]:
    return save_pictures(tmp_path, 2)


def continued(model: Path | str, out: Path, steps: list[str], *more: str) -> int:
    return main(["continue", *steps, "--model", str(model), "--out", str(out), "-n", "2", "--steps", "2", *more])


def test_a_whole_run_from_the_shell(model: Path, steps: list[str], tmp_path: Path) -> None:
    """Everything a user does first: nothing but the result on stdout, nothing on stderr, four kinds of files."""
    result = run_m2m("continue", *steps, "--model", model, "-n", "3", "--steps", "2", "--out", "new", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("3 images in ") and result.stdout.endswith("new/grid.png\n")
    assert result.stderr.strip() == ""
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["000.png", "001.png", "002.png", "generation.json", "grid.png"]
    assert Image.open(tmp_path / "new/grid.png").width > 5 * 128, "two given and three generated in one row"


def test_the_images_have_the_positions_after_the_given_ones(model: Path, steps: list[str], tmp_path: Path) -> None:
    """Positions that start again at 0 with the first new image: a model that draws the first step for ever."""
    assert continued(model, tmp_path / "out", steps) == 0
    assert record_in(tmp_path / "out")["positions"] == [0, 1, 2, 3]
    pipe = load_pipeline(str(model), "cpu")
    pipe.set_progress_bar_config(disable=True)
    arguments = {"images": steps, "num_images": 2, "num_inference_steps": 2}
    wanted, shifted = (
        np.stack([np.asarray(image) for image in pipe(**arguments, conditions=positions).images])
        for positions in ([[0], [1], [2], [3]], [[0], [1], [0], [1]])
    )
    assert np.array_equal(images_in(tmp_path / "out"), wanted)
    assert not np.array_equal(wanted, shifted), "else this test tells nothing apart"


@pytest.mark.parametrize(
    "option",
    [("--seed", "1"), ("--guidance", "1"), ("--position-guidance", "3"), ("--guidance-interval", "0:0.5")]
    + [("--window", "1"), ("--scheduler", "EulerDiscreteScheduler")],
)
def test_every_option_reaches_the_pipeline(model: Path, steps: list[str], tmp_path: Path, option: tuple[str]) -> None:
    """An option that is parsed and then forgotten gives the same images as before."""
    assert continued(model, tmp_path / "plain", steps) == 0
    assert continued(model, tmp_path / "other", steps, *option) == 0
    assert not np.array_equal(images_in(tmp_path / "plain")[1], images_in(tmp_path / "other")[1])


def test_the_model_s_own_guidance_is_used_and_written_down(steps: list[str], tmp_path: Path) -> None:
    """A default that was chosen from a sweep and then ignored; a record that another default would change."""
    other = save_task_model(tmp_path / "model", "position", default_condition_guidance_scale=3.0)
    assert continued(other, tmp_path / "own", steps) == 0
    assert continued(other, tmp_path / "named", steps, "--position-guidance", "3") == 0
    assert continued(other, tmp_path / "none", steps, "--position-guidance", "1") == 0
    assert np.array_equal(images_in(tmp_path / "own"), images_in(tmp_path / "named"))
    assert not np.array_equal(images_in(tmp_path / "own"), images_in(tmp_path / "none"))
    assert record_in(tmp_path / "own")["settings"]["condition_guidance_scale"] == 3
    assert record_in(tmp_path / "own") == record_in(tmp_path / "named")


@pytest.mark.parametrize("kind", ["missing", "no task", "camera"])
def test_a_mistake_is_one_line_and_leaves_nothing(
    model: Path, steps: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """A traceback, or a page of noise from a model that does not know what a step is."""
    if kind == "missing":
        expected = f"step 3 of 3: '{tmp_path / 'later.png'}' does not exist"
        assert continued(model, tmp_path / "out", [*steps, str(tmp_path / "later.png")]) == 2
    elif kind == "no task":
        expected = "has no position condition; it was not fine-tuned for a task"
        tiny_pipeline().save_pretrained(tmp_path / "plain")
        assert continued(tmp_path / "plain", tmp_path / "out", steps) == 2
    else:
        expected = "it has the condition 'camera': its command is m2m views IMG --cameras orbit:8,elevation=20"
        assert continued(save_task_model(tmp_path / "views", "camera"), tmp_path / "out", steps) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("m2m: ") and errors.count("\n") == 1 and expected in errors
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))


def test_generate_takes_a_model_of_procedures(model: Path, steps: list[str], tmp_path: Path) -> None:
    """Without a default for the position, `m2m generate` would refuse the models that need nothing else."""
    assert continued(model, tmp_path / "one", steps) == 0
    command = ["generate", *steps, "--model", str(model), "--out", str(tmp_path / "two"), "-n", "2", "--steps", "2"]
    assert main(command) == 0
    assert np.array_equal(images_in(tmp_path / "one"), images_in(tmp_path / "two"))


def test_a_signal_in_the_middle_leaves_nothing(model: Path, steps: list[str], tmp_path: Path) -> None:
    """Ctrl-C: the shell's exit code, no traceback, no half-made folder that the next run refuses."""
    command = ("continue", *steps, "--model", model, "--out", tmp_path / "out", "-n", "1000", "--steps", "500")
    code, shown = stop_while_sampling(signal.SIGINT, *command)
    assert code == 130 and "Traceback" not in shown
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))
