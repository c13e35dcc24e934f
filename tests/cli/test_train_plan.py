"""`m2m train --dry-run` as a user calls it."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from m2m.cli.main import main
from m2m.cli.train_outline import outline_of
from m2m.training.image_sets import TrainConfig
from tests.tiny import tiny_unet_config
from tests.training.plan.outlines import SMALLEST

WEIGHTS = Path(str(files("m2m"))) / "weights"


def write_config(folder: Path, **changes: Any) -> Path:
    """A small run on pictures of the tiny world."""
    settings = {
        "data": "world:mini:train:8",
        "autoencoder": str(WEIGHTS / "tiny-self" / "vae"),
        "unet": {**tiny_unet_config(), **SMALLEST, "in_channels": 8, "out_channels": 8},
        "batch_sets": 2,
        "images_per_set": 3,
        "steps": 12,
        "tracker": "none",
        "out": str(folder / "run"),
    }
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump({**settings, **changes}))
    return path


def dry_run(*arguments: Any) -> int:
    return main(["train", "--dry-run", *(str(argument) for argument in arguments)])


def test_it_prints_settings_and_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against a plan that is not the run's, that YAML cannot read, or that starts the run."""
    options = ["--devices", 2, "--tflops", 0.001, "micro_batch_sets=1"]
    assert dry_run("--config", write_config(tmp_path), *options) == 0
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed)["micro_batch_sets"] == 1
    assert re.search(r"^# parameters +[\d,]+, all trained$", printed, re.MULTILINE)
    assert "2 sets of 3 images: 2 processes x 1 micro-batch x 1 set" in printed
    assert "12, 24 sets seen: 3 epochs" in printed
    parts = [float(size) for size in re.findall(r"^#   \S.*? {2,}([\d.]+)", printed, re.MULTILINE)]
    assert len(parts) == 8 and parts[-1] == pytest.approx(sum(parts[:-1]), abs=0.04)
    step, hours = (float(re.findall(rf"([\d.]+) {unit}", printed)[0]) for unit in ("TFLOP a step", "hours"))
    assert hours == pytest.approx(12 * step / 0.002 / 3600, rel=1e-2)
    assert not (tmp_path / "run").exists()


def test_what_cannot_fit_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against a run that is let go and dies, and against advice that does not help."""
    config = write_config(tmp_path, device="cuda", batch_sets=8)
    assert dry_run("--config", config, "--memory", 1.03) == 2
    (line,) = capsys.readouterr().err.splitlines()
    found = re.fullmatch(
        r"m2m: the run takes ([\d.]+) GB on a device that has 1.03 GB: (.+) would take ([\d.]+) GB", line
    )
    assert found and float(found[1]) > 1.03 >= float(found[3])
    assert dry_run("--config", config, "--memory", 1.03, *found[2].split()) == 0


def test_data_may_come_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against a plan that is to be had only when the data are made, and against silent assumptions."""
    later = ["data=later", f"base={WEIGHTS / 'tiny-dino'}", "variant=dino", "batch_sets=1", "images_per_set=2"]
    assert dry_run("tracker=none", *later) == 0
    note = capsys.readouterr().out.splitlines()[-1]
    assert note == "# data 'later' is not there yet; assumed of each set: latents [2, 8, 8, 8], features [2, 49, 1280]"


def test_a_task_is_planned_with_its_condition(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against embedders that are not counted, and a task whose data are looked for in vain."""
    later: dict[str, Any] = {"data": "later", "base": "tiny-self", "batch_sets": 1, "images_per_set": 2}
    models = [outline_of(TrainConfig(**later, task=task))[0].model for task in ("", "visual_procedure", "novel_view")]
    counts = [sum(parameter.numel() for parameter in model.parameters()) for model in models]
    layers = 256 * (3 * 96 + 4 * 160)  # projections of seven layers: two down, one in the middle, four up
    position, camera = (256 * (numbers + 1) + 256 * 257 for numbers in (1 + 2 * 8, 12))
    assert [count - counts[0] for count in counts[1:]] == [position + layers, camera + layers]
    settings = [f"{name}={value}" for name, value in later.items()]
    assert dry_run(*settings, "task=novel_view", "tracker=none") == 0
    assert f"parameters      {counts[2]:,}, all trained" in capsys.readouterr().out


def test_mistakes_are_those_of_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against a dry run that lets pass what the run refuses."""
    config = write_config(tmp_path)
    for change, words in {
        "batch_sets=9": "has 8 sets",
        "micro_batch_sets=4": "cannot share it evenly",
        "trainable=some": "trainable 'some'",
        "objective.noise_draws=0": "objective.noise_draws is 0",
        "variant=dino": "needs vision_encoder=NAME",
        "autoencoder=none": "'none/config.json' does not exist",
        f"base={WEIGHTS / 'tiny-self'}": "leave out unet and scheduler",
        "task=novel_veiw": "task 'novel_veiw' is unknown",
        "task=novel_view": "needs sets with cameras",
        "from_scratch=true": "give base=DIR",
    }.items():
        assert dry_run("--config", config, change) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line
