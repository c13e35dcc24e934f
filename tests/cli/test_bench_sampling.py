"""`m2m bench sampling` as a user calls it, on tiny real pipelines that were saved to folders."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from m2m.cli.main import main
from tests.cli.running import environment
from tests.tiny import tiny_pipeline

QUICK = ("--steps", "1", "--rounds", "1", "--given", "1", "--device", "cpu")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("models")
    for variant in ("self", "dino"):
        tiny_pipeline(variant).save_pretrained(folder / variant)
    return ["--self", str(folder / "self"), "--dino", str(folder / "dino")]


def bench(*arguments: str | Path) -> int:
    return main(["bench", "sampling", *map(str, arguments)])


def numbers(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "sampling.json").read_text())
    return found


def test_saved_models_are_measured_and_further_cells_added(
    models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bug: a second call that measures all again, or that mixes settings in one folder."""
    out = tmp_path / "out"
    assert bench(*models, *QUICK, "--images", "1", "--out", out) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("given 1, images 1: base ") and "## Seconds an image" in shown
    first = numbers(out)["cells"][0]
    assert list(first["measured"]) == ["base", "self", "dino", "recompute"]
    assert (out / "sampling.md").read_text() in shown
    assert (out / "sampling.png").read_bytes().startswith(b"\x89PNG")
    assert bench(*models, *QUICK, "--images", "1,2", "--out", out) == 0
    assert "given 1, images 1: base" not in capsys.readouterr().out
    cells = numbers(out)["cells"]
    assert cells[0] == first and [own["images"] for own in cells] == [1, 2]
    assert bench(*models, *QUICK, "--images", "1", "--out", out, "--dtype", "bfloat16") == 2
    assert "measured with dtype float32, not bfloat16" in capsys.readouterr().err


def test_operations_alone_are_no_measurement(
    models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bug: a table with seconds, or a traceback of a median of nothing, where operations are counted alone."""
    out = tmp_path / "out"
    assert (
        bench(*models[:2], "--variants", "self", "--rounds", "0", "--given", "4", "--images", "10", "--out", out) == 0
    )
    shown = capsys.readouterr().out
    assert "counted" in shown and "Seconds" not in shown and "measured" not in shown
    found = numbers(out)["cells"][0]["measured"]
    assert list(found) == ["base", "self"] and found["self"]["wall"] == []
    assert min(own["operations"] for own in found.values()) > 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--given", "1,x"], "--given '1,x' is no list of numbers"),
        (["--images", "0"], "--images names 0"),
        (["--variants", "self,text"], "--variants names 'text': use some of self, recompute, dino"),
        (["--size", "tiny", "--self", "tiny-self"], "--size is for random weights"),
        (["--self", "tiny-self", "--variants", "dino"], "use some of self, recompute"),
        (["--self", "no-such-model"], "model 'no-such-model' does not exist"),
        (["--self", "tiny-dino"], "a model of variant 'dino'; give --dino"),
        (["--pixels", "100"], "use a multiple of 8"),
        (["--vision", "clip"], "no vision encoder 'clip'"),
        (["--device", "nowhere"], "device 'nowhere' cannot be used"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    arguments: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bug: a traceback after an hour of sampling, or an empty folder."""
    out = tmp_path / "out"
    assert bench("--device", "cpu", *arguments, "--out", out) == 2
    message = capsys.readouterr().err
    assert expected in message and message.count("\n") == 1
    assert not out.exists()


def test_a_run_that_is_terminated_goes_on_with_the_next_cell(models: list[str], tmp_path: Path) -> None:
    """Bug: an hour of measuring lost to a job's time limit, or half a file."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "m2m", "bench", "sampling", *models[:2], *QUICK, "--out", str(out)]
    process = subprocess.Popen(
        [*command, "--images", "1,1000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("given 1, images 1: ")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM
    assert errors == "m2m: stopped; the same command goes on with the next cell\n"
    assert sorted(path.name for path in out.iterdir()) == ["sampling.json", "sampling.md", "sampling.png"]
    first = numbers(out)["cells"]
    assert len(first) == 1
    going_on = subprocess.run([*command, "--images", "1,2"], capture_output=True, text=True, env=environment())
    assert going_on.returncode == 0, going_on.stderr
    assert going_on.stdout.startswith("given 1, images 2: ")
    assert numbers(out)["cells"][0] == first[0]
