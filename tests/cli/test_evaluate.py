"""`m2m eval` as a user calls it: a tiny real pipeline, a few sets of the tiny world."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from m2m.cli.main import main
from m2m.evaluation.report.write import read_report
from tests.cli.running import environment, run_m2m
from tests.evaluation.protocols.task_evaluation import task_pipeline
from tests.evaluation.tasks.figures import objects, procedures
from tests.tiny import tiny_pipeline

SMALL = ("--sets", "2", "--generated", "2", "--given", "2", "--steps", "1", "--extractor", "colour", "--batch", "1")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    tiny_pipeline("self").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def finished(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an undisturbed evaluation."""
    out = tmp_path_factory.mktemp("eval") / "out"
    assert main(["eval", "--model", str(model), "--out", str(out), *SMALL]) == 0
    return out


def rows(out: Path) -> object:
    return read_report(out).rows


def only_line(capsys: pytest.CaptureFixture) -> str:
    """The one line on stderr."""
    said = capsys.readouterr().err
    assert said.startswith("m2m: ") and said.count("\n") == 1, said
    return said


def test_one_command_leaves_a_report(finished: Path, model: Path) -> None:
    """Numbers without the command, the floors or the page that shows them."""
    names = {path.name for path in finished.iterdir()}
    assert {"report.html", "report.md", "result.json", "curves.png", "images", "features"} <= names
    result = read_report(finished)
    assert result.protocol == "table1" and result.command.startswith("m2m")
    assert [row.role for row in result.rows] == ["model", "floor", "floor", "floor", "ceiling"]
    assert result.settings["steps"] == 1 and result.versions["torch"]
    assert result.rows[0].name == str(model)


def test_pictures_made_before_are_scored_without_a_model(finished: Path, tmp_path: Path) -> None:
    """Other people's models are compared by their PNGs."""
    made = next(path for path in (finished / "images").iterdir() if "unconditional" not in path.name)
    shutil.copytree(made, tmp_path / "theirs")
    (tmp_path / "theirs" / "request.json").unlink()
    out = tmp_path / "out"
    assert main(["eval", "--images", str(tmp_path / "theirs"), "--out", str(out), *SMALL]) == 0
    assert read_report(out).rows[0].measures == read_report(finished).rows[0].measures
    assert not (out / "images").exists()


def test_two_processes_give_the_report_of_one(finished: Path, model: Path, tmp_path: Path) -> None:
    """A share that is left out, made twice, or scored before the other process has finished."""
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "m2m.cli"]
    asked = ["eval", "--model", str(model), "--out", str(tmp_path / "out"), "--device", "cpu", *SMALL]
    done = subprocess.run([sys.executable, *command, *asked], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert rows(tmp_path / "out") == rows(finished)
    assert done.stdout.count("report.html") == 1


def test_stopped_by_a_signal_the_same_command_goes_on(finished: Path, model: Path, tmp_path: Path) -> None:
    """An evaluation of hours that must start over, or leaves half a set that is scored."""
    asked = ["eval", "--model", str(model), "--out", str(tmp_path / "out"), *SMALL]
    run = subprocess.Popen([sys.executable, "-m", "m2m", *asked], env=environment(), stderr=subprocess.PIPE, text=True)
    first = tmp_path / "out" / "images"
    while run.poll() is None and not list(first.rglob("*.png")):
        time.sleep(0.02)
    run.send_signal(signal.SIGTERM)
    _, said = run.communicate()
    assert run.returncode in (0, 128 + signal.SIGTERM), said
    assert "Traceback" not in said
    assert main(asked) == 0
    assert rows(tmp_path / "out") == rows(finished)


def test_a_folder_in_which_another_evaluation_is_at_work_is_refused(
    finished: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Two that remove each other's half-written images; and a killed one that blocks its folder for good."""
    asked = ["eval", "--model", str(model), "--out", str(tmp_path / "out"), *SMALL]
    first = subprocess.Popen([sys.executable, "-m", "m2m", *asked], env=environment(), stderr=subprocess.DEVNULL)
    try:
        while first.poll() is None and not (tmp_path / "out" / "features").exists():
            time.sleep(0.01)
        first.send_signal(signal.SIGSTOP)  # in the middle of its work, for as long as this test likes
        assert main(asked) == 2
        assert f"another evaluation is at work in '{tmp_path / 'out'}'" in only_line(capsys)
    finally:
        first.kill()
        first.wait()
    assert main(asked) == 0
    assert rows(tmp_path / "out") == rows(finished)


def test_a_folder_of_another_evaluation_is_refused(finished: Path, model: Path, capsys: pytest.CaptureFixture) -> None:
    """Images of two settings in one table."""
    asked = ["eval", "--model", str(model), "--out", str(finished), *SMALL, "--seed", "1"]
    before = json.loads((finished / "result.json").read_text())
    assert main(asked) == 2
    assert "seed" in only_line(capsys)
    assert json.loads((finished / "result.json").read_text()) == before


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["--protocol", "table2"], "table1"),
        (["--window", "many"], "window"),
        (["--extractor", "vgg"], "efficientnet-lite0"),
        (["--data", "nowhere"], "nowhere"),
        (["--images", "nowhere"], "nowhere"),
        (["--probe", "nowhere"], "nowhere"),
        (["--protocol", "novel-view"], "--data SHARDS"),
        (["--protocol", "visual-procedure"], "m2m data steps"),
    ],
)
def test_bad_input_is_told_in_one_line(
    wrong: list[str], told: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """A traceback, or an hour of sampling before the mistake is found."""
    out = tmp_path / "out"
    assert main(["eval", "--model", str(model), "--out", str(out), *SMALL, *wrong]) == 2
    assert told in only_line(capsys)
    assert not (out / "images").exists()


@pytest.mark.parametrize("missing", ["torchmetrics", "matplotlib"])
def test_a_missing_extra_is_told_before_any_image(
    missing: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours of images, and then no numbers or no page."""
    monkeypatch.setitem(sys.modules, missing, None)
    assert main(["eval", "--model", str(model), "--out", str(tmp_path / "out"), *SMALL]) == 2
    assert f"m2m eval needs {missing}: pip install 'm2m-diffusion[eval]'" in only_line(capsys)
    assert not (tmp_path / "out").exists()


def test_an_out_that_cannot_be_a_folder_is_told(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A traceback where the user named a file."""
    (tmp_path / "file").touch()
    assert main(["eval", "--model", str(model), "--out", str(tmp_path / "file"), *SMALL]) == 2
    assert f"'{tmp_path / 'file'}' cannot be written" in only_line(capsys)


def test_nothing_to_evaluate_is_told(tmp_path: Path) -> None:
    """Floors alone would pass for an evaluation."""
    done = run_m2m("eval", "--out", tmp_path / "out")
    assert done.returncode == 2 and "--model" in done.stderr


@pytest.mark.parametrize(("protocol", "task"), [("novel-view", "novel_view"), ("visual-procedure", "visual_procedure")])
def test_a_task_has_its_protocol(protocol: str, task: str, tmp_path: Path) -> None:
    """Guards against options that stop at the command line: scales, data of a task, how many images are made."""
    task_pipeline(task).save_pretrained(tmp_path / "model")
    make = objects if protocol == "novel-view" else procedures
    make(tmp_path / "shards", **({"views": 4} if protocol == "novel-view" else {"lengths": [3, 4]}))
    small = ("--sets", "2", "--steps", "1", "--given", "1", "--generated", "2", "--condition-guidance", "3")
    asked = ["eval", "--protocol", protocol, "--model", str(tmp_path / "model"), "--data", str(tmp_path / "shards")]
    out = tmp_path / "out"
    assert main([*asked, "--out", str(out), *small, "--extractor", "gram"]) == 0
    result = read_report(out)
    assert result.protocol == protocol and result.settings["condition_guidance"] == 3
    assert result.settings["task"] == task and "condition dropped" in " ".join(row.name for row in result.rows)
    requests = [json.loads(path.read_text()) for path in (out / "images").glob("*/request.json")]
    assert {own["condition_guidance"] for own in requests} == {0.0, 3.0}
    assert (out / "report.html").is_file()
