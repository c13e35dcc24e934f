"""`m2m train-probe` as a user calls it, on a few pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from m2m.cli.main import main
from m2m.evaluation.truth.probe import load_probe

FEW = ["images=24", "validation_images=8", "steps=2", "batch_images=4", "warmup_steps=1", "size=32", "workers=0"]
SMALL = ["model.widths=[8,16]", "model.blocks=[0,1]", "threads=1"]


@pytest.mark.filterwarnings("ignore")
def test_a_run_renders_trains_tests_and_exports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against a command that cannot make what evaluation loads, or that renders again what is there."""
    places = [f"{key}={tmp_path / key}" for key in ("data", "validation", "out", "export")]
    assert main(["train-probe", *FEW, *SMALL, *places]) == 0
    printed = capsys.readouterr().out
    assert "rendered 24 of 24 pictures" in printed and "right on 8 held-out pictures: subject" in printed
    assert load_probe(tmp_path / "export").config.image_size == 32
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["images"] == 8 and all(0 <= share <= 1 for share in report["accuracy"].values())
    assert main(["train-probe", *FEW, *SMALL, *places]) == 0
    assert "rendered" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("setting", "message"), [("stpes=3", "unknown key 'stpes'"), ("world=huge", "there is no tiny world 'huge'")]
)
def test_mistakes_get_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], setting: str, message: str) -> None:
    """Guards against a typing mistake that is ignored, or answered by a traceback."""
    places = [f"{key}={tmp_path / key}" for key in ("data", "validation", "out")]
    assert main(["train-probe", setting, *places]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1 and not printed.out
